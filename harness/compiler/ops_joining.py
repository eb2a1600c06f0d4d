"""Rules for arrays that are made of parts: concatenation, gather and scatter at constant indices, slice updates."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

from torch import Tensor

from .builder import Builder
from .ir import PROMPTS, Array, Expr, Index, NotLowerable, Region
from .ops_views import Rule, broadcast, cpp_type, filled


def joined(value: Tensor, regions: Sequence[Region], element: Callable[[Index], Expr]) -> Array:
    """An array of several regions; `element` gives the operand at an index of ints."""
    if PROMPTS in value.shape and any(PROMPTS not in region.part.shape for region in regions):
        raise NotLowerable("an array of which a part is one prompt's")
    return Array(tuple(value.shape), cpp_type(value), element, tuple(regions))


def _from_slice(axis: int, start: int, step: int, index: Index) -> Index:
    """The index in the whole array of an element with this index in a slice of an axis."""
    return (*index[:axis], index[axis] * step + start, *index[axis + 1 :])


def _from_entry(axis: int, i: int, index: Index) -> Index:
    """The index in the whole array of an element with this index in entry i of an axis."""
    return (*index[:axis], i, *index[axis:])


def cat(builder: Builder, value: Tensor, arrays: Sequence[Array], axis: int = 0) -> Array:
    """Arrays concatenated along an axis."""
    axis %= len(value.shape)
    type = cpp_type(value)
    arrays = [x for x in arrays if len(x.shape) > axis]  # torch lets an empty one have any shape
    owner = [(x, i) for x in arrays for i in range(x.shape[axis])]

    def element(index: Index) -> Expr:
        x, i = owner[index[axis]]
        return builder.cast(x.at((*index[:axis], i, *index[axis + 1 :])), type)

    regions, start = [], 0
    for x in arrays:
        regions.append(Region(functools.partial(_from_slice, axis, start, 1), x))
        start += x.shape[axis]
    return joined(value, regions, element)


def stack(builder: Builder, value: Tensor, arrays: Sequence[Array], axis: int = 0) -> Array:
    """Arrays of one shape stacked along a new axis."""
    axis %= len(value.shape)
    type = cpp_type(value)
    return joined(
        value,
        [Region(functools.partial(_from_entry, axis, n), x) for n, x in enumerate(arrays)],
        lambda index: builder.cast(arrays[index[axis]].at(index[:axis] + index[axis + 1 :]), type),
    )


def index(builder: Builder, value: Tensor, x: Array, tables: Sequence[Array | None]) -> Array:
    """The array's entries at constant indices of one axis, or of adjacent axes; tables: the indices by axis."""
    axes = [a for a, table in enumerate(tables) if table is not None]
    if axes != list(range(axes[0], axes[0] + len(axes))) or any(x.shape[a] == PROMPTS for a in axes):
        raise NotLowerable("an index of axes that are apart, or of the prompts")
    indices = [table for table in tables if table is not None]
    shape = max((table.shape for table in indices), key=len)
    start = axes[0]

    def element(outer: Index) -> Expr:
        inner = outer[start : start + len(shape)]
        entries = [
            builder.lookup(broadcast(table, shape), inner, x.shape[a]) for a, table in zip(axes, indices, strict=True)
        ]
        return x.at((*outer[:start], *entries, *outer[start + len(shape) :]))

    return Array(tuple(value.shape), x.type, element)


