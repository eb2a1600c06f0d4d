"""Methods. A new one is a file here and a line in SOLVERS, or `package.module:Class` in a sweep."""

from .base import Method, Normal, Params, Problem, Residual
from .best_lfom import BestLfom
from .conjugate_gradient import ConjugateGradient
from .gradient_descent import GradientDescent
from .linear_transformer import LinearTransformer
from .memformer import Memformer

SOLVERS: dict[str, type[Method]] = {
    "best_lfom": BestLfom,
    "conjugate_gradient": ConjugateGradient,
    "gradient_descent": GradientDescent,
    "linear_transformer": LinearTransformer,
    "memformer": Memformer,
}

__all__ = [
    "SOLVERS",
    "BestLfom",
    "ConjugateGradient",
    "GradientDescent",
    "LinearTransformer",
    "Memformer",
    "Method",
    "Normal",
    "Params",
    "Problem",
    "Residual",
]
