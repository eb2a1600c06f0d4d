"""A whole sweep on a GPU: fig1 with 500 seeds, and its boards against those of the CPU."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from statistics import mean
from typing import Any

SEEDS, FEW = 500, 5
SMALL = "steps: 20, batch: 50, test_prompts: 256, validation_prompts: 64"


class Beside:
    """fig1 as it is, on the CPU, in a process beside everything else."""

    def __init__(self, *, dry: bool) -> None:
        self.out = Path(tempfile.mkdtemp(prefix="lfombench-cpu-")) / "out"
        code = f"from benchmarks.gpu_sweep import run; run({str(self.out)!r}, {FEW if not dry else 2}, dry={dry})"
        environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": os.pathsep.join([os.environ.get("PYTHONPATH", ""), "."])}
        root = Path(__file__).resolve().parent.parent
        self.begin = time.monotonic()
        self.process = subprocess.Popen([sys.executable, "-c", code], env=environment, cwd=root)


def run(out: str, seeds: int, *, dry: bool) -> Any:
    """fig1 with so many seeds, in this process."""
    import torch

    from lfombench.harness import load, run
    from lfombench.harness.spec.loader import shipped

    torch.set_num_threads(1)
    text = shipped()["fig1"].read_text().replace("seeds: 5", f"seeds: {seeds}")
    assert f"seeds: {seeds}" in text
    if dry:
        text = text.replace("use: published", f"{{use: published, {SMALL}}}").replace("use: rigorous", f"{{use: rigorous, {SMALL}}}")
        text = text.replace("- {use", "- {use")
    path = Path(tempfile.mkdtemp(prefix="lfombench-")) / "fig1.yaml"
    path.write_text(text)
    return run(load(str(path)), out, workers=0, mlflow="off", profile=True)


class Busy:
    """How much of the time a kernel runs, as NVML samples it."""

    def __init__(self) -> None:
        self.samples: list[int] = []
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._sample, daemon=True)
        self.thread.start()

    def _sample(self) -> None:
        import pynvml

        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByIndex(0)
        while not self.over.wait(0.05):
            self.samples.append(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu)

    def close(self) -> float | None:
        """The mean, in per cent; None where NVML is not here."""
        self.over.set()
        self.thread.join()
        return mean(self.samples) if self.samples else None


def sweep(page: Any, here: Any, beside: Beside) -> None:
    """The sweep, cold and with what it compiled in the cache; its boards."""
    import polars as pl

    seeds = 2 if here.dry else SEEDS
    stores = []
    for name in ("from an empty cache", "with a filled cache"):
        out = Path(tempfile.mkdtemp(prefix="lfombench-gpu-")) / "out"
        busy, begin, first = Busy() if not here.dry else None, time.time(), None
        summary = run(str(out), seeds, dry=here.dry)
        took = time.time() - begin
        share = busy.close() if busy else None
        jobs = pl.concat([pl.read_parquet(path) for path in (out / "jobs").rglob("*.parquet")], how="diagonal_relaxed")
        first = jobs["finished"].min().timestamp() - begin
        parts = ", ".join(f"{name} {x:.1f}" for name, x in (summary.profile or {}).items())
        page.add(
            f"fig1 with {seeds} seeds, {name}: {summary.ran:,} jobs in {took:.1f} s, the first after {first:.1f} s, "
            f"exit code {summary.exit_code}, {len(summary.failed)} failed, {summary.diverged} diverged; the device was busy "
            f"{'(unknown)' if share is None else f'{share:.0f} % of the time'}. Seconds of its threads: {parts}."
        )
        stores.append(out)
        if here.dry:
            break
    beside.process.wait(timeout=240)
    page.add(f"fig1 with {FEW} seeds on one core of this machine, beside the rest: {time.monotonic() - beside.begin:.0f} s at most.")
    page.add(boards(stores[0], beside.out, 2 if here.dry else FEW))


def boards(ours: Path, theirs: Path, seeds: int) -> str:
    """How far the mean log errors of the two stores are apart."""
    import polars as pl

    keys = ["protocol", "solver", "depth", "step"]

    def board(out: Path) -> Any:
        rows = pl.concat([pl.read_parquet(path) for path in (out / "results").rglob("*.parquet")], how="diagonal_relaxed")
        return rows.filter(pl.col("seed") < seeds).group_by(keys).agg(pl.col("log_mse").mean(), n=pl.len())

    both = board(ours).join(board(theirs), on=keys, how="full", suffix="_cpu", coalesce=True)
    apart = both.with_columns(apart=(pl.col("log_mse") - pl.col("log_mse_cpu")).abs()).sort("apart", descending=True)
    most = apart.row(0, named=True)
    inside = apart.filter(pl.col("apart") <= 1e-3).height
    above = apart.filter(~(pl.col("apart") <= 1e-3)).select(*keys, "apart").head(8).rows()
    return (
        f"Boards of fig1, {seeds} seeds, against the CPU's: of {apart.height} cells {inside} are within 1e-3 nat; "
        f"the largest difference is {most['apart']:.1e} ({most['solver']}, {most['protocol']}). Above 1e-3: {above or 'none'}."
    )
