"""Trace a step: one member's tensors in, a graph of tensor operations out, the random draws among them."""

from __future__ import annotations

import contextlib
import gc
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.fx import Graph, Node
from torch.overrides import TorchFunctionMode

from .ir import PROMPTS, NotLowerable
from .known import Shapes
from .step import Step, Tensors
from .streams import UNIFORMS, Draws
from .tracer import NOWHERE, Tracer, line_of_error

APART = {"unbind": 1, "__iter__": 1, "split": 2, "split_with_sizes": 2, "chunk": 2, "tensor_split": 2}  # place of dim
library = torch.library.Library("lfombench", "DEF")
library.define("draw(str kind, int begin, int[] shape) -> Tensor")


def _undrawn(kind: str, begin: int, shape: Sequence[int]) -> Tensor:
    return torch.empty(shape, device=NOWHERE)


library.impl("draw", _undrawn, "CompositeExplicitAutograd")


class TracedDraws(Draws):
    """Draws that stand in the traced graph as operations of their own, `lfombench.draw(kind, begin, shape)`.

    kind: normals or uniforms. begin: the number of the first variate of a prompt. shape: `1 ...`, prompts last.
    """

    def __init__(self) -> None:
        self.begin = {"normals": 0, "uniforms": UNIFORMS}

    def normal(self, *shape: int) -> Tensor:
        """Standard normals."""
        return self._draw("normals", shape)

    def uniform(self, *shape: int) -> Tensor:
        """Uniforms on (0, 1)."""
        return self._draw("uniforms", shape)

    def _draw(self, kind: str, shape: tuple[int, ...]) -> Tensor:
        if shape[-1:] != (PROMPTS,):
            raise NotLowerable("a draw that is the same for all prompts")
        begin = self.begin[kind]
        self.begin[kind] += math.prod(shape[:-1])
        drawn: Tensor = torch.ops.lfombench.draw(kind, begin, [1, *shape])
        return drawn


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


class WholePrompts(TorchFunctionMode):
    """Refuses to take the prompts' axis apart, which would give a tensor for each of a trace's PROMPTS prompts."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """The operation as it is. Raises NotLowerable where it would take the prompts' axis apart."""
        name = getattr(func, "__name__", "")
        if name in APART and isinstance(args[0], Tensor):
            dim = (kwargs or {}).get("dim", args[APART[name]] if len(args) > APART[name] else 0)
            if args[0].ndim and args[0].shape[dim] == PROMPTS:
                raise NotLowerable(f"prompts taken apart, by {name}")
        return func(*args, **(kwargs or {}))


@dataclass(frozen=True)
class Trace:
    """One member's step as a graph of tensor operations.

    The graph takes the job, the state and the number of the step; it gives the entries of the state that it changes,
    and the records. constants: by target of a node get_attr. job, state: its inputs, tensors without numbers `1 ...`
    and `1 1 ...`.
    """

    graph: Graph
    constants: Tensors
    changed: list[str]
    recorded: list[str]
    job: Tensors
    state: Tensors


def trace(step: Step, job: Shapes, state: Shapes) -> Trace:
    """Trace a step for members that have tensors of these shapes. Raises NotLowerable, and what the step raises."""
    tracer = Tracer()
    own: Tensors = {name: tracer.input("job", (1, *shape), dtype) for name, shape, dtype in job}
    member: Tensors = {name: tracer.input("state", (1, 1, *shape), dtype) for name, shape, dtype in state}
    number = tracer.input("number", (), torch.int64)
    changed: list[str] = []
    recorded: list[str] = []

    def flat(*tensors: Tensor) -> list[Tensor]:
        rest = iter(tensors)
        own_inputs, member_inputs = ({name: next(rest) for name in inputs} for inputs in (own, member))
        batch = step.draw(own_inputs, CastDraws(TracedDraws(), step.dtype), PROMPTS)
        changes, records = step.update(own_inputs, member_inputs, batch, next(rest))
        changed[:], recorded[:] = changes, records
        return [*changes.values(), *records.values()]

    try:
        with WholePrompts(), paused_collection(), tracer:
            results = torch.func.functionalize(flat, remove="mutations")(*own.values(), *member.values(), number)
    except (NotLowerable, RuntimeError) as error:  # PyTorch's, where it needs numbers; the step's came before
        raise NotLowerable(f"{str(error).splitlines()[0]}, in {line_of_error(error)}") from error
    tracer.output(results)
    merge_equal_nodes(tracer.graph, tracer.constants)
    tracer.graph.eliminate_dead_code()
    return Trace(tracer.graph, tracer.constants, changed, recorded, own, member)


def merge_equal_nodes(graph: Graph, constants: Tensors) -> None:
    """Let equal constants be one, and equal operations on equal arguments: none has side effects, and a draw gives what
    it gave.
    """
    known: dict[str, Node] = {}
    for node in graph.nodes:
        if node.op == "get_attr":
            value = constants[node.target]
            text = f"{value.dtype} {value.shape} {value.tolist()}"
        elif node.op == "call_function":
            text = f"{node.target} {node.args} {node.kwargs}"
        else:
            continue
        first = known.setdefault(text, node)
        if first is not node:
            node.replace_all_uses_with(first)


@contextlib.contextmanager
def paused_collection() -> Iterator[None]:
    """Without collections of garbage, which would look at every object again and again while thousands are made."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()
