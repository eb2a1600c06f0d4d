"""Arrays seen otherwise: the same elements at other indices, or as another type.

A rule takes the writer, the traced result (for its shape and type) and the operation's arguments, and gives an Array.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from .affine import ravel, unravel
from .ir import PLACE, PROMPTS, Array, Atom, Index, NotLowerable, Writer, constant

Rule = Callable[..., "Array | list[Array]"]


def array(x: Any, type: str) -> Array:
    """A tensor, or a number as one."""
    if isinstance(x, Array):
        return x
    kind = type if type in PLACE.values() else ("bool" if isinstance(x, bool) else "double")
    return Array((), kind, lambda index: constant(x, kind))


def broadcast(x: Array, shape: Sequence[int]) -> Array:
    """The array at a larger shape."""
    lead = len(shape) - len(x.shape)
    kept = [i for i, n in enumerate(x.shape) if n != 1]

    def at(index: Index) -> Atom:
        inner: list[Any] = [0] * len(x.shape)
        for i in kept:
            inner[i] = index[lead + i]
        return x.at(tuple(inner))

    return Array(tuple(shape), x.type, at)


def kind(value: Tensor) -> str:
    """Its type in C++."""
    if value.dtype not in PLACE:
        raise NotLowerable(f"numbers of type {value.dtype}")
    return PLACE[value.dtype]


def filled(value: Tensor, number: float) -> Array:
    """The same number everywhere."""
    type = kind(value)
    return Array(tuple(value.shape), type, lambda index: constant(number, type))


def cast(writer: Writer, value: Tensor, x: Array, *_: Any, **options: Any) -> Array:
    """The same numbers, perhaps of another type."""
    type = kind(value)
    return Array(tuple(value.shape), type, lambda index: writer.cast(x.at(index), type))


def view(writer: Writer, value: Tensor, x: Array, *_: Any, **options: Any) -> Array:
    """Another shape: elements keep their order; the prompts' axis stays whole."""
    old, new = _around(x.shape), _around(tuple(value.shape))
    if [math.prod(part) for part in old] != [math.prod(part) for part in new] or len(old) != len(new):
        raise NotLowerable(f"a view of {x.shape} as {tuple(value.shape)}, which cuts the prompts' axis")

    def at(index: Index) -> Atom:
        parts = [index] if len(new) == 1 else [index[: len(new[0])], index[len(new[0]) + 1 :]]
        found: list[Any] = []
        for i, (part, before, after) in enumerate(zip(parts, new, old, strict=True)):
            found += ([0] if i else []) + list(unravel(ravel(part, before), after))
        return x.at(tuple(found))

    return Array(tuple(value.shape), x.type, at)


def _around(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    if PROMPTS not in shape:
        return [shape]
    i = shape.index(PROMPTS)
    return [shape[:i], shape[i + 1 :]]


def expand(writer: Writer, value: Tensor, x: Array, *_: Any, **options: Any) -> Array:
    """A larger shape."""
    return broadcast(x, value.shape)


def permute(writer: Writer, value: Tensor, x: Array, axes: Sequence[int]) -> Array:
    """Axes in another order."""
    axes = [a % len(x.shape) for a in axes]

    def at(index: Index) -> Atom:
        inner = [0] * len(axes)
        for i, a in zip(index, axes, strict=True):
            inner[a] = i
        return x.at(tuple(inner))

    return Array(tuple(value.shape), x.type, at)


def transpose(writer: Writer, value: Tensor, x: Array, a: int = 0, b: int = 1) -> Array:
    """Two axes exchanged."""
    axes = list(range(len(x.shape)))
    axes[a], axes[b] = axes[b], axes[a]
    return permute(writer, value, x, axes)


def unsqueeze(writer: Writer, value: Tensor, x: Array, axis: int) -> Array:
    """A new axis."""
    axis %= len(value.shape)
    return Array(tuple(value.shape), x.type, lambda index: x.at(index[:axis] + index[axis + 1 :]))


def squeeze(writer: Writer, value: Tensor, x: Array, axes: int | Sequence[int] | None = None) -> Array:
    """Without axes of length 1."""
    given = range(len(x.shape)) if axes is None else [axes] if isinstance(axes, int) else axes
    gone = {a % len(x.shape) for a in given if x.shape[a] == 1}

    def at(index: Index) -> Atom:
        rest = iter(index)
        return x.at(tuple(0 if a in gone else next(rest) for a in range(len(x.shape))))

    return Array(tuple(value.shape), x.type, at)


def select(writer: Writer, value: Tensor, x: Array, axis: int, i: int) -> Array:
    """One entry of an axis."""
    axis %= len(x.shape)
    i %= x.shape[axis]
    return Array(tuple(value.shape), x.type, lambda index: x.at((*index[:axis], i, *index[axis:])))


def cut(
    writer: Writer, value: Tensor, x: Array, axis: int = 0, start: Any = None, end: Any = None, step: int = 1
) -> Array:
    """A slice of an axis."""
    if x.shape[axis] == PROMPTS and tuple(value.shape) != x.shape:
        raise NotLowerable("a slice of the prompts' axis")
    axis %= len(x.shape)
    first = range(x.shape[axis])[slice(start, end, step)].start if value.shape[axis] else 0

    def at(index: Index) -> Atom:
        return x.at((*index[:axis], first + step * index[axis], *index[axis + 1 :]))

    return Array(tuple(value.shape), x.type, at)


def split(writer: Writer, value: Sequence[Tensor], x: Array, size: int | Sequence[int], axis: int = 0) -> list[Array]:
    """Consecutive slices of an axis."""
    found, start = [], 0
    for part in value:
        found.append(cut(writer, part, x, axis, start, start + part.shape[axis]))
        start += part.shape[axis]
    return found


def unbind(writer: Writer, value: Sequence[Tensor], x: Array, axis: int = 0) -> list[Array]:
    """Every entry of an axis."""
    return [select(writer, part, x, axis, i) for i, part in enumerate(value)]


VIEWS: dict[str, Rule] = {
    **{name: cast for name in ("clone", "detach", "alias", "lift_fresh_copy", "lift_fresh", "contiguous")},
    **{name: view for name in ("view", "_unsafe_view", "reshape", "_reshape_alias", "flatten", "unflatten")},
    "expand": expand,
    "permute": permute,
    "transpose": transpose,
    "t": transpose,
    "unsqueeze": unsqueeze,
    "squeeze": squeeze,
    "select": select,
    "slice": cut,
    "split": split,
    "split_with_sizes": split,
    "unbind": unbind,
}
