"""Rules for pointwise operations and reductions, and the table of the rules for all operations of a traced step.

A rule describes an operation by what it computes for a single element of the result: see `ops_views.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor

from .builder import Builder
from .ir import PROMPT, PROMPTS, Array, Expr, Index, NotLowerable
from .ops_joining import JOINING
from .ops_views import VIEWS, Rule, as_array, broadcast, cast, cpp_type, filled


def pointwise(scalar: Callable[..., Expr], *, promote: bool = False) -> Rule:
    """The rule that applies a scalar function at every index, with broadcasting.

    promote: cast the args to the highest of their own types, for a result that is a condition; else to its type.
    """

    def rule(builder: Builder, value: Tensor, *args: Any, **options: Any) -> Array:
        result = cpp_type(value)
        arrays = [x for x in args if isinstance(x, Array)]
        operand_type = max((x.type for x in arrays), key=_PROMOTION.index) if promote else result
        spread = [broadcast(as_array(builder, x, operand_type), value.shape) for x in args]
        return Array(
            tuple(value.shape),
            result,
            lambda index: scalar(builder, *(builder.cast(x.at(index), operand_type) for x in spread), **options),
        )

    return rule


_PROMOTION = ["bool", "int64_t", "float", "double"]  # from the lowest type to the highest


def _add_scaled(sign: str) -> Callable[..., Expr]:
    """The scalar function `a sign alpha b`, for + and -."""

    def scalar(builder: Builder, a: Expr, b: Expr, alpha: float = 1) -> Expr:
        return builder.binary(sign, a, b if alpha == 1 else builder.binary("*", b, builder.constant(alpha, b.type)))

    return scalar


def _power(builder: Builder, a: Expr, b: Expr) -> Expr:
    if b.value == 2:
        return builder.binary("*", a, a)
    if b.value == 0.5:
        return builder.call("sqrt", a)
    if b.value is not None and b.value == int(b.value) and 0 < b.value <= 8:
        power = a
        for _ in range(int(b.value) - 1):
            power = builder.binary("*", power, a)
        return power
    if (a.level | b.level) & PROMPT:
        raise NotLowerable(f"a power of {'a variable' if b.value is None else b.value} for every prompt")
    return builder.expr("pow", (a, b), a.type)


def _finite(builder: Builder, a: Expr) -> Expr:
    return builder.compare("==", builder.binary("-", a, a), builder.constant(0.0, a.type))


def _sign(builder: Builder, a: Expr) -> Expr:
    zero, one = builder.constant(0.0, a.type), builder.constant(1.0, a.type)
    not_positive = builder.choose(builder.compare("<", a, zero), builder.constant(-1.0, a.type), zero)
    return builder.choose(builder.compare(">", a, zero), one, not_positive)


def _sigmoid(builder: Builder, a: Expr) -> Expr:
    one = builder.constant(1.0, a.type)
    exponential = builder.call("exp", builder.binary("-", builder.constant(0.0, a.type), a))
    return builder.binary("/", one, builder.binary("+", one, exponential))


def _quotient(builder: Builder, a: Expr, b: Expr, rounding_mode: str | None = None) -> Expr:
    if rounding_mode is not None:
        raise NotLowerable(f"a division that rounds: {rounding_mode}")
    return builder.binary("/", a, b)


def _extreme(sign: str) -> Callable[..., Expr]:
    """The larger or the smaller of two; a nan if one of them is."""

    def scalar(builder: Builder, a: Expr, b: Expr) -> Expr:
        first = builder.compare("|", builder.compare(sign, a, b), builder.compare("!=", a, a))
        return builder.choose(first, a, b)

    return scalar


def _logical(sign: str) -> Callable[..., Expr]:
    return lambda builder, a, b: builder.compare(sign, a, b)


def where(builder: Builder, value: Tensor, condition: Array, a: Any, b: Any) -> Array:
    """The elements of a where the condition holds, else those of b."""
    type, shape = cpp_type(value), tuple(value.shape)
    conditions, first, second = (broadcast(as_array(builder, x, type), shape) for x in (condition, a, b))

    def element(index: Index) -> Expr:
        args = (builder.cast(x.at(index), type) for x in (first, second))
        return builder.choose(conditions.at(index), *args)

    return Array(shape, type, element)


def masked_fill(builder: Builder, value: Tensor, x: Array, mask: Array, number: Any) -> Array:
    """The array with its elements replaced by a number where the mask holds."""
    return where(builder, value, mask, number, x)


def copy(builder: Builder, value: Tensor, x: Array, source: Array, *_: Any) -> Array:
    """The source of a copy into x, with the shape and type of x."""
    return cast(builder, value, broadcast(source, value.shape))


def full(builder: Builder, value: Tensor, *arguments: Any, **options: Any) -> Array:
    """An array with the same number everywhere: the last number among the arguments, or 0."""
    number = next((x for x in reversed(arguments) if isinstance(x, int | float)), 0)
    return filled(builder, value, number)


def arange(builder: Builder, value: Tensor, *numbers: float, **options: Any) -> Array:
    """Consecutive numbers: up to an end, from a start to an end, or in steps."""
    start, step = (numbers[0] if len(numbers) > 1 else 0), (numbers[2] if len(numbers) > 2 else 1)
    return builder.literal([start + i * step for i in range(value.numel())], tuple(value.shape), cpp_type(value))


def reduced_axes(axes: Any, rank: int) -> list[int]:
    """The axes of a reduction as non-negative numbers; all axes where it names none."""
    if axes is None or axes == []:
        return list(range(rank))
    return [a % rank for a in ([axes] if isinstance(axes, int) else axes)]


def _term(shape: tuple[int, ...], reduced: list[int], inner: Index, outer: list[Any]) -> Index:
    """The index of a term of a sum over the reduced axes; over prompts, a term stands for all."""
    inside, outside = iter(inner), iter(outer)
    return tuple((0 if n == PROMPTS else next(inside)) if a in reduced else next(outside) for a, n in enumerate(shape))


def reduce_sum(
    builder: Builder, value: Tensor, x: Array, axes: Any = None, keep: bool = False, **options: Any
) -> Array:
    """The sum over axes, over the prompts' axis last."""
    reduced = reduced_axes(axes, len(x.shape))
    prompts = any(x.shape[a] == PROMPTS for a in reduced)
    ranges = [range(x.shape[a]) for a in reduced if x.shape[a] != PROMPTS]
    type = cpp_type(value)

    def element(index: Index) -> Expr:
        kept = [i for a, i in enumerate(index) if a not in reduced] if keep else list(index)
        total = builder.sum(ranges, lambda inner: builder.cast(x.at(_term(x.shape, reduced, inner, kept)), type), type)
        return builder.over_prompts(total) if prompts else total

    return Array(tuple(value.shape), type, element)


