"""Named tasks: those of the paper, and variants, each of which departs from them in one respect.

In a sweep, a name stands for its task; fields given with the name replace the task's: `- figure_1: {n: 40}`.
"""

from __future__ import annotations

from .base import Task
from .linear_regression import LinearRegression
from .teachers import LogisticRegression, QuadraticRegression, ReluNetwork, SineFeatures

SPECTRUM = (1.0, 1.0, 0.5, 0.25, 1.0)

CATALOG: dict[str, Task] = {
    "figure_1": LinearRegression(d=5, n=20, spectrum=SPECTRUM),
    "isotropic": LinearRegression(d=5, n=20),
    "rotated_prompts": LinearRegression(d=5, n=20, spectrum=SPECTRUM, rotation="per_prompt"),
    "noisy": LinearRegression(d=5, n=20, spectrum=SPECTRUM, noise=0.5),
    "heteroscedastic": LinearRegression(d=5, n=20, spectrum=SPECTRUM, noise=0.5, heteroscedastic=True),
    "sparse": LinearRegression(d=5, n=20, spectrum=SPECTRUM, weights="sparse", support=2.0),
    "sphere": LinearRegression(d=5, n=20, spectrum=SPECTRUM, covariates="sphere"),
    "uniform": LinearRegression(d=5, n=20, spectrum=SPECTRUM, covariates="uniform"),
    "heavy_tails": LinearRegression(d=5, n=20, spectrum=SPECTRUM, covariates="student_t", degrees=5),
    "skewed": LinearRegression(d=5, n=20, spectrum=SPECTRUM, covariates="gamma", degrees=2),
    "correlated": LinearRegression(d=5, n=20, spectrum=SPECTRUM, correlation=0.7),
    "underdetermined": LinearRegression(d=20, n=10),
    "quadratic_teacher": QuadraticRegression(d=5, n=20, spectrum=SPECTRUM),
    "relu_teacher": ReluNetwork(d=5, n=20, spectrum=SPECTRUM),
    "sine_teacher": SineFeatures(d=5, n=20, spectrum=SPECTRUM),
    "logistic": LogisticRegression(d=5, n=20, spectrum=SPECTRUM),
}
