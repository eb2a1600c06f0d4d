"""Labels of solvers and tasks."""

from __future__ import annotations

from dataclasses import replace

from lfombench.harness import PROTOCOLS
from lfombench.harness.spec.labels import label
from lfombench.harness.spec.protocol import Expert
from lfombench.solvers import LinearTransformer, Mixture
from lfombench.tasks import LinearRegression


def expert(scale: float, noise: float = 0.0, depth: int = 2) -> Expert:
    solver = LinearTransformer(depth=depth, preconditioner="full")
    task = LinearRegression(d=3, n=6, spectrum=(scale,) * 3, noise=noise)
    return Expert(solver=solver, task=task, protocol=PROTOCOLS["published"])


def test_labels_say_what_tells_experts_apart_and_are_the_same_at_every_depth():
    one, two = (expert(1.0), expert(2.0)), (expert(1.0, noise=0.5), expert(2.0, noise=0.5))
    first, second = (label(Mixture(depth=2, experts=experts)) for experts in (one, two))
    assert first.startswith("mixture(experts=[spectrum=[1, 1, 1], spectrum=[2, 2, 2]] #")
    assert first != second
    assert first.partition("#")[0] == second.partition("#")[0]
    deeper = [replace(e, solver=replace(e.solver, depth=3)) for e in one]
    assert label(Mixture(depth=3, experts=tuple(deeper))) == first
