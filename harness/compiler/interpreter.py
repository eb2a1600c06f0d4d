"""Interpret a traced step: the rule of each operation builds expressions, stored, or computed where they are used."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.fx import Node
from torch.fx.node import map_arg

from .builder import Builder
from .ir import PROMPTS, Array, NotLowerable, type_of
from .ops import CONSTANT, POINTWISE, RULES
from .ops_views import VIEWS
from .trace import Trace
from .tracer import VALUE, line_of

DEEPEST = 50  # lazy results of lazy results, each of which is a call inside a call
DRAW = "lfombench"
SUMS = ("sum", "mm", "bmm")  # computed where they are used, by a pointwise operation alone


class Operations:
    """Interprets a traced step with Arrays in place of tensors, which builds its expressions."""

    def __init__(self, trace: Trace, inputs: Sequence[Array], builder: Builder) -> None:
        self.trace, self.inputs, self.builder = trace, iter(inputs), builder
        self.found: dict[Node, Any] = {}
        self.depths: dict[Node, int] = {}  # of lazy results: how many others they are computed from, one by another

    def run(self) -> list[Array]:
        """What the step gives. Raises NotLowerable."""
        *nodes, output = self.trace.graph.nodes
        for n in nodes:
            self.found[n] = self._run_node(n)
        return [self.found[n] for n in output.args[0]]

    def _run_node(self, n: Node) -> Any:
        """What a node of the step gives: an Array, a list of them, or a number. Raises NotLowerable, with its line."""
        if n.op == "placeholder":
            return next(self.inputs)
        if n.op == "get_attr":
            tensor = self.trace.constants[str(n.target)]
            return self.builder.literal(tensor.flatten().tolist(), tuple(tensor.shape), type_of(tensor.dtype))
        self.builder.line = line_of(n)
        try:
            return self._lowered(n)
        except NotLowerable as error:
            raise NotLowerable(f"{error}, in {self.builder.line}" if self.builder.line else str(error)) from error
        except (TypeError, ValueError, LookupError, AttributeError, AssertionError) as error:  # a fault of the rule
            error.add_note(f"in the rule for {n.target}, {self.builder.line or 'of no line'}")
            raise

    def _lowered(self, n: Node) -> Any:
        """What an operation computes."""
        args: Any = map_arg(n.args, self.found.__getitem__)
        kwargs: Any = map_arg(n.kwargs, self.found.__getitem__)
        if PROMPTS in args:
            raise NotLowerable(f"the number of prompts as an operand of {n.target}")
        if getattr(n.target, "__name__", "") == "getitem":
            return args[0][args[1]]
        name = operation_of(n)
        if name == DRAW:
            return self.builder.drawn(*args)
        if name not in RULES:
            raise NotLowerable(f"the operation {n.target}")
        _keeps_prompts_apart(n)
        result = RULES[name](self.builder, n.meta[VALUE], *args, **kwargs)
        depth = 1 + max((self.depths.get(arg, 0) for arg in n.all_input_nodes), default=0)
        lazy = _lazy(n) and depth <= DEEPEST
        self.depths[n] = depth if lazy else 0
        if isinstance(result, list):
            return [self.builder.materialise(array, lazy=lazy) for array in result]
        return self.builder.materialise(result, lazy=lazy)


def _keeps_prompts_apart(n: Node) -> None:
    """Raise NotLowerable where a node takes prompts one from another, or puts some beside others: a rule says what one
    prompt becomes, and what it is told of the others would be numbers of its own.
    """
    results = n.meta[VALUE] if isinstance(n.meta[VALUE], list | tuple) else [n.meta[VALUE]]
    sizes = {size for result in results for size in result.shape}
    if any(size > PROMPTS for size in sizes):
        raise NotLowerable(f"prompts beside prompts, by {n.target}")
    given = any(PROMPTS in x.meta[VALUE].shape for x in n.all_input_nodes if isinstance(x.meta.get(VALUE), Tensor))
    name = operation_of(n)
    if given and PROMPTS not in sizes and name not in (*SUMS, *CONSTANT, "mean", "linalg_vector_norm"):
        raise NotLowerable(f"one prompt out of all, by {n.target}")


def operation_of(n: Node) -> str:
    """The name of a node's operation, without its namespace and overload."""
    return str(n.target).removeprefix("aten.").partition(".")[0]


def _lazy(n: Node) -> bool:
    """Whether a node's elements are computed where they are used, as each is used once, or costs nothing."""
    name = operation_of(n)
    if name in CONSTANT or name in VIEWS:
        return True
    if len(n.users) != 1 or _repeated(n):
        return False
    if name in POINTWISE:
        return True
    reader = n
    while reader is n or operation_of(reader) in VIEWS:
        [reader] = reader.users
        if reader.op == "output" or (len(reader.users) != 1 and operation_of(reader) in VIEWS):
            return False
    return name in SUMS and not _sums_prompts(n) and operation_of(reader) in POINTWISE and not _lazy(reader)


def _sums_prompts(n: Node) -> bool:
    """Whether a sum or product of matrices is over the prompts' axis."""
    shapes = [x.meta[VALUE].shape for x in n.args if isinstance(x, Node)]
    return any(PROMPTS in shape for shape in shapes) and PROMPTS not in n.meta[VALUE].shape


def _repeated(n: Node) -> bool:
    """Whether elements of a node are used more than once: by several nodes, or by one with more elements."""
    if len(n.users) != 1:
        return True
    [user] = n.users
    if user.op == "output":
        return False
    sizes = [x.numel() if isinstance(x := m.meta.get(VALUE), Tensor) else math.inf for m in (n, user)]
    return sizes[1] > sizes[0] or (operation_of(user) in VIEWS and _repeated(user))
