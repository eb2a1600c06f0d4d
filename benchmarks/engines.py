"""A training step of a 4-layer Memformer, full preconditioners, d = 5 ... 100: packs against every other way to run it.

Notebooks, a vmap ensemble of their models, torch.compile and JAX, on one core; on the same prompts throughout, where
losses are compared first, and with prompts drawn for every step. Then the share of the core's multiply-add peak, and
how long an engine takes until its first step is done, from an empty cache and from the one that leaves behind.

    python benchmarks/engines.py ENGINE D fixed|fresh     # seconds until the first step is done
"""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace

import torch
from naive import ensemble, train
from peak import peak
from rivals import Given, Run, by_jax, by_torch
from step import CPU, DEPTH, MEMFORMER, advance, examples_of, naive
from timing import Row, interleaved, timed

from lfombench.harness import PROTOCOLS, Job
from lfombench.harness.training.pack import Pack, WorkOrder
from lfombench.harness.training.training_step import initial
from lfombench.tasks import LinearRegression

SIZES = {5: (20, 1000, 16), 20: (40, 1000, 4), 50: (100, 504, 2), 100: (200, 504, 1)}  # d: n, prompts, jobs
RATE = 0.01
CALL = 500  # steps of a call on the same prompts, as in a training; each call draws them anew
GOALS = {("notebook", 5, False): 1000.0, ("notebook", 5, True): 400.0, ("vmap", 5, False): 10.0}
SHARE = 40.0  # per cent of the multiply-add peak
ONE_CORE = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"


def order(d: int, fresh: bool) -> WorkOrder:
    n, batch, jobs = SIZES[d]
    task = LinearRegression(d=d, n=n, spectrum=tuple((1.0, 1.0, 0.5, 0.25, 1.0)[i % 5] for i in range(d)))
    protocol = replace(PROTOCOLS["published"], batch=batch, data_seed=None, learning_rates=(RATE,))
    if fresh:
        protocol = replace(protocol, renew=1, draw="statistics", query="exact")
    return WorkOrder(
        Pack(tuple(Job.of(task=task, solver=MEMFORMER, protocol=protocol, seed=seed) for seed in range(jobs)))
    )


def given(of: WorkOrder) -> Given:
    """The same jobs for JAX and torch.compile."""
    examples, task = examples_of(of), of.first.task
    batch = examples.prompts(sampled_query=True)
    query, w_star, root = examples.query.mT.contiguous(), batch.w_star.mT, examples.law.root[..., 0].contiguous()
    G, b = (getattr(batch.problem, name).movedim(-1, 1).contiguous() for name in ("G", "b"))
    start = {name: p[0].contiguous() for name, p in initial(of, CPU).items()}
    fresh = root if of.first.protocol.renew else None
    return Given(start, G, b, query, (query * w_star).sum(-1).contiguous(), task.n, RATE, fresh)


def ours(of: WorkOrder) -> Run:
    run, done = advance(of), 0

    def further(count: int) -> list[list[float]]:
        nonlocal done
        losses = run(done, count)["loss"]
        done += count
        return list(losses[:, 0].tolist())

    return further


def notebook(of: WorkOrder) -> Run:
    """One job at a time; the first stands for all."""
    model, Z, target, root = naive(of)
    fresh = root if of.first.protocol.renew else None
    return lambda count: [[loss] for loss in train(model, Z, target, count, RATE, fresh)]


def vmapped(of: WorkOrder) -> Run:
    made = [naive(of, j) for j in range(len(of.jobs))]
    models, (Z, target, root) = [m[0] for m in made], (torch.stack([m[i] for m in made]) for i in (1, 2, 3))
    fresh = root if of.first.protocol.renew else None
    return lambda count: [losses.tolist() for losses in ensemble(models, Z, target, count, RATE, fresh)]


ENGINES: dict[str, Callable[[WorkOrder], Run]] = {
    "notebook": notebook,
    "vmap": vmapped,
    "torch.compile": lambda of: by_torch(given(of)),
    "JAX": lambda of: by_jax(given(of)),
    "ours": ours,
}


def difference(engine: str, of: WorkOrder) -> float:
    """Of an engine's losses from ours, relative: of each of five steps on the same prompts, else of their mean."""
    count = 1 if of.first.protocol.renew else 5
    a, b = (torch.tensor(ENGINES[name](of)(count)) for name in ("ours", engine))
    a = a[:, : b.shape[1]]  # a notebook has one job
    return float(((a - b).abs() / a).max()) if count > 1 else float((a.mean() - b.mean()).abs() / a.mean())


