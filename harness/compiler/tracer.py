"""Record what a function does to tensors: a graph of PyTorch's operations, in the order in which they are called.

The tensors have shapes and no numbers. What shape an operation gives is asked of PyTorch once in a process, as most of
a step's operations are like others before; so a trace takes a tenth of the time of PyTorch's own (make_fx), and it
changes nothing outside of its thread.
"""

from __future__ import annotations

import contextlib
import functools
import linecache
import operator
import sys
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from traceback import walk_tb
from types import FrameType
from typing import Any

import torch
from torch import Tensor
from torch.fx import Graph, Node
from torch.utils._python_dispatch import TorchDispatchMode

from .ir import NotLowerable

LINE, VALUE = "line", "val"  # of a node: the file and line of the model; a tensor like what it gives, or a list of such
NOWHERE, SEEMINGLY = torch.device("meta"), torch.device("cpu")
OTHERS = (str(Path(torch.__file__).parent), str(Path(__file__).parent), contextlib.__file__)
MOST = 20_000  # operations whose results are remembered
aten = torch.ops.aten
LIFTS = (aten.lift.default, aten.lift_fresh.default, aten.lift_fresh_copy.default)  # of numbers that become a tensor
NUMBERS = (aten._local_scalar_dense.default, aten.nonzero.default, aten.masked_select.default)  # ask for them
_alike: dict[Hashable, Tensor] = {}  # by shape, strides and type
_given: dict[Hashable, Any] = {}  # by operation and arguments


class Traced(Tensor):
    """A tensor without numbers. node: what gives it. like: one with its shape, which PyTorch computes shapes with."""

    node: Node
    like: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]  # as PyTorch's own do

    @staticmethod
    def __new__(cls, node: Node, like: Tensor) -> Traced:
        """A tensor that seems to be on the CPU, where a step may put tensors of its own beside it."""
        made: Traced = torch.Tensor._make_wrapper_subclass(
            cls, like.size(), strides=like.stride(), dtype=like.dtype, device=SEEMINGLY
        )
        made.node, made.like = node, like
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        """Refuse what is not recorded. Raises NotLowerable."""
        raise NotLowerable(f"{func}, on a tensor that was kept from a trace")

    def __repr__(self) -> str:  # type: ignore[override]  # PyTorch's shows numbers
        return f"Traced({self.node}, {tuple(self.shape)})"


class Tracer(TorchDispatchMode):
    """Records the operations that this thread calls while it is on."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # PyTorch's own has no types
        self.graph = Graph()
        self.constants: dict[str, Tensor] = {}  # by target of the node that gives them

    def input(self, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> Traced:
        """A tensor that the function is to be given."""
        return self._result(self.graph.placeholder(name), torch.empty(shape, dtype=dtype, device=NOWHERE))

    def output(self, results: Sequence[Tensor]) -> None:
        """End the graph with what the function returns."""
        self.graph.output([_node(x) for x in results])

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Note an operation. Returns what it gives, without numbers.

        Raises NotLowerable where numbers are asked for, or come from elsewhere.
        """
        kwargs = kwargs or {}
        if func in LIFTS and not isinstance(args[0], Traced):
            args = (self._constant(args[0]), *args[1:])
        given = {name: _each(x, _node) for name, x in kwargs.items()}
        node = self.graph.call_function(func, tuple(_each(args, _node)), given)
        results = _results(func, args, kwargs)
        node.meta[LINE] = _line()
        if isinstance(results, Tensor):
            return self._result(node, results)
        node.meta[VALUE] = results
        return [self._item(node, i, like) for i, like in enumerate(results)]

    def _item(self, node: Node, i: int, like: Tensor) -> Traced:
        """One of several tensors that an operation gives."""
        item = self.graph.call_function(operator.getitem, (node, i))
        item.meta[LINE] = node.meta[LINE]
        return self._result(item, like)

    def _constant(self, tensor: Tensor) -> Traced:
        """A tensor that the function has made of numbers."""
        name = f"constant_{len(self.constants)}"
        self.constants[name] = tensor
        return self._result(self.graph.create_node("get_attr", name), tensor.to(NOWHERE))

    def _result(self, node: Node, like: Tensor) -> Traced:
        node.meta[VALUE] = _one_of(like)
        return Traced(node, node.meta[VALUE])


def _results(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """What an operation gives, without numbers: a tensor or a list of them."""
    key = func, _key(args), _key([*kwargs.items()]), torch.get_default_dtype()
    found = _given.get(key)
    if found is None:
        if func in NUMBERS:
            raise NotLowerable("a branch on a value, or a size or number made of one")
        options = {name: _each(x, _like) for name, x in kwargs.items()}
        if _has_device(func):
            options["device"] = NOWHERE
        found = func(*_each(args, _like), **options)
        if not isinstance(found, Tensor | list | tuple):
            raise NotLowerable(f"the {type(found).__name__} that {func} gives")
        if len(_given) >= MOST:
            _given.clear()
        found = _given[key] = _one_of(found) if isinstance(found, Tensor) else [_one_of(x) for x in found]
    return found


def _one_of(like: Tensor) -> Tensor:
    """The tensor without numbers that stands for all of this shape, as long as the process lasts."""
    return _alike.setdefault((like.shape, like.stride(), like.dtype), like)


def _key(x: Any) -> Hashable:
    """Equal for arguments that make no difference to the shape of a result."""
    if isinstance(x, tuple | list):
        return tuple(_key(one) for one in x)
    return id(x.like) if isinstance(x, Traced) else (type(x), x)


def _each(x: Any, change: Callable[[Any], Any]) -> Any:
    """An argument, or each of those in a list, changed."""
    return [_each(one, change) for one in x] if isinstance(x, tuple | list) else change(x)


def _like(x: Any) -> Any:
    return x.like if isinstance(x, Traced) else x


def _node(x: Any) -> Any:
    """The node of a tensor. NotLowerable where nothing that was recorded gives it."""
    if isinstance(x, Traced):
        return x.node
    if isinstance(x, Tensor):
        raise NotLowerable("a tensor that the step is not given")
    return x


@functools.cache
def _has_device(func: Any) -> bool:
    """Whether an operation is told where its result is to be."""
    return any(argument.name == "device" for argument in func._schema.arguments)


def _line() -> tuple[str, int]:
    """File and line of the innermost frame of the model; of a gradient, where it is asked for."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and not _of_model(frame):
        frame = frame.f_back
    return (frame.f_code.co_filename, frame.f_lineno) if frame else ("", 0)


def _of_model(frame: FrameType) -> bool:
    """Whether a frame is neither torch's nor the compiler's."""
    return not frame.f_code.co_filename.startswith((*OTHERS, "<"))


def line_of(node: Node) -> str:
    """The line of the model that a node was made for: its file, its number and its text."""
    return _text(*node.meta.get(LINE, ("", 0)))


def line_of_error(error: BaseException) -> str:
    """The line of the model at which an error was raised."""
    lines = [(f.f_code.co_filename, number) for f, number in walk_tb(error.__traceback__) if _of_model(f)]
    return _text(*lines[-1]) if lines else ""


def _text(path: str, number: int) -> str:
    return f"{Path(path).name}:{number}: {linecache.getline(path, number).strip()}" if path else ""
