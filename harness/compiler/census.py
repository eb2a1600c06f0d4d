"""Count what a step consists of by running it once for one member and a few prompts: a glance before a trace."""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from . import known
from .ir import NotLowerable
from .known import Shapes, shapes
from .step import Step, Tensors
from .streams import Draws

FEW = 16  # prompts


@dataclass(frozen=True)
class Census:
    """What a step consists of as it is written."""

    operations: int  # on tensors
    results: dict[int, int]  # how many of these compute so many numbers for each prompt, views aside
    variates: int  # that are drawn for each prompt

    @property
    def numbers(self) -> int:
        """How many numbers are computed for each prompt."""
        return sum(size * times for size, times in self.results.items())


class _Drawn(Draws):
    """Variates that are counted, and not the streams', which take many operations."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype, self.generator = dtype, torch.Generator().manual_seed(0)
        self.variates = 0

    def normal(self, *shape: int) -> Tensor:
        """Standard normals of one stream, `1 ...`."""
        return self._counted(torch.randn, shape)

    def uniform(self, *shape: int) -> Tensor:
        """Uniforms on (0, 1) of one stream, `1 ...`."""
        return self._counted(torch.rand, shape)

    def _counted(self, draw: Callable[..., Tensor], shape: tuple[int, ...]) -> Tensor:
        self.variates += math.prod(shape[:-1])
        return draw(1, *shape, dtype=self.dtype, generator=self.generator)


class _Counted(TorchDispatchMode):
    """Counts operations, and notes how many numbers they compute."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # PyTorch's own has no types
        self.operations = 0
        self.results: Counter[int] = Counter()  # by numbers for each prompt

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """No: to keep torch.compile out of what follows, PyTorch would import it, which takes a second."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """The operation as it is, counted."""
        result = func(*args, **(kwargs or {}))
        self.operations += 1
        if not func.is_view:
            results = result if isinstance(result, list | tuple) else [result]
            self.results.update(x.numel() // FEW for x in results if isinstance(x, Tensor))
        return result


def census(step: Step, job: Tensors, state: Tensors) -> Census:
    """Count a step of a pack's first member, unless this process or the cache knows what it consists of.

    Raises NotLowerable where the step cannot do with a few prompts.
    """
    made_of = step, shapes(job, 1), shapes(state, 2)
    place = remembered(*made_of)
    if not place:
        found = known.read("census", *made_of)
        place.append(Census(**found | {"results": dict(found["results"])}) if found else _counted(step, job, state))
        if not found:
            known.keep("census", *made_of, vars(place[0]) | {"results": [*place[0].results.items()]})
    return place[0]


@functools.lru_cache(maxsize=256)
def remembered(step: Step, job: Shapes, state: Shapes) -> list[Census]:
    """The place of a step's census in this process: empty, or with it. A step is tested again and again."""
    return []


def _counted(step: Step, job: Tensors, state: Tensors) -> Census:
    own = {name: x[:1].clone().cpu() for name, x in job.items()}
    member = {name: x[:1, :1].clone().cpu() for name, x in state.items()}
    draws, number = _Drawn(step.dtype), torch.tensor(0)
    try:
        with _Counted() as counted:
            step.update(own, member, step.draw(own, draws, FEW), number)
    except RuntimeError as error:  # such as an operation that no mode can see; errors of the step were raised before
        raise NotLowerable(f"a run of {FEW} prompts: {error}") from error
    return Census(counted.operations, dict(counted.results), draws.variates)