def mean(builder: Builder, value: Tensor, x: Array, axes: Any = None, keep: bool = False, **options: Any) -> Array:
    """The mean over axes; the prompts' axis must not be among them."""
    reduced = reduced_axes(axes, len(x.shape))
    if any(x.shape[a] == PROMPTS for a in reduced):
        raise NotLowerable("a mean over prompts: say a sum, divided by their number")
    summed = reduce_sum(builder, value, x, axes, keep)
    count = builder.constant(math.prod(x.shape[a] for a in reduced), summed.type)
    return Array(summed.shape, summed.type, lambda index: builder.binary("/", summed.at(index), count))


def norm(
    builder: Builder, value: Tensor, x: Array, order: float = 2, axes: Any = None, keep: bool = False, **_: Any
) -> Array:
    """The Euclidean norm over axes; raises NotLowerable for other orders than 2."""
    if order != 2:
        raise NotLowerable(f"a norm of order {order}")
    square = Array(x.shape, x.type, lambda index: builder.binary("*", x.at(index), x.at(index)))
    summed = reduce_sum(builder, value, square, axes, keep)
    return Array(summed.shape, summed.type, lambda index: builder.call("sqrt", summed.at(index)))


def matmul(builder: Builder, value: Tensor, a: Array, b: Array) -> Array:
    """The matrix product of the last two axes, by batch; the prompts' axis may be among them."""
    type, inner = cpp_type(value), a.shape[-1]

    def element(index: Index) -> Expr:
        *batch, i, j = index
        if inner == PROMPTS:
            x, y = a.at((*batch, i, 0)), b.at((*batch, 0, j))
            return builder.over_prompts(builder.binary("*", x, y))
        return builder.sum(
            [range(inner)], lambda k: builder.binary("*", a.at((*batch, i, *k)), b.at((*batch, *k, j))), type
        )

    return Array(tuple(value.shape), type, element)


