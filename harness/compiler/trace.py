"""Trace a step: one member's tensors in, a graph of tensor operations and a list of random draws out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx

from .ir import PROMPTS
from .step import Step, Tensors
from .streams import Draws

Shapes = tuple[tuple[str, tuple[int, ...], torch.dtype], ...]  # names, shapes and types of one member's tensors


class RecordedDraws(Draws):
    """Draws that are recorded as (kind, shape), and give the tensors in `values` in turn, or uninitialised ones."""

    def __init__(self, values: Sequence[Tensor] | None = None) -> None:
        self.drawn: list[tuple[str, tuple[int, ...]]] = []
        self.values = values

    def normal(self, *shape: int) -> Tensor:
        """A tensor in place of standard normals."""
        return self._draw("normals", shape)

    def uniform(self, *shape: int) -> Tensor:
        """A tensor in place of uniforms on (0, 1)."""
        return self._draw("uniforms", shape)

    def _draw(self, kind: str, shape: tuple[int, ...]) -> Tensor:
        self.drawn.append((kind, shape))
        return torch.empty(1, *shape) if self.values is None else self.values[len(self.drawn) - 1]


class CastDraws(Draws):
    """The draws of another source, cast to a dtype."""

    def __init__(self, draws: Draws, dtype: torch.dtype) -> None:
        self.draws, self.dtype = draws, dtype

    def normal(self, *shape: int) -> Tensor:
        """Standard normals."""
        return self.draws.normal(*shape).to(self.dtype)

    def uniform(self, *shape: int) -> Tensor:
        """Uniforms on (0, 1)."""
        return self.draws.uniform(*shape).to(self.dtype)


def trace(
    step: Step, job: Shapes, state: Shapes
) -> tuple[GraphModule, list[tuple[str, tuple[int, ...]]], list[str], list[str], Tensors, Tensors]:
    """One member's step as a graph of tensor operations.

    Returns the graph; what it draws, as (kind, shape); the names of the state's entries that it updates, and of its
    records; and its inputs, fake tensors of the job (shape `1 ...`) and of the state (`1 1 ...`). The graph takes the
    job, the state, the number of the step and the draws; it gives the updated state and the records.
    """
    with FakeTensorMode():
        job_inputs = {name: torch.empty(1, *shape, dtype=dtype) for name, shape, dtype in job}
        state_inputs = {name: torch.empty(1, 1, *shape, dtype=dtype) for name, shape, dtype in state}
        number = torch.empty((), dtype=torch.int64)

        def run(job: Tensors, state: Tensors, t: Tensor, random: Draws) -> tuple[Tensors, Tensors]:
            return step.update(job, state, step.draw(job, CastDraws(random, step.dtype), PROMPTS), t)

        recorded = RecordedDraws()
        changes, records = run(job_inputs, state_inputs, number, recorded)
        draws = [torch.empty(1, *shape) for _, shape in recorded.drawn]

        def flat(*tensors: Tensor) -> list[Tensor]:
            rest = list(tensors)
            job, state = ({name: rest.pop(0) for name in inputs} for inputs in (job_inputs, state_inputs))
            changes, records = run(job, state, rest.pop(0), RecordedDraws(rest))
            return [*changes.values(), *records.values()]

        functional = torch.func.functionalize(flat, remove="mutations")
        traced = make_fx(functional)(*job_inputs.values(), *state_inputs.values(), number, *draws)
    traced.graph.eliminate_dead_code()
    return traced, recorded.drawn, list(changes), list(records), job_inputs, state_inputs
