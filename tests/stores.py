"""Stores made by hand, as analyses read them."""

from __future__ import annotations

import json
import math

import numpy as np
import pyarrow as pa

from lfombench.analysis.published import FIGURE_1
from lfombench.harness.store import schema
from lfombench.harness.store.store import Store

ZERO = 50.0  # mean squared error of predicting 0


def store(tmp_path, rows, jobs=None, asked=(), failed=(), params=None) -> str:
    """A store by hand: rows of (solver, family, depth, step, seed, log_mse).

    asked: further cases of the sweep, (solver, family, depth, seeds); failed: jobs that failed, (solver, depth, seed);
    params: by solver.
    """
    out = Store(str(tmp_path / "made"))
    out.create()
    filled = [
        {
            "job": f"{solver}-{depth}-{seed}",
            "task": "t",
            "test": "t",
            "protocol": "p",
            "solver": solver,
            "family": family,
            "depth": depth,
            "step": step,
            "seed": seed,
            "log_mse": loss,
            "mse_normalised": None if loss is None else math.exp(loss) / ZERO,
            "params": (params or {}).get(solver, depth),
            "status": "done" if loss is not None else "diverged",
        }
        for solver, family, depth, step, seed, loss in rows
    ]
    lost = [
        {"job": f"{solver}-{depth}-{seed}", "status": "failed", "task": "t", "protocol": "p"}
        | {"solver": solver, "depth": depth, "seed": seed}
        for solver, depth, seed in failed
    ]
    add(out, results=filled, **({"jobs": lost} if lost else {}))
    cases: dict[tuple, set] = {}
    for solver, family, depth, _, seed, _ in rows:
        cases.setdefault((solver, family, depth), set()).add(seed)
    for solver, family, depth, seeds in asked:
        cases.setdefault((solver, family, depth), set()).update(seeds)
    ids = jobs or [f"{solver}-{depth}-{seed}" for (solver, _, depth), seeds in cases.items() for seed in sorted(seeds)]
    wanted = {"name": "made", "about": "", "jobs": ids, "protocols": ["p"], "tests": [], "skipped": []}
    wanted |= {"axis": None, "split": [], "named": {}, "crossover": [], "parts": []}
    wanted["asked"] = [
        {"task": "t", "solver": solver, "family": family, "depth": depth, "protocol": "p", "told": "", "tests": []}
        | {"seeds": sorted(seeds)}
        for (solver, family, depth), seeds in cases.items()
    ]
    out.write("sweeps/made.json", json.dumps(wanted))
    return out.out


def add(store: Store, **tables) -> None:
    """Rows, as a driver would commit them."""
    store.add({name: pa.Table.from_pylist(rows, schema=schema.arrow(name)) for name, rows in tables.items()})


def redrawn(solver: str, step: int, seed: int, draw: int, loss: float, **more) -> dict:
    """A row of a redraw of published prompts."""
    return {
        "job": f"{solver}-{step}-{seed}-{draw}",
        "task": FIGURE_1,
        "test": FIGURE_1,
        "protocol": f"published(data_seed={draw})",
        "solver": solver,
        "family": "classical",
        "depth": 4,
        "step": step,
        "seed": seed,
        "log_mse": loss,
        "mse": float(np.exp(loss)),
        "mse_normalised": 0.1,
        "prompts": 1000,
        "params": 0,
        "status": "done",
    } | more


def by_hand(tmp_path, rows, floors=None, fitted=0) -> str:
    """A store of these rows, and of their jobs."""
    out = store(tmp_path, [])
    jobs = [
        {"status": "done", "floors": (floors or {}).get(row["solver"], []), "budget": fitted}
        | {name: row[name] for name in ("job", "task", "solver", "protocol", "depth", "seed")}
        for row in {row["job"]: row for row in rows}.values()
    ]
    add(Store(out), results=rows, jobs=jobs)
    wanted = {"name": "made", "about": "", "jobs": [job["job"] for job in jobs], "protocols": [], "tests": []}
    with open(f"{out}/sweeps/made.json", "w") as file:
        json.dump(wanted | {"skipped": [], "axis": None, "split": [], "named": {}, "crossover": [], "parts": []}, file)
    return out
