"""What each operation of a traced step means for single elements.

A rule takes the writer, the traced result (for its shape and type) and the operation's arguments, and gives an Array.
Views only rename indices; the rest is arithmetic on atoms.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

from torch import Tensor

from .atoms import PLACE, PROMPTS, Array, Atom, Index, NotLowerable, Region, Writer, constant
from .indices import ravel, unravel

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


def pointwise(scalar: Callable[..., Atom], *, alike: bool = False) -> Rule:
    """A scalar function at every index, with broadcasting; operands are cast to the result's type, or to each other's
    where the result is a condition (`alike`).
    """

    def rule(writer: Writer, value: Tensor, *operands: Any, **options: Any) -> Array:
        result = kind(value)
        arrays = [x for x in operands if isinstance(x, Array)]
        wanted = max((x.type for x in arrays), key=_RANK.index) if alike else result
        spread = [broadcast(array(x, wanted), value.shape) for x in operands]

        def at(index: Index) -> Atom:
            return scalar(writer, *(writer.cast(x.at(index), wanted) for x in spread), **options)

        return Array(tuple(value.shape), result, at)

    return rule


_RANK = ["bool", "int64_t", "float", "double"]


def _sum(sign: str) -> Callable[..., Atom]:
    def scalar(writer: Writer, a: Atom, b: Atom, alpha: float = 1) -> Atom:
        return writer.binary(sign, a, b if alpha == 1 else writer.binary("*", b, constant(alpha, b.type)))

    return scalar


def _power(writer: Writer, a: Atom, b: Atom) -> Atom:
    if b.value == 2:
        return writer.binary("*", a, a)
    if b.value == 0.5:
        return writer.call("f_sqrt", a)
    if b.value is not None and b.value == int(b.value) and 0 < b.value <= 8:
        found = a
        for _ in range(int(b.value) - 1):
            found = writer.binary("*", found, a)
        return found
    if (a.level | b.level) & 4:
        raise NotLowerable(f"a power of {b.code} for every prompt")
    return writer.write(f"__builtin_pow({a.code}, {b.code})", [a, b], a.type)


def _finite(writer: Writer, a: Atom) -> Atom:
    return writer.compare("==", writer.write(f"{a.code} - {a.code}", [a], a.type), constant(0.0, a.type))


def _sign(writer: Writer, a: Atom) -> Atom:
    zero, one = constant(0.0, a.type), constant(1.0, a.type)
    below = writer.choose(writer.compare("<", a, zero), constant(-1.0, a.type), zero)
    return writer.choose(writer.compare(">", a, zero), one, below)


def _extreme(sign: str) -> Callable[..., Atom]:
    return lambda writer, a, b: writer.choose(writer.compare(sign, a, b), a, b)


def _logical(sign: str) -> Callable[..., Atom]:
    return lambda writer, a, b: writer.compare(sign, a, b)


def where(writer: Writer, value: Tensor, condition: Array, a: Any, b: Any) -> Array:
    """Elementwise choice."""
    type, shape = kind(value), tuple(value.shape)
    spread, first, second = (broadcast(array(x, type), shape) for x in (condition, a, b))

    def at(index: Index) -> Atom:
        chosen = (writer.cast(x.at(index), type) for x in (first, second))
        return writer.choose(spread.at(index), *chosen)

    return Array(shape, type, at)


def cast(writer: Writer, value: Tensor, x: Array, *_: Any, **options: Any) -> Array:
    """The same numbers, perhaps of another type."""
    type = kind(value)
    return Array(tuple(value.shape), type, lambda index: writer.cast(x.at(index), type))


def masked_fill(writer: Writer, value: Tensor, x: Array, mask: Array, number: Any) -> Array:
    """The array, but a number where the mask holds."""
    return where(writer, value, mask, number, x)


def copy(writer: Writer, value: Tensor, x: Array, source: Array, *_: Any) -> Array:
    """What is copied."""
    return cast(writer, value, broadcast(source, value.shape))


def full(writer: Writer, value: Tensor, *arguments: Any, **options: Any) -> Array:
    """The same number everywhere."""
    number = next((x for x in reversed(arguments) if isinstance(x, int | float)), 0)
    return filled(value, number)


def filled(value: Tensor, number: float) -> Array:
    """The same number everywhere."""
    type = kind(value)
    return Array(tuple(value.shape), type, lambda index: constant(number, type))


# views


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


# sums


def over(axes: Any, rank: int) -> list[int]:
    """The axes a reduction names."""
    if axes is None or axes == []:
        return list(range(rank))
    return [a % rank for a in ([axes] if isinstance(axes, int) else axes)]


def reduce_sum(writer: Writer, value: Tensor, x: Array, axes: Any = None, keep: bool = False, **options: Any) -> Array:
    """The sum over axes, prompts last."""
    gone = over(axes, len(x.shape))
    prompts = any(x.shape[a] == PROMPTS for a in gone)
    ranges = [range(x.shape[a]) for a in gone if x.shape[a] != PROMPTS]
    type = kind(value)

    def at(index: Index) -> Atom:
        rest = [i for a, i in enumerate(index) if a not in gone] if keep else list(index)

        def term(inner: Index) -> Atom:
            inside, outside = iter(inner), iter(rest)
            full = [
                (0 if n == PROMPTS else next(inside)) if a in gone else next(outside) for a, n in enumerate(x.shape)
            ]
            return writer.cast(x.at(tuple(full)), type)

        total = writer.sum(ranges, term, type)
        return writer.over_prompts(total) if prompts else total

    return Array(tuple(value.shape), type, at)


def mean(writer: Writer, value: Tensor, x: Array, axes: Any = None, keep: bool = False, **options: Any) -> Array:
    """The mean over axes, of which none is the prompts'."""
    gone = over(axes, len(x.shape))
    if any(x.shape[a] == PROMPTS for a in gone):
        raise NotLowerable("a mean over prompts: say a sum, divided by their number")
    summed = reduce_sum(writer, value, x, axes, keep)
    count = constant(math.prod(x.shape[a] for a in gone), summed.type)
    return Array(summed.shape, summed.type, lambda index: writer.binary("/", summed.at(index), count))


