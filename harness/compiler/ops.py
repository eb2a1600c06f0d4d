"""What each operation of a traced step means for single elements: arithmetic and sums here, and the table of all."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor

from .ir import PROMPTS, Array, Atom, Index, NotLowerable, Writer, constant
from .ops_joining import PARTS
from .ops_views import VIEWS, Rule, array, broadcast, cast, filled, kind


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


def _sigmoid(writer: Writer, a: Atom) -> Atom:
    one = constant(1.0, a.type)
    below = writer.call("f_exp", writer.binary("-", constant(0.0, a.type), a))
    return writer.binary("/", one, writer.binary("+", one, below))


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
    "sigmoid": pointwise(_sigmoid),
    "sigmoid_backward": pointwise(
        lambda w, g, y: w.binary("*", g, w.binary("*", y, w.binary("-", constant(1.0, y.type), y)))
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
RULES: dict[str, Rule] = {
    **POINTWISE,
    **CONSTANT,
    **VIEWS,
    **PARTS,
    "sum": reduce_sum,
    "mean": mean,
    "linalg_vector_norm": norm,
    "mm": matmul,
    "bmm": matmul,
}
