"""Every solver: how long its test takes, until it runs as machine code and then, against the test as it is written.

From an empty cache, for as many jobs as a case usually has seeds: 20,480 prompts each, in float64, and those on which a
solver that trains is validated, as the program is the same. Theirs is all of it run eagerly; ours what `auto` makes of
it, compilation included. In the note: the same again, when it is compiled.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from timing import Row, timed

from lfombench.harness import PROTOCOLS, Job
from lfombench.harness.compiler import cache, census, native
from lfombench.harness.compiler.step import Tensors
from lfombench.harness.training.closed_form import fit
from lfombench.harness.training.evaluate import CHUNK, calls, measure, test
from lfombench.harness.training.pack import Pack, WorkOrder
from lfombench.harness.training.training_step import initial
from lfombench.solvers import (
    Bayes,
    BestKrylov,
    BestLfom,
    Chebyshev,
    ConjugateGradient,
    GdPlusPlus,
    GradientDescent,
    HeavyBall,
    LBfgs,
    Lfom,
    LinearTransformer,
    Memformer,
    Nesterov,
    Newton,
    Ridge,
    SoftmaxTransformer,
    Solver,
)
from lfombench.tasks import LinearRegression

CPU = torch.device("cpu")
SEEDS = 5
SIZES = ((4, 5, 20480), (32, 20, 20480), (32, 64, 2048))  # depth, d, prompts
LARGE = 64  # from this d on without the prompts of validation, which would take GD++ an hour
FEW = {5: 2048, 20: 2048, 64: 64}  # prompts of the eager test, by d: all of them would take minutes


def solvers(depth: int) -> list[Solver]:
    full: dict[str, Any] = {"depth": depth, "preconditioner": "full"}
    return [
        GradientDescent(depth=depth, step="theory"),
        HeavyBall(depth=depth, step="theory", momentum="theory"),
        Nesterov(depth=depth, step="theory", momentum="theory"),
        Chebyshev(depth=depth, interval="theory"),
        ConjugateGradient(depth=depth),
        ConjugateGradient(depth=depth, preconditioner="jacobi"),
        LBfgs(depth=depth),
        Newton(depth=depth),
        Ridge(depth=depth, penalty=0.1),
        Bayes(depth=depth),
        BestKrylov(depth=depth, preconditioner="identity"),
        BestLfom(depth=depth, preconditioner="identity"),
        Lfom(depth=depth, coefficients="diagonal"),
        LinearTransformer(**full),
        Memformer(memory="cgd", **full),
        Memformer(memory="lfom", **full),
        GdPlusPlus(depth=depth),
        SoftmaxTransformer(depth=depth),
    ]


def order(solver: Solver, d: int, prompts: int, jobs: int = SEEDS) -> WorkOrder:
    task = LinearRegression(d=d, n=2 * d, noise=0.1)
    protocol = replace(PROTOCOLS["rigorous"], test_prompts=prompts, learning_rates=(0.01,))
    return WorkOrder(
        Pack(tuple(Job.of(task=task, solver=solver, protocol=protocol, seed=seed) for seed in range(jobs)))
    )


def measured(given: WorkOrder, params: Tensors, prompts: int) -> None:
    """Measure a solver's errors on all prompts that share the program of its test."""
    test(given, params, None, CPU)
    rest = prompts - given.first.protocol.test_prompts
    if rest > 0:
        measure(given, params, [job.task for job in given.jobs], "validation", rest, CPU)


def row(solver: Solver, d: int, prompts: int) -> Row:
    given = order(solver, d, prompts)
    total = calls(given.first) * CHUNK if solver.trains and d < LARGE else prompts
    params = {} if not solver.fits else fit(replace(given, engine="eager"), CPU, 5000).params
    if solver.family == "learned":
        params = {name: p[0] for name, p in initial(given, CPU).items()}
    with tempfile.TemporaryDirectory() as empty, pytest.MonkeyPatch.context() as patch:
        patch.setattr(cache, "folder", lambda folder=Path(empty): folder)
        for known in (native.program, native.counts, native.lowering_of, census.remembered):
            known.cache_clear()
        first = timed(lambda: measured(given, params, total))
        again = timed(lambda: measured(given, params, total))
    few = FEW[d]
    part = replace(order(solver, d, few), engine="eager")
    eager = timed(lambda: test(part, params, None, CPU)) * total / few
    kind = f"({solver.memory})" if isinstance(solver, Memformer) else ""
    kind = "(jacobi)" if getattr(solver, "preconditioner", None) == "jacobi" else kind
    name = f"ready: {type(solver).__name__}{kind}, depth {solver.depth}, d = {d}, {total:,} prompts"
    note = f"then {again:.2g} s; eagerly from {few:,} prompts"
    return Row(name, "s", eager, first, eager / first, None, None, 1.0, note)


def rows() -> list[Row]:
    torch.set_num_threads(1)
    found = [row(GradientDescent(depth=1, step="theory"), 20, 20480)][1:]  # imports, and the random streams
    cases = [(solver, d, prompts) for depth, d, prompts in SIZES for solver in solvers(depth)]
    cases += [(solver, 20, 20480) for solver in (ConjugateGradient(depth=20), LBfgs(depth=20))]
    for solver, d, prompts in cases:
        begin = time.perf_counter()
        found.append(row(solver, d, prompts))
        print(f"{found[-1].work}: {found[-1].theirs:.2f} {found[-1].ours:.2f} s, {found[-1].note}", flush=True)
        assert time.perf_counter() - begin < 600
    return found


if __name__ == "__main__":
    rows()
