"""What the store and the scheduler can take: rows committed, files, plans of a million jobs.

The jobs are real ones, their results made up: what is timed is what happens to them, not what they are.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from statistics import median
from typing import TypeVar

import numpy as np
import pyarrow as pa
from timing import Row, spread

from lfombench.harness import Job, Sweep, load
from lfombench.harness.driver.committer import Committer
from lfombench.harness.scheduler.packing import PlannedPack
from lfombench.harness.spec.fingerprint import code
from lfombench.harness.store import schema
from lfombench.harness.store.outcome import Outcome
from lfombench.harness.store.store import Store
from lfombench.harness.training.pack import Pack

MILLION = """\
name: million
protocol: rigorous
seeds: 25000
tasks: [linear_regression: {d: 5, n: 20, noise: {each: [0.0, 0.1, 0.2, 0.5, 1.0]}}]
solvers:
  - linear_transformer: {preconditioner: {each: [scalar, full]}, depth: {each: [1, 2, 3, 4]}}
"""
T = TypeVar("T")
WIDTH = 64  # jobs in a pack
WATCHED = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)
"""  # in between: a child counts what its parent held when it was forked


def made_up(jobs: Sequence[Job], seed: int) -> dict[str, pa.Table]:
    """The tables of a pack of these jobs."""
    random, case = np.random.default_rng(seed), jobs[0].case
    names = case.names | {"code": code(case), "status": "done"}
    steps = case.solver.depth + 1
    ids = [job.id for job in jobs]
    seeds = [job.seed for job in jobs]
    pack = f"{seed:020x}"
    results = {
        "job": pa.array(ids).take(np.repeat(np.arange(len(jobs)), steps)),
        "seed": np.repeat(seeds, steps),
        "step": np.tile(np.arange(steps), len(jobs)),
        "test": case.names["task"],
        "family": "learned",
        "blocks": pa.FixedSizeListArray.from_arrays(random.random(len(jobs) * steps * schema.BLOCKS), schema.BLOCKS),
    }
    measured = ("mse", "log_mse", "mse_normalised", "median", "q90", "q99", "failure_rate")
    results |= {name: random.random(len(jobs) * steps) for name in measured}
    own = {
        "job": ids,
        "seed": seeds,
        "pack": pack,
        "pack_jobs": len(jobs),
        "structure": case.structure[:20],
        "device": "cpu",
        "prior_seconds": 1.0,
        "pack_seconds": float(random.lognormal()),
        "prior_memory": 1e6,
        "pack_memory": 1e6,
        "spec": [job.spec for job in jobs],
        "finished": datetime.now(UTC),
    }
    points = 50
    curves = {
        "job": pa.array(ids).take(np.repeat(np.arange(len(jobs)), points)),
        "step": np.tile(np.arange(points), len(jobs)),
        "loss": random.random(len(jobs) * points),
        "gradient_norm": random.random(len(jobs) * points),
    }
    tables = {"results": names | results, "jobs": names | own, "curves": curves, "weights": {}}
    return {name: _table(name, columns) for name, columns in tables.items()}


def _table(name: str, columns: dict[str, object]) -> pa.Table:
    """A table from columns; a value that is not one is repeated, and a column that is not given is null."""
    rows = max((len(c) for c in columns.values() if not isinstance(c, str) and hasattr(c, "__len__")), default=0)
    made = []
    for field in schema.arrow(name):
        given = columns.get(field.name)
        if given is None or not rows:
            made.append(pa.nulls(rows, field.type))
        elif isinstance(given, str) or not hasattr(given, "__len__"):
            made.append(pa.repeat(pa.scalar(given, field.type), rows))
        else:
            made.append(pa.array(given).cast(field.type) if not isinstance(given, pa.Array) else given.cast(field.type))
    return pa.table(made, schema.arrow(name))


def outcomes(jobs: Iterator[Job]) -> Iterator[tuple[PlannedPack, Outcome]]:
    """Packs and what came of them."""
    for i, some in enumerate(parts(jobs, WIDTH)):
        yield PlannedPack(Pack(some)), Outcome(f"{i:020x}", made_up(some, i), len(some))


def committed(folder: Path, rounds: int = 5) -> list[Row]:
    """Rows that a writer commits, from the first pack until all are on disk and merged: with curves, and without."""
    sweep = million(folder)
    with_curves = list(outcomes(islice(sweep.jobs(), 0, 200_000, 4)))
    tables = [{**outcome.tables, "curves": outcome.tables["curves"].slice(0, 0)} for _, outcome in with_curves]
    bare = [(pack, replace(one, tables=t)) for (pack, one), t in zip(with_curves, tables, strict=True)]
    found = []
    for name, given in (("with training curves", with_curves), ("results and jobs alone", bare)):
        rows = sum(table.num_rows for _, outcome in given for table in outcome.tables.values())
        rates = []
        for i in range(rounds):
            store = Store(str(folder / f"{name.replace(' ', '-')}-{i}"))
            store.create()
            begin = time.perf_counter()
            with Committer(store) as writer:
                for pack, outcome in given:
                    writer.put(pack, outcome)
            rates.append(rows / (time.perf_counter() - begin))
        note = f"{rows:,} rows of {len(given)} packs, durable and merged; {spread(rates)}"
        found.append(Row(f"rows into the store, {name}", "rows/s", None, median(rates), None, None, None, 1e5, note))
    return found


def plan(folder: Path) -> list[Row]:
    """The command `plan` on a million jobs, of which nine in ten have results."""
    sweep = million(folder)
    store = Store(str(folder / "million"))
    store.create()
    for part in parts(outcomes(islice(sweep.jobs(), 900_000)), 1024):
        store.commit([outcome for _, outcome in part])
    command = [sys.executable, "-c", WATCHED, sys.executable, "-m", "lfombench", "plan"]
    command += [str(folder / "million.yaml"), "--json", "--out", str(folder / "million")]
    begin = time.perf_counter()
    told = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds = time.perf_counter() - begin
    found = json.loads(told.stdout)
    assert (found["jobs"], found["done"]) == (1_000_000, 900_000), found
    gigabytes = int(told.stderr.split()[-1]) / 1e6
    note = f"{len(found['packs'])} packs; the command in a process of its own"
    work = "plan of 1,000,000 jobs, 900,000 done"
    return [
        Row(work, "s", None, seconds, None, None, None, 30, note),
        Row(f"{work}, peak of memory", "GB", None, gigabytes, None, None, None, 1.0, note),
    ]


def parts(items: Iterable[T], size: int) -> Iterator[tuple[T, ...]]:
    """So many at a time."""
    left = iter(items)
    while part := tuple(islice(left, size)):
        yield part


def million(folder: Path) -> Sweep:
    path = folder / "million.yaml"
    path.write_text(MILLION)
    return load(str(path))


def rows() -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        return [*committed(Path(folder)), *plan(Path(folder))]


if __name__ == "__main__":
    for row in rows():
        print(row)
