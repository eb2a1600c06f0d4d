"""Methods and token models. A new one is a file here and a line in SOLVERS, or `package.module:Class` in a sweep."""

from .base import Method, Normal, Params, Problem, Residual, Solver, TokenModel, on_tokens
from .best_lfom import BestLfom
from .conjugate_gradient import ConjugateGradient
from .gd_plus_plus import GdPlusPlus
from .gradient_descent import GradientDescent
from .linear_transformer import LinearTransformer
from .memformer import Memformer

SOLVERS: dict[str, type[Solver]] = {
    "best_lfom": BestLfom,
    "conjugate_gradient": ConjugateGradient,
    "gd_plus_plus": GdPlusPlus,
    "gradient_descent": GradientDescent,
    "linear_transformer": LinearTransformer,
    "memformer": Memformer,
}

__all__ = [
    "SOLVERS",
    "BestLfom",
    "ConjugateGradient",
    "GdPlusPlus",
    "GradientDescent",
    "LinearTransformer",
    "Memformer",
    "Method",
    "Normal",
    "Params",
    "Problem",
    "Residual",
    "Solver",
    "TokenModel",
    "on_tokens",
]
