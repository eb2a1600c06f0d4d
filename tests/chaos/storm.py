"""A storm: a seeded schedule of disturbances to a run, and what must be true when it is over.

Every run is the real command in a process of its own. After the storm the same command runs undisturbed, and then the
store must hold what it would hold without a storm, to the bit.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from lfombench.analysis.results import table
from lfombench.harness.store import snapshots
from lfombench.harness.store.filesystem import place
from lfombench.harness.store.schema import TABLES

HERE = Path(__file__).parent
SWEEP = """\
name: storm
protocol: {use: published, steps: 280, batch: 60, test_prompts: 64}
seeds: 3
tasks: [linear_regression: {d: 3, n: 5}]
tests: [linear_regression: {d: 3, n: 9}]
solvers:
  - conjugate_gradient: {depth: {each: [1, 2]}}
  - linear_transformer: {preconditioner: full, depth: 2}
  - memformer: {memory: lfom, preconditioner: full, depth: 2}
  - "haunted:Haunted": {preconditioner: full, depth: 1, ghost: {each: [0, 1, 2, 3, 4, 5]}}
"""
DONE = 3 * (2 + 1 + 1 + 5)  # of 30: the jobs that raise never are
CODE = 3  # what the command ends with: three jobs failed and three diverged
SHORT = 12.0  # seconds without a sign of life until a pack is cancelled


@dataclass
class Storm:
    """A folder with a sweep and a store, and what befalls runs into it."""

    folder: Path
    seed: int
    workers: int  # 0: in the driver's process
    said: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "storm.yaml").write_text(SWEEP)
        (self.folder / "haunted.py").write_text((HERE / "haunted.py").read_text())
        (self.folder / "ghosts").mkdir(exist_ok=True)
        self.out = self.folder / "out"

    # ---- runs --------------------------------------------------------------------------------------------------------

    def start(
        self, *options: str, limit: int | None = None, broken: str = "", prefix: Sequence[str] = ()
    ) -> subprocess.Popen[str]:
        """The command. limit: bytes that a file may have; broken: what `broken/sitecustomize.py` does to it; prefix:
        what it is run by.
        """
        command = [*prefix, sys.executable, "-m", "lfombench", "run", "storm.yaml", "--out", "out", "--mlflow", "off"]
        command += ["--workers", str(self.workers), "--deadline", str(SHORT), *options]
        environment = os.environ | ({"PYTHONPATH": str(HERE / "broken"), "BROKEN": broken} if broken else {})
        if limit:
            command = ["bash", "-c", f"ulimit -f {max(1, limit // 1024)}; trap '' XFSZ; exec \"$@\"", "bash", *command]
        pipe = subprocess.PIPE
        return subprocess.Popen(
            command, cwd=self.folder, env=environment, stdout=pipe, stderr=pipe, text=True, start_new_session=True
        )

    def over(self, process: subprocess.Popen[str], seconds: float = 400.0) -> int:
        """Wait for the end, with what it said noted."""
        told = process.communicate(timeout=seconds)
        self.said.append(f"exit {process.returncode}\n{told[0][-2000:]}\n{told[1][-2000:]}")
        bury(process)
        return process.returncode

    def wait(self, process: subprocess.Popen[str], seconds: float) -> None:
        """Some of a run: a random time after it has begun to work."""
        begin = time.monotonic()
        while process.poll() is None and not list(self.out.glob("drivers/*.json")) and time.monotonic() < begin + 60:
            time.sleep(0.02)
        end = time.monotonic() + self.random.uniform(0.0, seconds)
        while process.poll() is None and time.monotonic() < end:
            time.sleep(0.02)

    # ---- disturbances ------------------------------------------------------------------------------------------------

    def kill_the_driver(self) -> None:
        process = self.start()
        self.wait(process, 12.0)
        process.kill()
        self.over(process)

    def interrupt(self) -> None:
        process = self.start()
        self.wait(process, 12.0)
        process.send_signal(self.random.choice([signal.SIGINT, signal.SIGTERM]))
        if self.random.random() < 0.3:
            time.sleep(self.random.uniform(0.0, 0.5))
            process.send_signal(signal.SIGINT)
        assert self.over(process) == CODE

    def fill_the_disk(self) -> None:
        """No file may grow beyond some thousand bytes."""
        assert self.over(self.start(limit=1024 * self.random.randint(1, 30))) in (1, CODE)

    def fail_writes(self) -> None:
        """One fsync in some fails."""
        assert self.over(self.start(broken=f"fsync {self.random.randint(2, 25)} {self.seed}")) in (1, CODE)

    def step_the_clock(self) -> None:
        """By a day, to either side, in the middle of the run."""
        hours = self.random.choice([-24, 24])
        process = self.start(broken=f"clock {hours} {self.random.uniform(1.0, 8.0)}")
        self.wait(process, 12.0)
        process.kill()
        self.over(process)

    def cut_off_a_table(self) -> None:
        self._cut(list(self.out.glob("*/*.parquet")))

    def cut_off_a_checkpoint(self) -> None:
        process = self.start()
        self.wait(process, 8.0)
        process.send_signal(signal.SIGINT)
        self.over(process)
        self._cut(list(self.out.glob("checkpoints/*.safetensors")))

    def _cut(self, files: list[Path]) -> None:
        if files:
            path = self.random.choice(sorted(files))
            with path.open("r+b") as file:
                file.truncate(self.random.randint(0, max(0, path.stat().st_size - 1)))

    def haunt(self) -> None:
        """A job that loops for ever, takes all memory or kills its process; gone when the run is over."""
        kinds = ["loops", "allocates", "dies"] if self.workers else ["allocates", "dies"]
        ghost = self.folder / "ghosts" / self.random.choice(kinds)
        ghost.touch()
        process = self.start()
        if self.workers:
            assert self.over(process) == CODE
        else:
            self.over(process)
        ghost.unlink()

    def kill_a_worker(self) -> None:
        self._strike(b"ray::_Worker", signal.SIGKILL)

    def stop_a_worker(self) -> None:
        """SIGSTOP: it is there, and does nothing."""
        self._strike(b"ray::_Worker", signal.SIGSTOP)

    def kill_the_raylet(self) -> None:
        self._strike(b"raylet/raylet", signal.SIGKILL, ends=True)

    def _strike(self, name: bytes, how: signal.Signals, ends: bool = False) -> None:
        process = self.start()
        self.wait(process, 15.0)
        victims = [pid for pid in descendants(process.pid) if name in cmdline(pid)]
        if victims:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.random.choice(victims), how)
        if ends:
            time.sleep(self.random.uniform(0.0, 3.0))
            process.kill()
        self.over(process)

    def start_a_second_driver(self) -> None:
        """Refused, or joined; and one of the two killed or not."""
        first = self.start()
        self.wait(first, 4.0)
        second = self.start(*(["--join"] if self.random.random() < 0.7 else []))
        if self.random.random() < 0.5:
            self.wait(second, 8.0)
            self.random.choice([first, second]).kill()
        for process in (first, second):
            self.over(process)

    # ---- afterwards --------------------------------------------------------------------------------------------------

    def kinds(self) -> list[Callable[[], None]]:
        """What may happen."""
        always = [
            *(self.kill_the_driver, self.interrupt, self.fill_the_disk, self.fail_writes, self.step_the_clock),
            *(self.cut_off_a_table, self.cut_off_a_checkpoint, self.haunt, self.start_a_second_driver),
        ]
        on_ray = [self.kill_a_worker, self.stop_a_worker, self.kill_the_raylet]
        return [*always, *on_ray] if self.workers else always

    def rage(self) -> list[str]:
        """One to three disturbances; their names."""
        chosen = [self.random.choice(self.kinds()) for _ in range(self.random.randint(1, 3))]
        for one in chosen:
            self.said.append(f"--- {one.__name__}")
            one()
        return [one.__name__ for one in chosen]

    def calm(self) -> pl.DataFrame:
        """The same command, undisturbed; its results."""
        self.said.append("--- calm")
        assert self.over(self.start()) == CODE, self.report()
        return self.whole()

    def whole(self) -> pl.DataFrame:
        """The results; all that must hold of a store that is at rest is asserted."""
        results = table(str(self.out), "results").collect().sort("job", "test", "step")
        assert results["job"].n_unique() == DONE, self.report()
        keys = {"results": ["job", "test", "step"], "curves": ["job", "step"], "weights": ["job", "name"]}
        for name, key in keys.items():
            rows = table(str(self.out), name).collect()
            assert len(rows) == len(rows.unique(key)), f"{name} twice\n{self.report()}"
        here = place(str(self.out))
        snapshot = snapshots.latest(here)
        for name in TABLES:
            assert sorted(here.names(name)) == sorted(file.name for file in snapshot.files[name]), self.report()
        assert not list(self.out.rglob(".writing-*")), self.report()
        assert here.names("drivers") == here.names("checkpoints") == [], self.report()
        return results

    def report(self) -> str:
        """What was done and said."""
        return f"seed {self.seed}, {self.workers} workers\n" + "\n".join(self.said)


def descendants(pid: int) -> list[int]:
    """Processes below one."""
    parents: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                parents.setdefault(parent, []).append(int(folder.name))
    found, waiting = [], [pid]
    while waiting:
        below = parents.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def cmdline(pid: int) -> bytes:
    """Of a process; empty where it is gone."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def bury(process: subprocess.Popen[str]) -> None:
    """What a killed driver leaves of its Ray: processes of its session."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
