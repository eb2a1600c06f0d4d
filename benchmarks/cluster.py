"""What a cluster costs beside its work: until workers are ready, from `submit` to the first row, idle workers.

Nodes are processes of this machine, which has two cores whatever they claim: their jobs sleep, or do nothing.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from statistics import median

import psutil
from scheduler import Run, await_workers
from timing import Row, spread

from lfombench.harness.scheduler.on_ray import OnRay

sys.path.append(str(Path(__file__).parents[1]))
os.environ["RAY_AUTH_MODE"] = "disabled"  # all of it listens to this machine alone
from tests.nodes import ENVIRONMENT, Head, Node

SMALL = """\
name: small
protocol: {use: published, test_prompts: 256}
seeds: 4
tasks: [linear_regression: {d: 3, n: 8}]
solvers: [conjugate_gradient: {depth: {each: [1, 2, 3]}}]
"""


def ready(workers: int = 16) -> Row:
    """What it takes the whole machine until workers are there, beside importing the libraries that each stands on."""
    bare = [sys.executable, "-c", "import ray, torch"]
    begin = os.times()
    subprocess.run(bare, check=True)
    end = os.times()
    theirs = end.children_user + end.children_system - begin.children_user - begin.children_system
    executor = OnRay(workers=workers)
    try:
        run = Run(Path(), workers, 1)
        [server] = [one for one in psutil.Process().children() if "forkserver" in " ".join(one.cmdline())]
        begun, already = time.perf_counter(), sum(server.cpu_times()[:2])
        before = psutil.cpu_times()
        await_workers(executor, run)
        took, after = time.perf_counter() - begun, psutil.cpu_times()
        ours = (already + after.user + after.system - before.user - before.system) / workers
        found = [one for one in psutil.process_iter() if one.name().startswith("ray::_Worker")]
        alone = median(one.memory_full_info().uss for one in found)
    finally:
        executor.close()
    assert len(found) == workers, found
    work = f"a worker of {workers} on one machine until it is ready, against importing PyTorch and Ray alone"
    note = (
        f"all in {took:.0f} s on two cores; all that the machine computes meanwhile, and its share of the process that "
        f"they fork from; each has {alone / 1e6:.0f} MB of its own. When each imported for itself it was 5.5 s"
    )
    return Row(work, "s of processor", theirs, ours, theirs / ours, None, None, 2.7, note)


def submitted(folder: Path, rounds: int = 3) -> Row:
    """From the command to the first committed row, on a cluster that has run a sweep before."""
    (folder / "small.yaml").write_text(SMALL)
    taken = []
    with Head(folder) as head:
        for i in range(rounds + 1):
            out = folder / f"out {i}"
            command = [sys.executable, "-m", "lfombench", "submit", str(folder / "small.yaml"), "--out", str(out)]
            command += ["--address", head.dashboard, "--mlflow", "off", "--name", f"round-{i}"]
            begin = time.perf_counter()
            with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as run:
                while not any((out / "results").glob("*.parquet")):
                    assert run.poll() in (None, 0)
                    time.sleep(0.05)
                taken.append(time.perf_counter() - begin)
    note = f"two cores for all of it: submit, Ray's job, the driver, two workers; {spread(taken[1:])}"
    work = "from `submit` to the first committed row, a local cluster that has run a sweep before"
    return Row(work, "s", None, median(taken[1:]), None, None, None, 15, note)


def used(folder: Path, jobs: int = 640) -> list[Row]:
    """Three nodes, one of which counts a GPU as if PyTorch could use it; jobs of a second that sleep."""
    here = str(Path(__file__).parent)  # where the workers find the jobs' classes
    with ExitStack() as nodes:
        head = nodes.enter_context(Head(folder, PYTHONPATH=here))
        for name, *has in (("four", "--num-cpus=4"), ("gpu", "--num-cpus=2", "--num-gpus=1")):
            arguments = [*has, f"--address={head.address}"]
            nodes.enter_context(
                Node(folder, name, "127.0.0.1", *arguments, environment=ENVIRONMENT | {"PYTHONPATH": here})
            )
        executor = OnRay(head.address)
        try:
            assert executor.nodes is not None
            assert executor.pools  # once all nodes have said what they have
            known = executor.nodes.known
            [name] = [name for name, node in executor.nodes.living.items() if node["Resources"].get("GPU")]
            known[name] = replace(known[name], gpus=("some GPU",), gpu_memory=8e9)
            executor.resources = replace(executor.resources, gpu_fraction=1.0)
            pools = executor.nodes.pools()
            run = Run(folder / "sleep", jobs, 4, 1.0)
            on_gpus = len(run.packs) // 8
            run.packs = [replace(one, pool="gpu" if i < on_gpus else "cpu") for i, one in enumerate(run.packs)]
            executor.fit(run.packs)
            while sum(executor.idle().values()) < 8:
                executor.poll(0.1)
            begin = time.perf_counter()
            run.go(executor, pools)
            took = time.perf_counter() - begin
        finally:
            executor.close()
    least = jobs / 8
    work = f"{jobs} jobs of 1 s (sleep), packs of 4, on 3 nodes with 8 cores, one of them the host of a claimed GPU"
    note = (
        f"from the moment that all workers are there until all is committed: {took:.1f} s, least possible {least:.0f}"
    )
    return [
        Row(f"{work}: use of the workers", "%", None, 100 * least / took, None, None, None, 90, note),
        Row(f"{work}: longer than possible", "%", None, 100 * (took / least - 1), None, None, None, 10, ""),
    ]


def rows() -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        yield ready()
        yield submitted(folder)
        yield from used(folder)


if __name__ == "__main__":
    for row in rows():
        print(row, flush=True)
