"""Solvers. To add one: a file here and a line in SOLVERS, or its name `package.module:Class` in a sweep."""

from .base import Fitted, FittedBound, Method, Normal, Oracle, Params, Problem, Residual, Solver, Span, TokenModel
from .best_krylov import BestKrylov
from .best_lfom import BestLfom
from .chebyshev import Chebyshev
from .conjugate_gradient import ConjugateGradient
from .context_mixture import ContextMixture
from .estimated import Estimated
from .gd_plus_plus import GdPlusPlus
from .gradient_descent import GradientDescent
from .l_bfgs import LBfgs
from .lfom import Lfom
from .linear_transformer import LinearTransformer
from .memformer import Memformer
from .mixture import Mixture
from .momentum import HeavyBall, Nesterov
from .newton import Bayes, Newton, Ridge
from .simulate import coefficients_of, compile_lfom
from .softmax_transformer import SoftmaxTransformer

SOLVERS: dict[str, type[Solver]] = {
    "bayes": Bayes,
    "best_krylov": BestKrylov,
    "best_lfom": BestLfom,
    "chebyshev": Chebyshev,
    "conjugate_gradient": ConjugateGradient,
    "context_mixture": ContextMixture,
    "estimated": Estimated,
    "gd_plus_plus": GdPlusPlus,
    "gradient_descent": GradientDescent,
    "heavy_ball": HeavyBall,
    "l_bfgs": LBfgs,
    "lfom": Lfom,
    "linear_transformer": LinearTransformer,
    "memformer": Memformer,
    "mixture": Mixture,
    "nesterov": Nesterov,
    "newton": Newton,
    "ridge": Ridge,
    "softmax_transformer": SoftmaxTransformer,
}

__all__ = [
    "SOLVERS",
    "Bayes",
    "BestKrylov",
    "BestLfom",
    "Chebyshev",
    "ConjugateGradient",
    "ContextMixture",
    "Estimated",
    "Fitted",
    "FittedBound",
    "GdPlusPlus",
    "GradientDescent",
    "HeavyBall",
    "LBfgs",
    "Lfom",
    "LinearTransformer",
    "Memformer",
    "Method",
    "Mixture",
    "Nesterov",
    "Newton",
    "Normal",
    "Oracle",
    "Params",
    "Problem",
    "Residual",
    "Ridge",
    "SoftmaxTransformer",
    "Solver",
    "Span",
    "TokenModel",
    "coefficients_of",
    "compile_lfom",
]
