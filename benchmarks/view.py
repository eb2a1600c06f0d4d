"""The MLflow view: what it costs, in processor time, against MLflow's own three calls a run.

    python benchmarks/run.py --only view

The runs have what the goals name: 20 parameters, 10 tags, 60 points. Three calls: create_run, one log_batch with
everything, set_terminated, on the same kind of database, in a process of their own.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from ledger import million, outcomes
from timing import Row

from lfombench.harness.store.manifest import Manifest, path_of
from lfombench.harness.store.store import Store
from lfombench.harness.tracking.database import ready
from lfombench.harness.tracking.opened import open_view
from lfombench.harness.tracking.server import free_port, served
from lfombench.harness.tracking.shown import OURS, SHOWS, SOURCE, Shown
from lfombench.harness.tracking.uris import Where, artifacts, default_uri, normal

HERE = Path(__file__).parent
RUNS, SAMPLE = 10_000, 200
SWEEP = HERE / "fig1.yaml"


def made(number: int, store: str = "store") -> Shown:
    """A run with 20 parameters, 10 tags and 60 points."""
    name = f"memformer full cgd L4 s{number}"
    tags = {f"tag{i}": f"some words {i}" for i in range(6)}
    tags |= {"job": f"{number:016x}", SHOWS: f"{store} {number:016x} digest", SOURCE: OURS, "mlflow.runName": name}
    params = {f"some.parameter{i}": str(i * number) for i in range(20)}
    metrics = {("loss", step): 1.0 / (step + number + 1) for step in range(50)}
    metrics |= {("log_mse", step): -float(step) - number / RUNS for step in range(5)}
    metrics |= {(f"metric{i}", 4): float(number + i) for i in range(5)}
    return Shown(f"{number:016x}", name, "FINISHED", number, number + 1000, tags, params, metrics, None)


def three_calls(uri: str, numbers: range, experiment: str) -> None:
    """The runs, as MLflow's documentation has them written."""
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param

    client = MlflowClient(tracking_uri=uri)
    found = client.get_experiment_by_name(experiment)
    number = found.experiment_id if found else client.create_experiment(experiment)
    for run in map(made, numbers):
        begun = client.create_run(number, run.begin, run.tags)
        metrics = [Metric(key, value, run.end, step) for (key, step), value in run.metrics.items()]
        params = [Param(key, value) for key, value in run.params.items()]
        client.log_batch(begun.info.run_id, metrics, params)
        client.set_terminated(begun.info.run_id, run.status, run.end)


def bulk(uri: str, count: int, experiment: str) -> None:
    """The runs, as a reconciliation writes them."""
    view = open_view(Where(uri), "store", print)
    number = view.open(experiment)
    for begin in range(0, count, view.at_once):
        view.write(number, [made(i) for i in range(begin, min(count, begin + view.at_once))], {})
    view.close()


def used(work: Callable[[], object]) -> float:
    """Seconds of processor time that something takes in this process."""
    begin = time.process_time()
    work()
    return time.process_time() - begin


def against(kind: str, uri: str, goal: float) -> Iterator[Row]:
    """Our runs against three calls for each, per run, three times in turn."""
    three_calls(uri, range(2), "warm")
    theirs, ours = [], []
    for turn in range(3):
        theirs.append(used(lambda turn=turn: three_calls(uri, range(SAMPLE), f"theirs {turn}")) / SAMPLE)  # type: ignore[misc]
        ours.append(used(lambda turn=turn: bulk(uri, RUNS, f"ours {turn}")) / RUNS)  # type: ignore[misc]
    ratios = [a / b for a, b in zip(theirs, ours, strict=True)]
    middle = statistics.median(ours)
    yield Row(
        f"10,000 runs into {kind}, against three calls a run",
        "ms of processor time a run",
        1000 * statistics.median(theirs),
        1000 * middle,
        statistics.median(ratios),
        min(ratios),
        max(ratios),
        goal,
        f"all in {RUNS * middle:.1f} s; {SAMPLE} of theirs measured, three times",
    )


def sqlite(folder: Path) -> Iterator[Row]:
    """Into SQLite, as in a store."""
    uri = default_uri(str(folder))
    ready(uri, artifacts(str(folder)))
    yield from against("SQLite", uri, 20.0)


def postgresql() -> Iterator[Row]:
    """Into PostgreSQL: the client's time."""
    sys.path.insert(0, str(HERE.parent))
    from tests.postgresql import BINARIES, PostgreSQL

    if BINARIES is None:
        print("PostgreSQL is not installed: its row keeps the last figure")
        return
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    with PostgreSQL() as server:
        server.execute("CREATE DATABASE bench")
        uri = normal(server.uri("bench"))
        SqlAlchemyStore(uri, "/nowhere").engine.dispose()  # type: ignore[no-untyped-call]
        yield from against("PostgreSQL", uri, 40.0)


