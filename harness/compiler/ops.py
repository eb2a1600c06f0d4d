"""Rules for pointwise operations and reductions, and the table of the rules for all operations of a traced step.

A rule describes an operation by what it computes for a single element of the result: see `ops_views.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor

from .emitter import Emitter
from .ir import PROMPT, PROMPTS, Array, Index, NotLowerable, Operand, constant
from .ops_joining import JOINING
from .ops_views import VIEWS, Rule, as_array, broadcast, cast, cpp_type, filled


def pointwise(scalar: Callable[..., Operand], *, promote: bool = False) -> Rule:
    """The rule that applies a scalar function at every index, with broadcasting.

    promote: cast the operands to the highest of their own types, for a result that is a condition; else to its type.
    """

    def rule(emitter: Emitter, value: Tensor, *operands: Any, **options: Any) -> Array:
        result = cpp_type(value)
        arrays = [x for x in operands if isinstance(x, Array)]
        operand_type = max((x.type for x in arrays), key=_PROMOTION.index) if promote else result
        spread = [broadcast(as_array(x, operand_type), value.shape) for x in operands]
        return Array(
            tuple(value.shape),
            result,
            lambda index: scalar(emitter, *(emitter.cast(x.at(index), operand_type) for x in spread), **options),
        )

    return rule


_PROMOTION = ["bool", "int64_t", "float", "double"]  # from the lowest type to the highest


def _add_scaled(sign: str) -> Callable[..., Operand]:
    """The scalar function `a sign alpha b`, for + and -."""

    def scalar(emitter: Emitter, a: Operand, b: Operand, alpha: float = 1) -> Operand:
        return emitter.binary(sign, a, b if alpha == 1 else emitter.binary("*", b, constant(alpha, b.type)))

    return scalar


def _power(emitter: Emitter, a: Operand, b: Operand) -> Operand:
    if b.value == 2:
        return emitter.binary("*", a, a)
    if b.value == 0.5:
        return emitter.call("f_sqrt", a)
    if b.value is not None and b.value == int(b.value) and 0 < b.value <= 8:
        power = a
        for _ in range(int(b.value) - 1):
            power = emitter.binary("*", power, a)
        return power
    if (a.level | b.level) & PROMPT:
        raise NotLowerable(f"a power of {b.code} for every prompt")
    return emitter.emit(f"__builtin_pow({a.code}, {b.code})", [a, b], a.type)


def _finite(emitter: Emitter, a: Operand) -> Operand:
    return emitter.compare("==", emitter.emit(f"{a.code} - {a.code}", [a], a.type), constant(0.0, a.type))


def _sign(emitter: Emitter, a: Operand) -> Operand:
    zero, one = constant(0.0, a.type), constant(1.0, a.type)
    not_positive = emitter.choose(emitter.compare("<", a, zero), constant(-1.0, a.type), zero)
    return emitter.choose(emitter.compare(">", a, zero), one, not_positive)


def _sigmoid(emitter: Emitter, a: Operand) -> Operand:
    one = constant(1.0, a.type)
    exponential = emitter.call("f_exp", emitter.binary("-", constant(0.0, a.type), a))
    return emitter.binary("/", one, emitter.binary("+", one, exponential))


def _extreme(sign: str) -> Callable[..., Operand]:
    return lambda emitter, a, b: emitter.choose(emitter.compare(sign, a, b), a, b)


def _logical(sign: str) -> Callable[..., Operand]:
    return lambda emitter, a, b: emitter.compare(sign, a, b)


def where(emitter: Emitter, value: Tensor, condition: Array, a: Any, b: Any) -> Array:
    """The elements of a where the condition holds, else those of b."""
    type, shape = cpp_type(value), tuple(value.shape)
    conditions, first, second = (broadcast(as_array(x, type), shape) for x in (condition, a, b))

    def element(index: Index) -> Operand:
        operands = (emitter.cast(x.at(index), type) for x in (first, second))
        return emitter.choose(conditions.at(index), *operands)

    return Array(shape, type, element)


def masked_fill(emitter: Emitter, value: Tensor, x: Array, mask: Array, number: Any) -> Array:
    """The array with its elements replaced by a number where the mask holds."""
    return where(emitter, value, mask, number, x)


def copy(emitter: Emitter, value: Tensor, x: Array, source: Array, *_: Any) -> Array:
    """The source of a copy into x, with the shape and type of x."""
    return cast(emitter, value, broadcast(source, value.shape))


def full(emitter: Emitter, value: Tensor, *arguments: Any, **options: Any) -> Array:
    """An array with the same number everywhere: the last number among the arguments, or 0."""
    number = next((x for x in reversed(arguments) if isinstance(x, int | float)), 0)
    return filled(value, number)


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
    emitter: Emitter, value: Tensor, x: Array, axes: Any = None, keep: bool = False, **options: Any
) -> Array:
    """The sum over axes, over the prompts' axis last."""
    reduced = reduced_axes(axes, len(x.shape))
    prompts = any(x.shape[a] == PROMPTS for a in reduced)
    ranges = [range(x.shape[a]) for a in reduced if x.shape[a] != PROMPTS]
    type = cpp_type(value)

    def element(index: Index) -> Operand:
        kept = [i for a, i in enumerate(index) if a not in reduced] if keep else list(index)
        total = emitter.sum(ranges, lambda inner: emitter.cast(x.at(_term(x.shape, reduced, inner, kept)), type), type)
        return emitter.over_prompts(total) if prompts else total

    return Array(tuple(value.shape), type, element)


