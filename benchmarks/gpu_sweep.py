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
        environment = os.environ | {
            "CUDA_VISIBLE_DEVICES": "",
            "PYTHONPATH": os.pathsep.join([os.environ.get("PYTHONPATH", ""), "."]),
        }
        root = Path(__file__).resolve().parent.parent
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
        text = text.replace("use: published", f"{{use: published, {SMALL}}}").replace(
            "use: rigorous", f"{{use: rigorous, {SMALL}}}"
        )
    path = Path(tempfile.mkdtemp(prefix="lfombench-")) / "fig1.yaml"
    path.write_text(text)
    return run(load(str(path)), out, workers=0, mlflow="off")


class Busy:
    """How much of the time a kernel runs, as NVML samples it."""

    def __init__(self) -> None:
        self.samples: list[int] = []
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._sample, daemon=True)
        self.thread.start()

    def _sample(self) -> None:
        import pynvml  # type: ignore[import-not-found]  # comes with PyTorch's CUDA machines, not with us

        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByIndex(0)
        while not self.over.wait(0.05):
            self.samples.append(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu)

    def close(self) -> float | None:
        """The mean, in per cent; None where NVML is not here."""
        self.over.set()
        self.thread.join()
        return mean(self.samples) if self.samples else None


class Sweep:
    """The sweep on the device, and beside everything else on the CPU."""

    def __init__(self, here: Any, until: float) -> None:
        """until: when there is no more time."""
        self.here, self.until, self.beside = here, until, Beside(dry=here.dry)
        self.stores: list[Path] = []

    def run(self, page: Any) -> None:
        """From an empty cache, and, where there is time, with what that leaves in it."""
        import polars as pl

        seeds = 2 if self.here.dry else SEEDS
        os.environ["LFOMBENCH_CACHE"] = tempfile.mkdtemp(prefix="lfombench-cache-")
        for name in ("from an empty cache", "with a filled cache"):
            out = Path(tempfile.mkdtemp(prefix="lfombench-gpu-")) / "out"
            busy, begin = None if self.here.dry else Busy(), time.time()
            summary = run(str(out), seeds, dry=self.here.dry)
            took, share = time.time() - begin, busy.close() if busy else None
            tables = [pl.read_parquet(path) for path in (out / "jobs").rglob("*.parquet")]
            finished = pl.concat(tables, how="diagonal_relaxed")["finished"].to_list()
            first = min(finished).timestamp() - begin
            page.add(
                f"fig1 with {seeds} seeds, {name}: {summary.ran:,} jobs in {took:.1f} s, the first after "
                f"{first:.1f} s. "
                f"Exit code {summary.exit_code}, {len(summary.failed)} failed, {summary.diverged} diverged. "
                f"A kernel ran {'(unknown)' if share is None else f'{share:.0f} %'} of the time."
            )
            self.stores.append(out)
            if time.monotonic() + took + 80 > self.until:
                break

    def compare(self, page: Any) -> None:
        """The boards of the device against those of the CPU."""
        try:
            self.beside.process.wait(timeout=max(1.0, self.until - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.beside.process.kill()
            page.add("The CPU was not done with its fig1 in time: the boards are not compared.")
            return
        page.add(boards(self.stores[0], self.beside.out, 2 if self.here.dry else FEW))


def boards(ours: Path, theirs: Path, seeds: int) -> str:
    """How far the mean log errors of the two stores are apart."""
    import polars as pl

    keys = ["protocol", "solver", "depth", "step"]

    def board(out: Path) -> Any:
        rows = pl.concat(
            [pl.read_parquet(path) for path in (out / "results").rglob("*.parquet")], how="diagonal_relaxed"
        )
        return rows.filter(pl.col("seed") < seeds).group_by(keys).agg(pl.col("log_mse").mean(), n=pl.len())

    both = board(ours).join(board(theirs), on=keys, how="full", suffix="_cpu", coalesce=True)
    apart = both.with_columns(apart=(pl.col("log_mse") - pl.col("log_mse_cpu")).abs()).sort("apart", descending=True)
    most = apart.row(0, named=True)
    inside = apart.filter(pl.col("apart") <= 1e-3).height
    above = apart.filter(~(pl.col("apart") <= 1e-3)).select(*keys, "apart").head(8).rows()
    return (
        f"Boards of fig1, {seeds} seeds, against the CPU's: of {apart.height} cells {inside} are within 1e-3 nat; "
        f"the largest difference is {most['apart']:.1e} ({most['solver']}, {most['protocol']}). "
        f"Above 1e-3: {above or 'none'}."
    )
