"""All benchmarks: a table on the screen, in results.md and in results.parquet.

    python benchmarks/run.py [--rounds 7] [--only step mixture width ...] [--share 0.02]

A part that is not run keeps its rows from the last time.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import torch
from timing import Row

HERE = Path(__file__).parent
PARTS = {  # and what is said above its rows
    "engines": "A step of a 4-layer Memformer, full preconditioners, in its form for long runs, against other engines",
    "step": "A training step of other models, d = 5, 1,000 prompts, against notebooks",
    "mixture": "Mixtures of experts, against notebooks",
    "ready": "Every solver, from an empty cache until its test of five jobs is done, against the same test eagerly",
    "width": "Packs against a pack of one job",
    "scaling": "Cores",
    "grid": "A training step against what operations and bandwidth allow",
    "ledger": "The store and the planner",
    "analysis": "Reading a store of ten million rows; times of two cores",
    "view": "MLflow",
    "noop": "Jobs that do nothing",
    "scheduler": "The scheduler",
    "simulation": "A cluster that is pretended, through the real scheduling code",
    "driver": "A driver of many workers",
    "cluster": "A cluster, whose nodes are processes of one machine",
    "fig1": "A whole sweep",
}


def measure(part: str, rounds: int, share: float) -> list[Row]:
    if part == "engines":
        from engines import rows as of_engines

        return of_engines(rounds)
    if part == "ready":
        from ready import rows as until_ready

        return until_ready()
    if part == "step":
        from step import rows

        return rows(rounds)
    if part == "mixture":
        from mixture import rows as of_mixtures

        return of_mixtures(rounds)
    if part == "fig1":
        from fig1 import rows as end_to_end

        return end_to_end(share, 50)
    if part == "ledger":
        from ledger import rows as of_ledger

        return of_ledger()
    if part == "analysis":
        from analysis import rows as of_analysis

        return of_analysis()
    if part == "view":
        from view import rows as of_view

        return of_view()
    if part == "noop":
        from scheduler import noop

        return noop()
    if part == "simulation":
        from simulation import rows as of_simulation

        return of_simulation()
    if part == "driver":
        from driver import rows as of_a_driver

        return [*of_a_driver()]
    if part == "cluster":
        from cluster import rows as of_a_cluster

        return [*of_a_cluster()]
    if part == "scheduler":
        from scheduler import rows as of_scheduler

        return of_scheduler()
    import width

    return {"width": width.width, "scaling": width.scaling, "grid": width.grid}[part]()


def machine() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.partition(": ")[2] for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        model = platform.processor()
    return f"{model}, {platform.machine()}, torch {torch.__version__}, Python {platform.python_version()}"


def number(x: float | None) -> str:
    if x is None:
        return ""
    return f"{x:,.0f}" if x >= 100 else f"{x:.1f}" if x >= 10 else f"{x:.2f}" if x >= 1 else f"{x:.2g}"


def markdown(rows: pl.DataFrame) -> str:
    """A table for each part."""
    lines = [
        "# Benchmarks",
        "",
        "Written by `make bench`. Theirs and ours in turn, medians; the ratio is the median of the ratios pair by",
        "pair, with the least and the largest in brackets. One core unless said otherwise.",
    ]
    for (part,), of_part in rows.group_by("part", maintain_order=True):
        machines = of_part.select("machine", "measured").unique().sort("measured").iter_rows()
        lines += ["", f"## {PARTS[str(part)]}", "", *(f"{day}: {name}" for name, day in machines), ""]
        lines += ["| work | unit | theirs | ours | ratio | goal | |", "|---|---|---|---|---|---|---|"]
        lines += [line(row) for row in of_part.iter_rows(named=True)]
    return "\n".join(lines) + "\n"


def line(row: dict[str, Any]) -> str:
    bounds = f" ({number(row['low'])} to {number(row['high'])})" if row["low"] else ""
    ratio = f"{number(row['ratio'])}{bounds}" if row["ratio"] else ""
    numbers = [number(row["theirs"]), number(row["ours"]), ratio, number(row["goal"])]
    return "| " + " | ".join([row["work"], row["unit"], *numbers, row["note"]]) + " |"


def main() -> None:
    with tempfile.TemporaryDirectory() as cache:
        os.environ["LFOMBENCH_CACHE"] = cache  # nothing is compiled before
        _run()


def _run() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--share", type=float, default=0.02, help="of the jobs that Ray Tune is measured on")
    options = parser.parse_args()
    path = HERE / "results.parquet"
    known = pl.read_parquet(path) if path.exists() else None
    for part in options.only:
        made = pl.DataFrame(
            [row.__dict__ for row in measure(part, options.rounds, options.share)], infer_schema_length=None
        )
        if made.height == 0:
            continue
        numbers = [pl.col(c).cast(pl.Float64) for c in ("theirs", "ours", "ratio", "low", "high", "goal")]
        found = made.with_columns(
            *numbers, part=pl.lit(part), machine=pl.lit(machine()), measured=pl.lit(str(date.today()))
        )
        known = found if known is None else pl.concat([known.filter(pl.col("part") != part), found])
        order = pl.col("part").replace_strict({name: i for i, name in enumerate(PARTS)}, return_dtype=pl.Int8)
        known = known.sort(order, maintain_order=True)
        known.write_parquet(path)
        (HERE / "results.md").write_text(markdown(known))
    print((HERE / "results.md").read_text())


if __name__ == "__main__":
    main()
