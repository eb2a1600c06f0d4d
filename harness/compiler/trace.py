"""Trace a step: one member's tensors in, a graph of tensor operations out, the random draws among them."""

from __future__ import annotations

import contextlib
import gc
import linecache
import math
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx import Graph, GraphModule, Node
from torch.fx.experimental.proxy_tensor import make_fx
from torch.overrides import TorchFunctionMode

from .ir import PROMPTS, NotLowerable
from .known import Shapes
from .step import Step, Tensors
from .streams import UNIFORMS, Draws

LINE = "model_line"  # of a node: file and line
APART = {"unbind": 1, "__iter__": 1, "split": 2, "split_with_sizes": 2, "chunk": 2, "tensor_split": 2}  # place of dim
OTHERS = (str(Path(torch.__file__).parent), str(Path(__file__).parent), contextlib.__file__)
_one_at_a_time = threading.Lock()  # a trace changes how all graphs are made
library = torch.library.Library("lfombench", "DEF")
library.define("draw(str kind, int begin, int[] shape) -> Tensor")


def _undrawn(kind: str, begin: int, shape: Sequence[int]) -> Tensor:
    return torch.empty(shape)


torch.library.register_fake("lfombench::draw", _undrawn, lib=library)


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
                path, number = _line()
                raise NotLowerable(f"prompts taken apart, by {name}, in {_text(path, number)}")
        return func(*args, **(kwargs or {}))


@dataclass(frozen=True)
class Trace:
    """One member's step as a graph of tensor operations.

    The graph takes the job, the state and the number of the step; it gives the entries of the state that it changes,
    and the records. job, state: its inputs, fake tensors `1 ...` and `1 1 ...`.
    """

    graph: GraphModule
    changed: list[str]
    recorded: list[str]
    job: Tensors
    state: Tensors


def trace(step: Step, job: Shapes, state: Shapes) -> Trace:
    """Trace a step for members that have tensors of these shapes."""
    changed: list[str] = []
    recorded: list[str] = []

    def flat(*tensors: Tensor) -> list[Tensor]:
        rest = iter(tensors)
        own, member = ({name: next(rest) for name in inputs} for inputs in (job_inputs, state_inputs))
        batch = step.draw(own, CastDraws(TracedDraws(), step.dtype), PROMPTS)
        changes, records = step.update(own, member, batch, next(rest))
        changed[:], recorded[:] = changes, records
        return [*changes.values(), *records.values()]

    with _one_at_a_time, FakeTensorMode(), WholePrompts(), paused_collection(), noted_lines():
        job_inputs = {name: torch.empty(1, *shape, dtype=dtype) for name, shape, dtype in job}
        state_inputs = {name: torch.empty(1, 1, *shape, dtype=dtype) for name, shape, dtype in state}
        number = torch.empty((), dtype=torch.int64)
        functional = torch.func.functionalize(flat, remove="mutations")
        graph = make_fx(functional)(*job_inputs.values(), *state_inputs.values(), number)
    merge_equal_nodes(graph)
    graph.graph.eliminate_dead_code()
    return Trace(graph, changed, recorded, job_inputs, state_inputs)


@contextlib.contextmanager
def noted_lines() -> Iterator[None]:
    """Note with every node that is made the line of the model that it is made for."""
    create = Graph.create_node

    def noted(graph: Graph, *args: Any, **options: Any) -> Node:
        node = create(graph, *args, **options)
        node.meta[LINE] = _line()
        return node

    # make_fx has no hook for nodes, and its own record of lines formats the whole stack for each.
    Graph.create_node = noted  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        Graph.create_node = create  # type: ignore[method-assign]


def model_line(node: Node) -> str:
    """The line of the model that a node was made for: its file, its number and its text."""
    return _text(*node.meta.get(LINE, ("", 0)))


def _text(path: str, number: int) -> str:
    return f"{Path(path).name}:{number}: {linecache.getline(path, number).strip()}" if path else ""


def _line() -> tuple[str, int]:
    """File and line of the innermost frame that is neither torch's nor the compiler's; of a gradient, where it is
    asked for.
    """
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        name = frame.f_code.co_filename
        if not name.startswith(OTHERS) and not name.startswith("<"):
            return name, frame.f_lineno
        frame = frame.f_back
    return "", 0


def merge_equal_nodes(graph: GraphModule) -> None:
    """Let equal constants be one, and equal operations on equal arguments: none has side effects, and a draw gives what
    it gave.
    """
    known: dict[str, Node] = {}
    for node in graph.graph.nodes:
        if node.op == "get_attr":
            value = getattr(graph, node.target)
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