POINTWISE: dict[str, Rule] = {
    "add": pointwise(_add_scaled("+")),
    "sub": pointwise(_add_scaled("-")),
    "rsub": pointwise(lambda e, a, b, alpha=1: _add_scaled("-")(e, b, a, alpha)),
    "mul": pointwise(lambda e, a, b: e.binary("*", a, b)),
    "div": pointwise(_quotient),
    "neg": pointwise(lambda e, a: e.binary("-", e.constant(0.0, a.type), a)),
    "reciprocal": pointwise(lambda e, a: e.binary("/", e.constant(1.0, a.type), a)),
    "rsqrt": pointwise(lambda e, a: e.binary("/", e.constant(1.0, a.type), e.call("sqrt", a))),
    "pow": pointwise(_power),
    "abs": pointwise(
        lambda e, a: e.choose(e.compare("<", a, e.constant(0.0, a.type)), e.binary("-", e.constant(0.0, a.type), a), a)
    ),
    "sign": pointwise(_sign),
    "sgn": pointwise(_sign),
    "relu": pointwise(lambda e, a: e.choose(e.compare("<", a, e.constant(0.0, a.type)), e.constant(0.0, a.type), a)),
    "maximum": pointwise(_extreme(">")),
    "minimum": pointwise(_extreme("<")),
    **{name: pointwise(lambda e, a, f=name: e.call(f, a)) for name in ("sqrt", "exp", "log", "sin", "cos", "tanh")},
    **{
        name: pointwise(lambda e, a, b, s=sign: e.compare(s, a, b), promote=True)
        for name, sign in (("eq", "=="), ("ne", "!="), ("lt", "<"), ("le", "<="), ("gt", ">"), ("ge", ">="))
    },
    "isfinite": pointwise(_finite, promote=True),
    "isnan": pointwise(lambda e, a: e.compare("!=", a, a), promote=True),
    **{name: pointwise(_logical("&")) for name in ("logical_and", "bitwise_and", "__and__")},
    **{name: pointwise(_logical("|")) for name in ("logical_or", "bitwise_or", "__or__")},
    **{name: pointwise(lambda e, a: e.negate(a)) for name in ("logical_not", "bitwise_not")},
    "where": where,
    "masked_fill": masked_fill,
    "copy": copy,
    "fill": lambda e, value, x, number: broadcast(as_array(e, number, cpp_type(value)), value.shape),
    "threshold_backward": pointwise(
        lambda e, g, x, bound: e.choose(e.compare(">", x, bound), g, e.constant(0.0, g.type))
    ),
    "tanh_backward": pointwise(
        lambda e, g, y: e.binary("*", g, e.binary("-", e.constant(1.0, y.type), e.binary("*", y, y)))
    ),
    "sigmoid": pointwise(_sigmoid),
    "sigmoid_backward": pointwise(
        lambda e, g, y: e.binary("*", g, e.binary("*", y, e.binary("-", e.constant(1.0, y.type), y)))
    ),
    "_to_copy": cast,
}
CONSTANT: dict[str, Rule] = {
    "arange": arange,
    **{name: full for name in ("full", "full_like", "new_full", "scalar_tensor")},
    **{
        name: lambda e, value, *_, **__: filled(e, value, 0)
        for name in ("zeros", "zeros_like", "new_zeros", "empty", "empty_like", "new_empty")
    },
    **{name: lambda e, value, *_, **__: filled(e, value, 1) for name in ("ones", "ones_like", "new_ones")},
}
RULES: dict[str, Rule] = {
    **POINTWISE,
    **CONSTANT,
    **VIEWS,
    **JOINING,
    "sum": reduce_sum,
    "mean": mean,
    "linalg_vector_norm": norm,
    "mm": matmul,
    "bmm": matmul,
}
