"""A whole sweep on a GPU: fig1 with 500 seeds, and its boards against those of the CPU."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from pathlib import Path
from statistics import mean, median
from types import FrameType
from typing import Any

SEEDS, FEW = 500, 5
SMALL = "steps: 20, batch: 50, test_prompts: 256, validation_prompts: 64"
ROOT = Path(__file__).resolve().parent.parent
STOP = 20.0  # seconds that a sweep which is stopped is given to end
EVERY = 0.02  # seconds between two looks at the threads


def run(out: str, seeds: int, *, dry: bool) -> None:
    """fig1 with so many seeds, in this process; beside the store, what came of it and where its threads were."""
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
    path = Path(out).with_name("fig1.yaml")
    path.write_text(text)
    print(f"    {seeds} seeds: begins at {time.time():.1f}", flush=True)
    where = Where(Path(out).with_name("where.json"))
    summary = run(load(str(path)), out, workers=0, mlflow="off")
    where.close()
    found = {"exit code": summary.exit_code, "failed": len(summary.failed), "diverged": summary.diverged}
    Path(out).with_name("summary.json").write_text(json.dumps(found))


class Where:
    """What the threads that run packs are at, by the innermost function of ours, in seconds of all of them."""

    def __init__(self, path: Path) -> None:
        self.path, self.seconds, self.over = path, defaultdict[str, float](float), threading.Event()
        self.thread = threading.Thread(target=self._look, daemon=True)
        self.thread.start()

    def _look(self) -> None:
        written = last = time.monotonic()
        while not self.over.wait(EVERY):
            now, frames = time.monotonic(), sys._current_frames()
            for frame in frames.values():
                ours = functions(frame)
                if "faults.run_pack" in ours:
                    self.seconds[ours[0]] += now - last
            last = now
            if now > written + 2.0:
                self._write()
                written = now

    def _write(self) -> None:
        import torch

        self.path.write_text(json.dumps(dict(sorted(self.seconds.items(), key=lambda one: -one[1]))))
        if torch.cuda.is_initialized():
            told = torch.cuda.memory_stats()
            kept = {name: told[f"{name}_bytes.all.peak"] / 2**30 for name in ("allocated", "reserved")}
            kept |= {"allocated anew after all was given back": told["num_alloc_retries"]}
            self.path.with_name("memory.json").write_text(json.dumps(kept))

    def close(self) -> None:
        """Look no more."""
        self.over.set()
        self.thread.join()
        self._write()


def functions(frame: FrameType | None) -> list[str]:
    """Module and function of a frame and of those around it, innermost first, as far as they are lfombench's."""
    found = []
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if module.startswith("lfombench."):
            found.append(f"{module.rpartition('.')[2]}.{frame.f_code.co_name}")
        frame = frame.f_back
    return found


class Started:
    """A fig1 in a process of its own."""

    def __init__(self, seeds: int, *, dry: bool, **environment: str) -> None:
        self.out = Path(tempfile.mkdtemp(prefix="lfombench-fig1-")) / "out"
        code = f"from benchmarks.gpu_sweep import run; run({str(self.out)!r}, {seeds}, dry={dry})"
        path = os.pathsep.join([os.environ.get("PYTHONPATH", ""), "."])
        self.begin = time.time()
        self.process = subprocess.Popen(
            [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": path} | environment, cwd=ROOT
        )

    def ended(self, until: float) -> bool:
        """Wait for its end until then; False where it had to be stopped."""
        try:
            self.process.wait(max(0.0, until - time.monotonic()))
            return True
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(STOP)
        except subprocess.TimeoutExpired:
            self.process.kill()
        return False

    def finished(self) -> list[float]:
        """When each of its jobs was done, in seconds from its start."""
        import polars as pl

        tables = [pl.read_parquet(path, columns=["finished"]) for path in (self.out / "jobs").rglob("*.parquet")]
        return sorted(at.timestamp() - self.begin for table in tables for at in table["finished"])

    def told(self, name: str) -> dict[str, Any]:
        """What it left beside its store."""
        path = self.out.with_name(f"{name}.json")
        return json.loads(path.read_text()) if path.exists() else {}


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
    """The sweep on the device, and beside everything else, with few seeds, on the CPU."""

    def __init__(self, here: Any, until: float) -> None:
        """until: when there is no more time."""
        self.here, self.until = here, until
        self.beside = Started(FEW if not here.dry else 2, dry=here.dry, CUDA_VISIBLE_DEVICES="")
        self.first: Started | None = None

    def run(self, page: Any) -> None:
        """From an empty cache, and, where there is time, with what that leaves in it."""
        cache = tempfile.mkdtemp(prefix="lfombench-cache-")
        for name in ("from an empty cache", "with a filled cache"):
            begin = time.monotonic()
            seeds = 2 if self.here.dry else SEEDS
            busy = None if self.here.dry else Busy()
            sweep = Started(seeds, dry=self.here.dry, LFOMBENCH_CACHE=cache)
            print(f"    started at {time.time():.1f}", flush=True)
            whole = sweep.ended(self.until - STOP)
            took, share, jobs = time.monotonic() - begin, busy.close() if busy else None, sweep.finished()
            self.first = self.first or sweep
            page.add(
                f"fig1 with {seeds} seeds, {name}: {len(jobs):,} jobs in {took:.1f} s"
                f"{'' if whole else ', when it was stopped, unfinished'}; the first after "
                f"{jobs[0] if jobs else math.nan:.1f} s, half of them after {median(jobs or [math.nan]):.1f} s. "
                f"Of the whole: {sweep.told('summary') or 'nothing told'}. "
                f"A kernel ran {'(unknown)' if share is None else f'{share:.0f} %'} of the time. "
                f"Seconds of the threads of packs: {most(sweep.told('where'))}. "
                f"GiB of memory at most: {most(sweep.told('memory'))}."
            )
            if not whole or time.monotonic() + took + STOP > self.until:
                break

    def compare(self, page: Any) -> None:
        """The boards of the device against those of the CPU."""
        if self.first is None or not self.beside.ended(self.until):
            page.add("The CPU or the device was not done with its fig1 in time: the boards are not compared.")
            return
        page.add(boards(self.first.out, self.beside.out, 2 if self.here.dry else FEW))


def most(seconds: dict[str, float]) -> str:
    """The largest of them, in words."""
    return ", ".join(f"{name} {spent:.1f}" for name, spent in list(seconds.items())[:16]) or "unknown"


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
    missing = both.filter((pl.col("n") != pl.col("n_cpu")).fill_null(value=True)).height
    both = both.filter(pl.col("n") == pl.col("n_cpu"))
    apart = both.with_columns(apart=(pl.col("log_mse") - pl.col("log_mse_cpu")).abs()).sort("apart", descending=True)
    most = apart.row(0, named=True)
    inside = apart.filter(pl.col("apart") <= 1e-3).height
    above = apart.filter(~(pl.col("apart") <= 1e-3)).select(*keys, "apart").head(8).rows()
    return (
        f"Boards of fig1, {seeds} seeds, against the CPU's: of {apart.height} cells {inside} are within 1e-3 nat; "
        f"the largest difference is {most['apart']:.1e} ({most['solver']}, {most['protocol']}). "
        f"Above 1e-3: {above or 'none'}. Cells that one of them lacks: {missing}."
    )
