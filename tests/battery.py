"""Every solver, as tests of all of them take it. A new one is a line in CASES."""

from __future__ import annotations

from typing import Any

from lfombench.harness import PROTOCOLS
from lfombench.harness.spec.protocol import Expert
from lfombench.solvers import (
    Bayes,
    BestKrylov,
    BestLfom,
    Chebyshev,
    ConjugateGradient,
    ContextMixture,
    Estimated,
    GdPlusPlus,
    GradientDescent,
    HeavyBall,
    LBfgs,
    Lfom,
    LinearTransformer,
    Memformer,
    Mixture,
    Nesterov,
    Newton,
    Ridge,
    SoftmaxTransformer,
    Solver,
)
from lfombench.tasks import LinearRegression

D, N, DEPTH = 4, 9, 3
SHAPES = ("scalar", "diagonal", "full")


def mixed(*solvers: Solver, **options: Any) -> Mixture:
    task, protocol = LinearRegression(d=D, n=N), PROTOCOLS["rigorous"]
    experts = tuple(Expert(solver=solver, task=task, protocol=protocol) for solver in solvers)
    return Mixture(depth=DEPTH, experts=experts, **options)


LT = LinearTransformer(depth=DEPTH, preconditioner="full")
CASES: list[Solver] = [
    *(ConjugateGradient(depth=DEPTH, preconditioner=p) for p in ("identity", "covariance", "jacobi")),
    *(GradientDescent(depth=DEPTH, step=s) for s in (0.1, "theory", "tuned", "per_layer")),
    *(GradientDescent(depth=DEPTH, step=0.1, preconditioner=p) for p in ("covariance", "jacobi")),
    *(
        method(depth=DEPTH, step=s, momentum=m)
        for method in (HeavyBall, Nesterov)
        for s, m in ((0.1, 0.5), ("theory", "theory"), ("tuned", "per_layer"))
    ),
    *(Chebyshev(depth=DEPTH, interval=i) for i in ((0.1, 3.0), "theory", "tuned")),
    LBfgs(depth=DEPTH, memory=2),
    Newton(depth=DEPTH),
    Ridge(depth=DEPTH),
    Ridge(depth=DEPTH, penalty=0.3),
    Bayes(depth=DEPTH),
    *(Lfom(depth=DEPTH, coefficients=c, tied=t) for c in SHAPES for t in (False, True)),
    *(LinearTransformer(depth=DEPTH, preconditioner=p) for p in SHAPES),
    *(LinearTransformer(depth=DEPTH, preconditioner=p, looped=True) for p in SHAPES),
    *(LinearTransformer(depth=DEPTH, preconditioner=p, heads=2, looped=l) for p in SHAPES for l in (False, True)),
    *(Memformer(depth=DEPTH, memory="cgd", preconditioner=p) for p in SHAPES),
    *(
        Memformer(depth=DEPTH, memory=m, preconditioner=p, gate=g)
        for m, p, g in zip(("lfom", "ungated", "hadamard"), SHAPES, ("diagonal", "scalar", "diagonal"), strict=True)
    ),
    *(Memformer(depth=DEPTH, memory=m, preconditioner="full", free=True) for m in ("lfom", "ungated")),
    Memformer(depth=DEPTH, memory="lfom", preconditioner="scalar", looped=True, heads=3),
    *(GdPlusPlus(depth=DEPTH, memory=m, heads=h) for m, h in (("none", 1), ("none", 2), ("cgd", 1), ("cgd", 2))),
    mixed(LT, Memformer(depth=DEPTH, memory="cgd", preconditioner="diagonal")),
    mixed(LT, Lfom(depth=DEPTH, coefficients="full"), gates="layer", form="softmax"),
    mixed(LT, LT, combine="outputs", form="simplex"),
    mixed(*[GdPlusPlus(depth=DEPTH)] * 2),
    mixed(LT, LT, combine="outputs", by="least_squares"),
    *(
        Estimated(depth=DEPTH, method=method)
        for method in (ConjugateGradient(depth=DEPTH, preconditioner="covariance"), Bayes(depth=DEPTH))
    ),
    *(BestLfom(depth=DEPTH, preconditioner=p) for p in ("identity", "covariance")),
    *(BestKrylov(depth=DEPTH, preconditioner=p) for p in ("identity", "covariance")),
]
TOKENS = [
    ContextMixture(depth=DEPTH, experts=mixed(LT, LT).experts),
    *(GdPlusPlus(depth=DEPTH, memory=m, tokens=True) for m in ("none", "cgd", "lfom")),
    GdPlusPlus(depth=DEPTH, heads=2, tokens=True),
    SoftmaxTransformer(depth=DEPTH),
    LinearTransformer(depth=DEPTH, preconditioner="full", tokens=True),
    *(Memformer(depth=DEPTH, memory=m, preconditioner="full", tokens=True) for m in ("cgd", "lfom", "ungated")),
    *(Memformer(depth=DEPTH, memory=m, preconditioner="full", gate="token") for m in ("lfom", "ungated", "hadamard")),
    Memformer(depth=DEPTH, memory="lfom", preconditioner="diagonal", gate="diagonal", free=True, tokens=True),
]
