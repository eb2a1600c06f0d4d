"""What a solver's steps take: floating-point operations for one prompt, as they are written."""

from __future__ import annotations

import functools
import math
from collections.abc import Hashable, Iterator
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from lfombench.solvers import Solver, TokenModel
from lfombench.tasks import Prompts

from ..compiler.step import Tensors
from ..compiler.streams import Streams
from .evaluate import iterates
from .pack import Pack, drawing, floats, with_floats

FEW = 2  # prompts; what they take is subtracted from what twice as many take, which leaves what a prompt takes
COPIES = {"aten::clone", "aten::_to_copy", "aten::copy_", "aten::fill_", "aten::zeros_like", "aten::ones_like"}


class _Counted(TorchDispatchMode):
    """Counts operations on numbers: each number of an elementwise result, each summand, 2 m n k for a product."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # PyTorch's own has no types
        self.operations = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """No: to keep torch.compile out of what follows, PyTorch would import it, which takes a second."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """The operation as it is, counted."""
        result = func(*args, **(kwargs or {}))
        if func._overloadpacket in flop_registry:
            self.operations += flop_registry[func._overloadpacket](*args, **(kwargs or {}), out_val=result)
        elif func._schema.name not in COPIES and not func.is_view:
            self.operations += _numbers(func, args, result)
        return result


def _numbers(func: Any, args: Any, result: Any) -> int:
    if not isinstance(result, Tensor):
        return 0
    if torch.Tag.reduction in func.tags:
        return math.prod(args[0].shape)
    return result.numel() if torch.Tag.pointwise in func.tags else 0


def flops(pack: Pack, params: Tensors) -> list[int] | None:
    """Operations for one prompt after 1 .. depth steps, the same for all jobs of a pack; None where PyTorch cannot
    watch them, as within a program of torch.compile.
    """
    place = _remembered(pack.program)
    if not place:
        one = replace(pack, jobs=(pack.first,))
        own = {name: p[:1].double().cpu() for name, p in params.items()}
        try:
            few, more = (_after_steps(one, own, count) for count in (FEW, 2 * FEW))
        except RuntimeError:
            return None
        place += [(after - before) // FEW for before, after in zip(few, more, strict=True)]
    return place


@functools.lru_cache(maxsize=256)
def _remembered(program: Hashable) -> list[int]:
    """The place of a program's counts in this process: empty, or with them."""
    return []


@torch.no_grad()
def _after_steps(pack: Pack, params: Tensors, prompts: int) -> list[int]:
    """Operations after 1 .. depth steps on so many prompts."""
    job, cpu = pack.first, torch.device("cpu")
    source = drawing(pack, [job.task], "flops", torch.float64, cpu)  # prompts of its own: it tests nothing
    batch = source.draw(source.job, Streams(source.key, torch.float64), prompts)
    solver = with_floats(job.solver, floats([job.solver], torch.float64, cpu))
    with _Counted() as counted:
        return [counted.operations for _ in _steps(solver, params, batch)][1:]


def _steps(solver: Solver, params: Tensors, batch: Prompts) -> Iterator[Tensor]:
    if solver.on_tokens:
        assert batch.tokens is not None
        return cast(TokenModel, solver).predictions(params, batch.tokens)
    return iterates(solver, params, batch)