def enough(run: Run) -> int:
    """How many steps, a power of 8, take a twentieth of a second or are enough; so many have run before."""
    count = 1
    while run(count) and timed(functools.partial(run, count)) < 0.05 and count < CALL:
        count *= 8  # JAX compiles for each number of steps
    return count


def against(engine: str, d: int, fresh: bool, rounds: int) -> Row:
    of = order(d, fresh)
    found, jobs = difference(engine, of), len(of.jobs)
    assert found < (0.2 if fresh else 2e-3), f"{engine} does not train the same model: {found}"
    mine, theirs = ours(of), ENGINES[engine](of)
    steps, their_steps = enough(mine) if fresh else CALL, enough(theirs)
    note = counted(jobs) + ("" if fresh else f"; losses agree to {found:.0e}")
    return interleaved(
        f"{name(d, fresh)}, against {engine}",
        GOALS.get((engine, d, fresh)),
        ours=(lambda: mine(steps), steps * jobs),
        theirs=(lambda: theirs(their_steps), their_steps * (1 if engine == "notebook" else jobs)),
        rounds=rounds,
        note=note,
    )


def name(d: int, fresh: bool) -> str:
    n, batch, _ = SIZES[d]
    return f"d = {d}, n = {n}, {batch:,} prompts, {'fresh' if fresh else 'fixed'}"


def counted(jobs: int) -> str:
    return "1 job" if jobs == 1 else f"{jobs} jobs"


def share(d: int, rounds: int) -> Row:
    """Of the useful operations: B d^2 multiply-adds for each G w, A g, their transposes, and the gradient of A."""
    of, measure = order(d, False), peak()
    run, batch, jobs = ours(of), of.first.protocol.batch, len(of.jobs)
    run(1)
    operations = 2.0 * batch * d**2 * (3 * DEPTH + 2 * (DEPTH - 1)) * jobs
    pairs = [(measure(), operations * CALL / timed(lambda: run(CALL))) for _ in range(rounds)]
    top, reached = (statistics.median(x) / 1e9 for x in zip(*pairs, strict=True))
    percent = statistics.median(100 * b / a for a, b in pairs)
    note = f"{reached:.0f} of {top:.0f} GFLOP/s in float32"
    goal = SHARE if d >= 20 else None
    return Row(f"{name(d, False)}: share of the multiply-add peak", "%", None, percent, None, None, None, goal, note)


def ready(engine: str, d: int, fresh: bool, cache: str) -> float:
    """Seconds in a process of its own, its imports left out."""
    folders = {"LFOMBENCH_CACHE": "ours", "TORCHINDUCTOR_CACHE_DIR": "inductor", "JAX_COMPILATION_CACHE_DIR": "jax"}
    always = {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1"}
    environment = os.environ | {key: os.path.join(cache, folder) for key, folder in folders.items()} | always
    command = [sys.executable, __file__, engine, str(d), "fresh" if fresh else "fixed"]
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    return float(json.loads(said.splitlines()[-1]))


def readiness(engines: list[str], d: int, fresh: bool) -> list[Row]:
    found: dict[str, list[float]] = {}
    for engine in [*engines, "ours"]:
        with tempfile.TemporaryDirectory() as cache:
            found[engine] = [ready(engine, d, fresh, cache) for _ in range(2)]
    rows = []
    for engine in engines:
        for state, theirs, mine in zip(("empty", "filled"), found[engine], found["ours"], strict=True):
            work = f"{name(d, fresh)}: the first step, cache {state}, against {engine}"
            rows.append(Row(work, "s", theirs, mine, theirs / mine, None, None, None))
    return rows


def rows(rounds: int) -> list[Row]:
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    os.environ["XLA_FLAGS"] = ONE_CORE
    torch.set_num_threads(1)
    compilers = ["torch.compile", "JAX"]
    if importlib.util.find_spec("jax") is None:
        print("engines: JAX skipped, it is not installed: pip install -e '.[bench]'")
        compilers.remove("JAX")
    try:
        found = []
        for d in SIZES:
            for fresh in (False, True):
                for engine in ("notebook", "vmap", *compilers):
                    found.append(against(engine, d, fresh, rounds))
                    print(found[-1], flush=True)
        found += [share(d, rounds) for d in SIZES]
        for d in SIZES:
            for fresh in (False, True):
                found += readiness(compilers, d, fresh)
                print(*found[-2 * len(compilers) :], sep="\n", flush=True)
        return found
    finally:
        os.sched_setaffinity(0, cores)


def main(engine: str, d: str, prompts: str) -> None:
    torch.set_num_threads(1)
    of = order(int(d), prompts == "fresh")
    if engine == "JAX":
        import jax

        jax.devices()
    print(json.dumps(timed(lambda: ENGINES[engine](of)(1))))


if __name__ == "__main__":
    main(*sys.argv[1:])