def norm(
    writer: Writer, value: Tensor, x: Array, order: float = 2, axes: Any = None, keep: bool = False, **_: Any
) -> Array:
    """The Euclidean norm over axes."""
    if order != 2:
        raise NotLowerable(f"a norm of order {order}")
    square = Array(x.shape, x.type, lambda index: writer.binary("*", x.at(index), x.at(index)))
    summed = reduce_sum(writer, value, square, axes, keep)
    return Array(summed.shape, summed.type, lambda index: writer.call("f_sqrt", summed.at(index)))


def matmul(writer: Writer, value: Tensor, a: Array, b: Array) -> Array:
    """a b over the last two axes, prompts perhaps among them."""
    type, inner = kind(value), a.shape[-1]

    def at(index: Index) -> Atom:
        *batch, i, j = index
        if inner == PROMPTS:
            x, y = a.at((*batch, i, 0)), b.at((*batch, 0, j))
            return writer.over_prompts(writer.binary("*", x, y))
        return writer.sum(
            [range(inner)], lambda k: writer.binary("*", a.at((*batch, i, *k)), b.at((*batch, *k, j))), type
        )

    return Array(tuple(value.shape), type, at)


def eye(writer: Writer, value: Tensor, *_: Any, **options: Any) -> Array:
    """The identity."""
    ones = Array((min(value.shape),), kind(value), lambda index: constant(1.0, kind(value)))
    return covered(
        filled(value, 0), Region(lambda at: (*at, *at), ones), lambda at: at[:1] if at[0] == at[1] else None, value
    )


POINTWISE: dict[str, Rule] = {
    "add": pointwise(_sum("+")),
    "sub": pointwise(_sum("-")),
    "rsub": pointwise(lambda w, a, b, alpha=1: _sum("-")(w, b, a)),
    "mul": pointwise(lambda w, a, b: w.binary("*", a, b)),
    "div": pointwise(lambda w, a, b: w.binary("/", a, b)),
    "neg": pointwise(lambda w, a: w.binary("-", constant(0.0, a.type), a)),
    "reciprocal": pointwise(lambda w, a: w.binary("/", constant(1.0, a.type), a)),
    "rsqrt": pointwise(lambda w, a: w.binary("/", constant(1.0, a.type), w.call("f_sqrt", a))),
    "pow": pointwise(_power),
    "abs": pointwise(
        lambda w, a: w.choose(w.compare("<", a, constant(0.0, a.type)), w.binary("-", constant(0.0, a.type), a), a)
    ),
    "sign": pointwise(_sign),
    "sgn": pointwise(_sign),
    "relu": pointwise(lambda w, a: w.choose(w.compare("<", a, constant(0.0, a.type)), constant(0.0, a.type), a)),
    "maximum": pointwise(_extreme(">")),
    "minimum": pointwise(_extreme("<")),
    **{
        name: pointwise(lambda w, a, f=f"f_{name}": w.call(f, a))
        for name in ("sqrt", "exp", "log", "sin", "cos", "tanh")
    },
    **{
        name: pointwise(lambda w, a, b, s=sign: w.compare(s, a, b), alike=True)
        for name, sign in (("eq", "=="), ("ne", "!="), ("lt", "<"), ("le", "<="), ("gt", ">"), ("ge", ">="))
    },
    "isfinite": pointwise(_finite, alike=True),
    "isnan": pointwise(lambda w, a: w.compare("!=", a, a), alike=True),
    **{name: pointwise(_logical("&")) for name in ("logical_and", "bitwise_and", "__and__")},
    **{name: pointwise(_logical("|")) for name in ("logical_or", "bitwise_or", "__or__")},
    **{name: pointwise(lambda w, a: w.negate(a)) for name in ("logical_not", "bitwise_not")},
    "where": where,
    "masked_fill": masked_fill,
    "copy": copy,
    "fill": lambda w, value, x, number: broadcast(array(number, kind(value)), value.shape),
    "threshold_backward": pointwise(
        lambda w, g, x, bound: w.choose(w.compare(">", x, bound), g, constant(0.0, g.type))
    ),
    "tanh_backward": pointwise(
        lambda w, g, y: w.binary("*", g, w.binary("-", constant(1.0, y.type), w.binary("*", y, y)))
    ),
    "_to_copy": cast,
}
CONSTANT: dict[str, Rule] = {
    **{name: full for name in ("full", "full_like", "new_full", "scalar_tensor")},
    **{
        name: lambda w, value, *_, **__: filled(value, 0)
        for name in ("zeros", "zeros_like", "new_zeros", "empty", "empty_like", "new_empty")
    },
    **{name: lambda w, value, *_, **__: filled(value, 1) for name in ("ones", "ones_like", "new_ones")},
}
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
RULES: dict[str, Rule] = {
    **POINTWISE,
    **CONSTANT,
    **VIEWS,
    "cat": cat,
    "stack": stack,
    "index": index,
    "index_put": index_put,
    "select_backward": select_backward,
    "slice_backward": slice_backward,
    "select_scatter": select_scatter,
    "slice_scatter": slice_scatter,
    "sum": reduce_sum,
    "mean": mean,
    "linalg_vector_norm": norm,
    "mm": matmul,
    "bmm": matmul,
    "eye": eye,
}
