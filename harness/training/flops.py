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
# fmt: off
MOVES = {  # operations that compute no number
    "_reshape_alias", "_to_copy", "_unsafe_view", "arange", "cat", "clone", "constant_pad_nd", "copy_", "empty",
    "empty_like", "eye", "fill_", "flip", "full", "full_like", "gather", "index", "index_put", "index_put_",
    "index_select", "lift_fresh_copy", "linspace", "new_empty", "new_full", "new_ones", "new_zeros", "ones",
    "ones_like", "repeat", "roll", "scalar_tensor", "scatter", "stack", "tril", "triu", "zero_", "zeros",
    "zeros_like",
}
# fmt: on
EACH = {"cumsum": 1, "dot": 2, "mv": 2, "_softmax": 5}  # operations on each number of the first argument


class _Counted(TorchDispatchMode):
    """Counts operations on numbers: each number of an elementwise result, each summand, 2 m n k for a product.

    RuntimeError at an operation that it does not know, such as a decomposition: a count without it would flatter.
    """

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
        elif not func.is_view:
            self.operations += _numbers(func, args, result)
        return result


def _numbers(func: Any, args: Any, result: Any) -> int:
    name = func._schema.name.removeprefix("aten::")
    if name in MOVES or not isinstance(result, Tensor | tuple | list):  # a test whether numbers are equal, say
        return 0
    if torch.Tag.reduction in func.tags or name in EACH:
        return EACH.get(name, 1) * int(math.prod(args[0].shape))
    if torch.Tag.pointwise in func.tags:
        count: int = result.numel()  # type: ignore[union-attr]  # of an elementwise operation it is one tensor
        return count
    raise RuntimeError(f"not known how many operations {func._schema.name} takes")


def flops(pack: Pack, params: Tensors) -> list[int] | None:
    """Operations for one prompt after 1 .. depth steps, the same for all jobs of a pack; None where they
    are not known: of a decomposition, or where PyTorch cannot watch them, as within a program of torch.compile.
    """
    place = _remembered(pack.program)
    if not place:
        one = replace(pack, jobs=(pack.first,))
        own = {name: p[:1].double().cpu() for name, p in params.items()}
        try:
            few, more = (_after_steps(one, own, count) for count in (FEW, 2 * FEW))
            place.append([(after - before) // FEW for before, after in zip(few, more, strict=True)])
        except RuntimeError:
            place.append(None)
    return place[0]


@functools.lru_cache(maxsize=256)
def _remembered(program: Hashable) -> list[list[int] | None]:
    """The place of a program's counts in this process: empty, or with them, or with None."""
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
