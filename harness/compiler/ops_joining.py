"""Arrays made of parts of others: one after the other, one inside the other, entries at constant places."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

from torch import Tensor

from .ir import PROMPTS, Array, Atom, Index, NotLowerable, Region, Writer, constant
from .ops_views import Rule, broadcast, filled, kind


def made_of(value: Tensor, regions: Sequence[Region], at: Callable[[Index], Atom]) -> Array:
    """An array in parts; `at` finds an element at an index of numbers."""
    return Array(tuple(value.shape), kind(value), at, tuple(regions))


def _moved(axis: int, start: int, step: int, index: Index) -> Index:
    """An index into a slice as one into the whole."""
    return (*index[:axis], index[axis] * step + start, *index[axis + 1 :])


def _inserted(axis: int, i: int, index: Index) -> Index:
    """An index with an entry for one axis more."""
    return (*index[:axis], i, *index[axis:])


def cat(writer: Writer, value: Tensor, arrays: Sequence[Array], axis: int = 0) -> Array:
    """Arrays one after the other."""
    axis %= len(value.shape)
    type = kind(value)
    arrays = [x for x in arrays if len(x.shape) > axis]  # torch lets an empty one have any shape
    owner = [(x, i) for x in arrays for i in range(x.shape[axis])]

    def at(index: Index) -> Atom:
        x, i = owner[index[axis]]
        return writer.cast(x.at((*index[:axis], i, *index[axis + 1 :])), type)

    regions, start = [], 0
    for x in arrays:
        regions.append(Region(functools.partial(_moved, axis, start, 1), x))
        start += x.shape[axis]
    return made_of(value, regions, at)


def stack(writer: Writer, value: Tensor, arrays: Sequence[Array], axis: int = 0) -> Array:
    """Arrays side by side."""
    axis %= len(value.shape)
    type = kind(value)
    return made_of(
        value,
        [Region(functools.partial(_inserted, axis, n), x) for n, x in enumerate(arrays)],
        lambda index: writer.cast(arrays[index[axis]].at(index[:axis] + index[axis + 1 :]), type),
    )


def index(writer: Writer, value: Tensor, x: Array, places: Sequence[Array | None]) -> Array:
    """Entries of one axis, or of adjacent ones, at constant places."""
    axes = [a for a, p in enumerate(places) if p is not None]
    if axes != list(range(axes[0], axes[0] + len(axes))) or any(x.shape[a] == PROMPTS for a in axes):
        raise NotLowerable("an index of axes that are apart, or of the prompts")
    tables = [p for p in places if p is not None]
    shape = max((t.shape for t in tables), key=len)
    start = axes[0]

    def at(where: Index) -> Atom:
        inner = where[start : start + len(shape)]
        found = [
            writer.lookup(broadcast(table, shape), inner, x.shape[a]) for a, table in zip(axes, tables, strict=True)
        ]
        return x.at((*where[:start], *found, *where[start + len(shape) :]))

    return Array(tuple(value.shape), x.type, at)


def index_put(
    writer: Writer, value: Tensor, x: Array, places: Sequence[Array | None], part: Array, accumulate: bool = False
) -> Array:
    """The array with entries at constant places replaced, or added to."""
    spots: dict[int, list[Index]] = {}
    shape = list(x.shape)
    tables = [p for p in places if p is not None]
    [axis, *more] = [a for a, p in enumerate(places) if p is not None]
    if more or shape[axis] == PROMPTS:
        raise NotLowerable("an assignment to several axes, or to prompts")
    for inner in product(*(range(n) for n in tables[0].shape)):
        spots.setdefault(writer.lookup(tables[0], inner, shape[axis]), []).append(inner)
    spread = broadcast(part, (*shape[:axis], *tables[0].shape, *shape[axis + 1 :]))

    def at(index: Index) -> Atom:
        given = [spread.at((*index[:axis], *s, *index[axis + 1 :])) for s in spots.get(index[axis], [])]
        if not accumulate:
            return given[-1] if given else x.at(index)
        return writer.add([x.at(index), *given], x.type)

    def one(i: int) -> Region:
        into = functools.partial(_inserted, axis, i)
        return Region(into, Array((*shape[:axis], *shape[axis + 1 :]), x.type, lambda index: at(into(index))))

    return made_of(value, [Region(lambda index: index, x), *map(one, spots)], at)


def covered(base: Array, region: Region, back: Callable[[Index], Index | None], value: Tensor) -> Array:
    """An array with a region of it replaced; `back` gives the index in the region, if there is one."""

    def at(index: Index) -> Atom:
        inner = back(index)
        return base.at(index) if inner is None else region.part.at(inner)

    return made_of(value, (Region(lambda index: index, base), region), at)


def select_scatter(writer: Writer, value: Tensor, x: Array, part: Array, axis: int, i: int) -> Array:
    """The array with one entry of an axis replaced."""
    axis %= len(value.shape)
    i %= value.shape[axis]
    region = Region(functools.partial(_inserted, axis, i), part)
    return covered(x, region, lambda at: at[:axis] + at[axis + 1 :] if at[axis] == i else None, value)


def select_backward(writer: Writer, value: Tensor, part: Array, shape: Any, axis: int, i: int) -> Array:
    """Zeros, but for one entry of an axis."""
    return select_scatter(writer, value, filled(value, 0), part, axis, i)


def slice_scatter(
    writer: Writer,
    value: Tensor,
    x: Array,
    part: Array,
    axis: int = 0,
    start: Any = None,
    end: Any = None,
    step: int = 1,
) -> Array:
    """The array with a slice of an axis replaced."""
    axis %= len(value.shape)
    if value.shape[axis] == PROMPTS:
        if part.shape == tuple(value.shape):
            return part
        raise NotLowerable("a slice of the prompts' axis")
    inside = range(value.shape[axis])[slice(start, end, step)]

    def back(at: Index) -> Index | None:
        return (*at[:axis], inside.index(at[axis]), *at[axis + 1 :]) if at[axis] in inside else None

    region = Region(functools.partial(_moved, axis, inside.start, step), part)
    return covered(x, region, back, value)


def slice_backward(
    writer: Writer, value: Tensor, part: Array, shape: Any, axis: int, start: int, end: int, step: int
) -> Array:
    """Zeros, but for a slice of an axis."""
    return slice_scatter(writer, value, filled(value, 0), part, axis, start, end, step)


def eye(writer: Writer, value: Tensor, *_: Any, **options: Any) -> Array:
    """The identity."""
    ones = Array((min(value.shape),), kind(value), lambda index: constant(1.0, kind(value)))
    return covered(
        filled(value, 0), Region(lambda at: (*at, *at), ones), lambda at: at[:1] if at[0] == at[1] else None, value
    )


PARTS: dict[str, Rule] = {
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