def mean(emitter: Emitter, value: Tensor, x: Array, axes: Any = None, keep: bool = False, **options: Any) -> Array:
    """The mean over axes; the prompts' axis must not be among them."""
    reduced = reduced_axes(axes, len(x.shape))
    if any(x.shape[a] == PROMPTS for a in reduced):
        raise NotLowerable("a mean over prompts: say a sum, divided by their number")
    summed = reduce_sum(emitter, value, x, axes, keep)
    count = constant(math.prod(x.shape[a] for a in reduced), summed.type)
    return Array(summed.shape, summed.type, lambda index: emitter.binary("/", summed.at(index), count))


def norm(
    emitter: Emitter, value: Tensor, x: Array, order: float = 2, axes: Any = None, keep: bool = False, **_: Any
) -> Array:
    """The Euclidean norm over axes; raises NotLowerable for other orders than 2."""
    if order != 2:
        raise NotLowerable(f"a norm of order {order}")
    square = Array(x.shape, x.type, lambda index: emitter.binary("*", x.at(index), x.at(index)))
    summed = reduce_sum(emitter, value, square, axes, keep)
    return Array(summed.shape, summed.type, lambda index: emitter.call("f_sqrt", summed.at(index)))


def matmul(emitter: Emitter, value: Tensor, a: Array, b: Array) -> Array:
    """The matrix product of the last two axes, by batch; the prompts' axis may be among them."""
    type, inner = cpp_type(value), a.shape[-1]

    def element(index: Index) -> Operand:
        *batch, i, j = index
        if inner == PROMPTS:
            x, y = a.at((*batch, i, 0)), b.at((*batch, 0, j))
            return emitter.over_prompts(emitter.binary("*", x, y))
        return emitter.sum(
            [range(inner)], lambda k: emitter.binary("*", a.at((*batch, i, *k)), b.at((*batch, *k, j))), type
        )

    return Array(tuple(value.shape), type, element)


POINTWISE: dict[str, Rule] = {
    "add": pointwise(_add_scaled("+")),
    "sub": pointwise(_add_scaled("-")),
    "rsub": pointwise(lambda e, a, b, alpha=1: _add_scaled("-")(e, b, a)),
    "mul": pointwise(lambda e, a, b: e.binary("*", a, b)),
    "div": pointwise(lambda e, a, b: e.binary("/", a, b)),
    "neg": pointwise(lambda e, a: e.binary("-", constant(0.0, a.type), a)),
    "reciprocal": pointwise(lambda e, a: e.binary("/", constant(1.0, a.type), a)),
    "rsqrt": pointwise(lambda e, a: e.binary("/", constant(1.0, a.type), e.call("f_sqrt", a))),
    "pow": pointwise(_power),
    "abs": pointwise(
        lambda e, a: e.choose(e.compare("<", a, constant(0.0, a.type)), e.binary("-", constant(0.0, a.type), a), a)
    ),
    "sign": pointwise(_sign),
    "sgn": pointwise(_sign),
    "relu": pointwise(lambda e, a: e.choose(e.compare("<", a, constant(0.0, a.type)), constant(0.0, a.type), a)),
    "maximum": pointwise(_extreme(">")),
    "minimum": pointwise(_extreme("<")),
    **{
        name: pointwise(lambda e, a, f=f"f_{name}": e.call(f, a))
        for name in ("sqrt", "exp", "log", "sin", "cos", "tanh")
    },
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
    "fill": lambda e, value, x, number: broadcast(as_array(number, cpp_type(value)), value.shape),
    "threshold_backward": pointwise(
        lambda e, g, x, bound: e.choose(e.compare(">", x, bound), g, constant(0.0, g.type))
    ),
    "tanh_backward": pointwise(
        lambda e, g, y: e.binary("*", g, e.binary("-", constant(1.0, y.type), e.binary("*", y, y)))
    ),
    "sigmoid": pointwise(_sigmoid),
    "sigmoid_backward": pointwise(
        lambda e, g, y: e.binary("*", g, e.binary("*", y, e.binary("-", constant(1.0, y.type), y)))
    ),
    "_to_copy": cast,
}
CONSTANT: dict[str, Rule] = {
    **{name: full for name in ("full", "full_like", "new_full", "scalar_tensor")},
    **{
        name: lambda e, value, *_, **__: filled(value, 0)
        for name in ("zeros", "zeros_like", "new_zeros", "empty", "empty_like", "new_empty")
    },
    **{name: lambda e, value, *_, **__: filled(value, 1) for name in ("ones", "ones_like", "new_ones")},
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
