"""Rules for views and casts: the same elements at other indices, or of another type.

A rule takes the builder, the traced result (for its shape and dtype) and the operation's arguments, and returns an
Array, or a list of Arrays for an operation with several results.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from .affine import ravel, unravel
from .builder import Builder
from .ir import PROMPTS, TYPES, Array, Expr, Index, NotLowerable, type_of

Rule = Callable[..., "Array | list[Array]"]


def as_array(builder: Builder, x: Any, type: str) -> Array:
    """The array itself, or an array of rank 0 for a number, in the given C++ type if that is one of TYPES."""
    if isinstance(x, Array):
        return x
    number_type = type if type in TYPES.values() else ("bool" if isinstance(x, bool) else "double")
    return Array((), number_type, lambda index: builder.constant(x, number_type))


def broadcast(x: Array, shape: Sequence[int]) -> Array:
    """The array broadcast to a larger shape, or itself where it has the shape."""
    if x.shape == tuple(shape):
        return x
    lead = len(shape) - len(x.shape)
    axes = [i for i, n in enumerate(x.shape) if n != 1]

    def element(index: Index) -> Expr:
        inner: list[Any] = [0] * len(x.shape)
        for i in axes:
            inner[i] = index[lead + i]
        return x.at(tuple(inner))

    return Array(tuple(shape), x.type, element)


def cpp_type(value: Tensor) -> str:
    """The C++ type of a tensor's elements; raises NotLowerable if there is none."""
    return type_of(value.dtype)


def filled(builder: Builder, value: Tensor, number: float) -> Array:
    """An array with the shape and type of a tensor, and the same number everywhere."""
    type = cpp_type(value)
    return Array(tuple(value.shape), type, lambda index: builder.constant(number, type))


def cast(builder: Builder, value: Tensor, x: Array, *_: Any, **options: Any) -> Array:
    """The array converted to the type of the result, which may be its own."""
    type = cpp_type(value)
    return Array(tuple(value.shape), type, lambda index: builder.cast(x.at(index), type))


def view(builder: Builder, value: Tensor, x: Array, *_: Any, **options: Any) -> Array:
    """The array in another shape, its elements in the same order; the prompts' axis is neither split nor merged."""
    old, new = _around(x.shape), _around(tuple(value.shape))
    if [math.prod(part) for part in old] != [math.prod(part) for part in new] or len(old) != len(new):
        raise NotLowerable(f"a view of {x.shape} as {tuple(value.shape)}, which cuts the prompts' axis")

    def element(index: Index) -> Expr:
        parts = [index] if len(new) == 1 else [index[: len(new[0])], index[len(new[0]) + 1 :]]
        inner: list[Any] = []
        for i, (part, new_shape, old_shape) in enumerate(zip(parts, new, old, strict=True)):
            inner += ([0] if i else []) + list(unravel(ravel(part, new_shape), old_shape))
        return x.at(tuple(inner))

    return Array(tuple(value.shape), x.type, element)


def _around(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """The shapes before and after the prompts' axis; the whole shape if it has no such axis."""
    if PROMPTS not in shape:
        return [shape]
    i = shape.index(PROMPTS)
    return [shape[:i], shape[i + 1 :]]


def expand(builder: Builder, value: Tensor, x: Array, *_: Any, **options: Any) -> Array:
    """The array broadcast to the shape of the result."""
    return broadcast(x, value.shape)


def permute(builder: Builder, value: Tensor, x: Array, axes: Sequence[int]) -> Array:
    """The array with its axes in another order."""
    axes = [a % len(x.shape) for a in axes]

    def element(index: Index) -> Expr:
        inner = [0] * len(axes)
        for i, a in zip(index, axes, strict=True):
            inner[a] = i
        return x.at(tuple(inner))

    return Array(tuple(value.shape), x.type, element)


def transpose(builder: Builder, value: Tensor, x: Array, a: int = 0, b: int = 1) -> Array:
    """The array with two axes exchanged."""
    axes = list(range(len(x.shape)))
    axes[a], axes[b] = axes[b], axes[a]
    return permute(builder, value, x, axes)


def unsqueeze(builder: Builder, value: Tensor, x: Array, axis: int) -> Array:
    """The array with a new axis of length 1."""
    axis %= len(value.shape)
    return Array(tuple(value.shape), x.type, lambda index: x.at(index[:axis] + index[axis + 1 :]))


def squeeze(builder: Builder, value: Tensor, x: Array, axes: int | Sequence[int] | None = None) -> Array:
    """The array without those of the axes that have length 1; axes: None for all."""
    candidates = range(len(x.shape)) if axes is None else [axes] if isinstance(axes, int) else axes
    removed = {a % len(x.shape) for a in candidates if x.shape[a] == 1}

    def element(index: Index) -> Expr:
        rest = iter(index)
        return x.at(tuple(0 if a in removed else next(rest) for a in range(len(x.shape))))

    return Array(tuple(value.shape), x.type, element)


def select(builder: Builder, value: Tensor, x: Array, axis: int, i: int) -> Array:
    """The array at entry i of an axis, without that axis."""
    axis %= len(x.shape)
    i %= x.shape[axis]
    return Array(tuple(value.shape), x.type, lambda index: x.at((*index[:axis], i, *index[axis:])))


def slice_axis(
    builder: Builder, value: Tensor, x: Array, axis: int = 0, start: Any = None, end: Any = None, step: int = 1
) -> Array:
    """A slice start:end:step of an axis of the array."""
    if x.shape[axis] == PROMPTS and tuple(value.shape) != x.shape:
        raise NotLowerable("a slice of the prompts' axis")
    axis %= len(x.shape)
    first = range(x.shape[axis])[slice(start, end, step)].start if value.shape[axis] else 0

    def element(index: Index) -> Expr:
        return x.at((*index[:axis], first + step * index[axis], *index[axis + 1 :]))

    return Array(tuple(value.shape), x.type, element)


def split(builder: Builder, value: Sequence[Tensor], x: Array, size: int | Sequence[int], axis: int = 0) -> list[Array]:
    """Consecutive slices of an axis of the array; their lengths are those of the results."""
    slices, start = [], 0
    for part in value:
        slices.append(slice_axis(builder, part, x, axis, start, start + part.shape[axis]))
        start += part.shape[axis]
    return slices


def unbind(builder: Builder, value: Sequence[Tensor], x: Array, axis: int = 0) -> list[Array]:
    """The array at every entry of an axis, each without that axis."""
    return [select(builder, part, x, axis, i) for i, part in enumerate(value)]


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
    "slice": slice_axis,
    "split": split,
    "split_with_sizes": split,
    "unbind": unbind,
}