def index_put(
    builder: Builder,
    value: Tensor,
    x: Array,
    tables: Sequence[Array | None],
    part: Array,
    accumulate: bool = False,
) -> Array:
    """The array with the entries at constant indices of one axis replaced by those of `part`, or increased by them."""
    sources: dict[int, list[Index]] = {}  # the indices of `part` that go to an entry of the axis
    shape = list(x.shape)
    indices = [table for table in tables if table is not None]
    [axis, *more] = [a for a, table in enumerate(tables) if table is not None]
    if more or shape[axis] == PROMPTS:
        raise NotLowerable("an assignment to several axes, or to prompts")
    for inner in product(*(range(n) for n in indices[0].shape)):
        sources.setdefault(builder.lookup(indices[0], inner, shape[axis]), []).append(inner)
    spread = broadcast(part, (*shape[:axis], *indices[0].shape, *shape[axis + 1 :]))

    def element(index: Index) -> Expr:
        args = [spread.at((*index[:axis], *inner, *index[axis + 1 :])) for inner in sources.get(index[axis], [])]
        if not accumulate:
            return args[-1] if args else x.at(index)
        return builder.add([x.at(index), *args], x.type)

    def entry(i: int) -> Region:
        into = functools.partial(_from_entry, axis, i)
        return Region(into, Array((*shape[:axis], *shape[axis + 1 :]), x.type, lambda index: element(into(index))))

    return joined(value, [Region(lambda index: index, x), *map(entry, sources)], element)


def overwritten(base: Array, region: Region, back: Callable[[Index], Index | None], value: Tensor) -> Array:
    """The base array with one region replaced; `back` inverts `region.into`, and gives None outside the region."""

    def element(index: Index) -> Expr:
        inner = back(index)
        return base.at(index) if inner is None else region.part.at(inner)

    return joined(value, (Region(lambda index: index, base), region), element)


def select_scatter(builder: Builder, value: Tensor, x: Array, part: Array, axis: int, i: int) -> Array:
    """The array with entry i of an axis replaced."""
    axis %= len(value.shape)
    i %= value.shape[axis]
    region = Region(functools.partial(_from_entry, axis, i), part)
    return overwritten(x, region, lambda index: index[:axis] + index[axis + 1 :] if index[axis] == i else None, value)


def select_backward(builder: Builder, value: Tensor, part: Array, shape: Any, axis: int, i: int) -> Array:
    """An array of zeros with entry i of an axis replaced."""
    return select_scatter(builder, value, filled(builder, value, 0), part, axis, i)


def slice_scatter(
    builder: Builder,
    value: Tensor,
    x: Array,
    part: Array,
    axis: int = 0,
    start: Any = None,
    end: Any = None,
    step: int = 1,
) -> Array:
    """The array with the slice start:end:step of an axis replaced."""
    axis %= len(value.shape)
    if value.shape[axis] == PROMPTS:
        if part.shape == tuple(value.shape):
            return part
        raise NotLowerable("a slice of the prompts' axis")
    inside = range(value.shape[axis])[slice(start, end, step)]

    def back(index: Index) -> Index | None:
        return (*index[:axis], inside.index(index[axis]), *index[axis + 1 :]) if index[axis] in inside else None

    region = Region(functools.partial(_from_slice, axis, inside.start, step), part)
    return overwritten(x, region, back, value)


def slice_backward(
    builder: Builder, value: Tensor, part: Array, shape: Any, axis: int, start: int, end: int, step: int
) -> Array:
    """An array of zeros with the slice start:end:step of an axis replaced."""
    return slice_scatter(builder, value, filled(builder, value, 0), part, axis, start, end, step)


def eye(builder: Builder, value: Tensor, *_: Any, **options: Any) -> Array:
    """The identity matrix, which need not be square."""
    ones = Array((min(value.shape),), cpp_type(value), lambda index: builder.constant(1.0, cpp_type(value)))
    diagonal = Region(lambda index: (*index, *index), ones)
    return overwritten(
        filled(builder, value, 0), diagonal, lambda index: index[:1] if index[0] == index[1] else None, value
    )


JOINING: dict[str, Rule] = {
    "cat": cat,
    "stack": stack,
    "index": index,
    "index_put": index_put,
    "select_backward": select_backward,
    "slice_backward": slice_backward,
    "select_scatter": select_scatter,
    "slice_scatter": slice_scatter,
    "eye": eye,
}
