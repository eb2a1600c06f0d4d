"""Statements of looped code: what is computed into which array, before it is text."""

from __future__ import annotations

from dataclasses import dataclass, replace

from .affine import Affine, Position, Variable
from .buffers import Buffer
from .builder import Builder
from .ir import Expr, Memory, Section, needed


@dataclass(frozen=True, eq=False)
class Nest:
    """An array's elements, or a region's: `memory[position] = value` for all values of the loops `axes`."""

    section: Section
    memory: Memory
    axes: tuple[Variable, ...]
    position: Position
    value: Expr
    line: str = ""  # of the model

    @property
    def reads(self) -> set[Memory]:
        """What it loads from."""
        return {expr.place[0] for expr in needed([self.value]) if expr.op == "load"}

    @property
    def reduces(self) -> bool:
        """Whether it is a sum over prompts."""
        return self.value.op == "total"


@dataclass(frozen=True, eq=False)
class Totals:
    """Sums over the lanes of accumulators."""

    section: Section
    memory: Memory
    accumulators: Buffer
    line: str = ""
    reduces = False

    @property
    def reads(self) -> set[Memory]:
        """What it loads from: the accumulators."""
        return {self.accumulators}


@dataclass(frozen=True, eq=False)
class Draw:
    """Variates of `count` counters from `first` on."""

    section: Section
    memory: Memory
    kind: str  # normals or uniforms
    first: int
    count: int
    line: str = ""
    reads: frozenset[Memory] = frozenset()
    reduces = False


@dataclass(frozen=True, eq=False)
class SymmetricProduct:
    """The product of a symmetric matrix and a vector in R^n, of each prompt."""

    section: Section
    memory: Memory
    matrix: Memory
    vector: Memory
    start: int  # of the vector, in its memory
    n: int
    line: str = ""
    reduces = False

    @property
    def reads(self) -> set[Memory]:
        """The matrix and the vector."""
        return {self.matrix, self.vector}


Statement = Nest | Totals | Draw | SymmetricProduct


def merged(nest: Nest, builder: Builder) -> Nest:
    """The same nest with one loop in place of two, for axes that only count through consecutive elements together."""
    axes = list(nest.axes)
    for i in reversed(range(len(axes) - 1)):
        outer, inner = axes[i : i + 2]
        places = [expr.place[1] for expr in needed([nest.value]) if expr.op == "load"] + [nest.position]
        if all(_consecutive(place, outer, inner) for place in places):
            both = Variable(inner.name, outer.size * inner.size)
            values: dict[Variable, Position] = {outer: 0, inner: Affine(((both, 1),))}
            axes[i : i + 2] = [both]
            value, position = builder.replaced(nest.value, values), builder.position(nest.position, values)
            nest = replace(nest, axes=tuple(axes), position=position, value=value)
    return nest


def _consecutive(place: Position, outer: Variable, inner: Variable) -> bool:
    """Whether a step of the outer variable moves a place as far as all steps of the inner one."""
    terms = place.terms if isinstance(place, Affine) else ()
    indirect = {v for term, _ in terms if term.of for v in term.loops}
    outer_step, inner_step = (sum(factor for v, factor in terms if v == x) for x in (outer, inner))
    return outer_step == inner_step * inner.size and not indirect & {outer, inner}