def nothing(folder: Path) -> Iterator[Row]:
    """A reconciliation that finds nothing to do, as a command: a store of 10,000 jobs."""
    store = Store(str(folder / "idle"))
    store.create()
    packs = list(outcomes(islice(million(folder).jobs(), RUNS)))
    store.commit([outcome for _, outcome in packs])
    ids = [job.id for planned, _ in packs for job in planned.pack.jobs]
    store.write(path_of("million"), Manifest(name="million", jobs=ids).content)
    command = [sys.executable, "-m", "lfombench", "mlflow", "sync", "--out", store.out]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    times = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    yield Row(
        "a reconciliation with nothing to do, 10,000 runs",
        "s of processor time",
        None,
        statistics.median(times),
        None,
        None,
        None,
        2.0,
        f"the whole command; {len(times)} rounds, {min(times):.2f} to {max(times):.2f}",
    )


def share(folder: Path) -> Iterator[Row]:
    """MLflow's share of the processor time of fig1 with 50 seeds, workers and all: every process is watched."""
    command = [sys.executable, "-m", "lfombench", "run", str(SWEEP), "--out", str(folder / "fig1")]
    watch = Watch("LFOMBENCH_WATCHED")
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=os.environ | {watch.mark: "1"})
    mlflow, total = watch.end("lfombench.harness.tracking.follow")
    yield Row(
        "fig1, 50 seeds: MLflow's share of the processor time",
        "%",
        None,
        100 * mlflow / total,
        None,
        None,
        None,
        3.0,
        f"{mlflow:.1f} s of {total:.0f} s, of all processes, workers included",
    )


def browser(folder: Path) -> Iterator[Row]:
    """The first page of a table of 10,000 runs in a browser, warm: ours, and MLflow's own, in one database."""
    sys.path.insert(0, str(HERE.parent))
    from tests.browser import CHROMIUM, Browser

    if CHROMIUM is None:
        print("there is no chromium: the row of the browser keeps the last figure")
        return
    (folder / "browser").mkdir()
    uri, where = default_uri(str(folder / "browser")), Where(default_uri(str(folder / "browser")))
    ready(uri)
    bulk(uri, RUNS, "ours")
    three_calls(uri, range(RUNS), "theirs")
    view = open_view(where, "store", print)
    ids = {name: view.open(name) for name in ("ours", "theirs")}
    view.close()
    times: dict[str, list[float]] = {name: [] for name in ids}
    port = free_port(None)
    with served(str(folder), where, port), Browser() as page:
        for _ in range(6):
            for name, number in ids.items():
                page.open("about:blank")
                begin = time.perf_counter()
                page.open(f"http://127.0.0.1:{port}/#/experiments/{number}/runs?workflowType=machine_learning")
                page.wait(
                    "document.body.innerText.includes('memformer full cgd') && document.body.innerText.includes('100')"
                )
                times[name].append(time.perf_counter() - begin)
    theirs, ours = times["theirs"][1:], times["ours"][1:]
    ratios = [a / b for a, b in zip(theirs, ours, strict=True)]
    yield Row(
        "first page of a table of 10,000 runs in a browser, warm, against runs of MLflow's own",
        "s",
        statistics.median(theirs),
        statistics.median(ours),
        statistics.median(ratios),
        min(ratios),
        max(ratios),
        1.0,
        f"{len(ours)} times in turn, both in one database",
    )


class Watch:
    """The processor time of all processes that have a variable in their environment, as long as they run."""

    def __init__(self, mark: str) -> None:
        self.mark, self.over = mark, False
        self.ticks: dict[int, int] = {}
        self.commands: dict[int, bytes] = {}
        self.thread = threading.Thread(target=self._look)
        self.thread.start()

    def end(self, name: str) -> tuple[float, float]:
        """Seconds of processor time of the processes whose command has this name, and of all."""
        self.over = True
        self.thread.join()
        named = sum(self.ticks[pid] for pid, command in self.commands.items() if name.encode() in command)
        return named / 100, sum(self.ticks.values()) / 100

    def _look(self) -> None:
        while not self.over:
            for stat in Path("/proc").glob("[0-9]*/stat"):
                try:
                    if self.mark.encode() in (stat.parent / "environ").read_bytes():
                        pid, fields = int(stat.parent.name), stat.read_text().rpartition(")")[2].split()
                        self.ticks[pid] = int(fields[11]) + int(fields[12])
                        self.commands[pid] = (stat.parent / "cmdline").read_bytes()
                except OSError:
                    continue
            time.sleep(0.1)


def rows() -> list[Row]:
    """All rows."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        return [*sqlite(folder), *postgresql(), *share(folder), *nothing(folder), *browser(folder)]
