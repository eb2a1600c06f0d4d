"""A day on a cluster, told by the commands that a user would type: `make cluster-demo`.

Three machines, which are processes of this one; two sweeps; one machine dies.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

from tests.nodes import ENVIRONMENT, Head, Node

SWEEP = """\
name: {name}
protocol: {{use: rigorous, steps: {steps}, plateau: null, batch: 200, test_prompts: 4096}}
seeds: 6
tasks: [linear_regression: {{d: 5, n: {n}}}]
solvers:
  - conjugate_gradient: {{depth: 4}}
  - memformer: {{memory: cgd, preconditioner: {{each: [scalar, full]}}, depth: {{each: [1, 2, 3, 4]}}}}
"""


def say(text: str) -> None:
    """A sentence of the story."""
    print(f"\n\033[1m{text}\033[0m" if sys.stdout.isatty() else f"\n{text}", flush=True)


def type_in(*words: str) -> str:
    """A command, and what it answers. The story ends where one fails."""
    print(f"$ lfombench {' '.join(words)}", flush=True)
    done = subprocess.run(
        [sys.executable, "-m", "lfombench", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=ENVIRONMENT,
    )
    print(done.stdout, flush=True)
    if done.returncode:
        raise SystemExit(f"the story ends here: exit code {done.returncode}")
    return done.stdout


def wait(until: Callable[[], bool], seconds: float = 180.0) -> None:
    """Until something has come true."""
    deadline = time.monotonic() + seconds
    while not until():
        if time.monotonic() > deadline:
            raise SystemExit("the story ends here: nothing happens any more")
        time.sleep(0.2)


def tell(folder: Path) -> None:
    """The story."""
    out = str(folder / "out")
    for name, steps, n in (("first", 250_000, 20), ("second", 500, 10)):
        (folder / f"{name}.yaml").write_text(SWEEP.format(name=name, steps=steps, n=n))
    say("A cluster: a head with two cores and two nodes with one each.")
    with contextlib.ExitStack() as cluster:
        head = cluster.enter_context(Head(folder))
        join = ("--num-cpus=1", f"--address={head.address}")
        one = cluster.enter_context(Node(folder, "one", "127.0.0.1", *join))
        cluster.enter_context(Node(folder, "two", "127.0.0.1", *join))
        there = ("--address", head.dashboard)

        say("Is every node fit for it?")
        type_in("doctor", "--address", head.address, "--out", out)

        say("A sweep goes off, and nobody waits for it.")
        type_in("submit", str(folder / "first.yaml"), *there, "--out", out, "--name", "first", "--no-wait")
        wait(lambda: any(Path(out, "results").glob("*.parquet")))
        type_in("status", "--out", out)

        say("One of the nodes loses its power.")
        one.kill()

        say("A colleague has a small sweep that is urgent. He gets his share while the first goes on.")
        type_in("submit", str(folder / "second.yaml"), *there, "--out", str(folder / "theirs"), "--priority", "1")
        type_in("jobs", *there)

        say("The first one ends: nothing is missing, nothing is there twice.")
        type_in("logs", "first", *there, "--follow")
        told = type_in("status", "--out", out)
        assert "54 of 54 jobs done, 0 failed" in told, told

    say("The cluster is gone. The store has everything.")
    type_in("board", "--out", out)
    type_in("query", "SELECT host, count(*) AS jobs FROM jobs GROUP BY host", "--out", out)
    type_in("mlflow", "verify", "--out", out)
    say("And its runs in a browser, at the address that this prints:")
    command = [sys.executable, "-m", "lfombench", "ui", "--out", out]
    print(f"$ lfombench ui --out {out}", flush=True)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT) as ui:
        assert ui.stdout is not None
        for line in ui.stdout:
            print(line, end="", flush=True)
            if line.startswith("report: "):
                with urllib.request.urlopen(line.split()[1]) as page:
                    assert b"<html" in page.read().lower()
            if line.startswith("Ctrl-C"):
                break
        ui.send_signal(2)


if __name__ == "__main__":
    if " " in sys.prefix:
        raise SystemExit(f"`ray start --head` does not stay up where its path has a space, and {sys.prefix!r} has one")
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # it listens to this machine alone
    with tempfile.TemporaryDirectory() as place:
        tell(Path(place))
    say("The end.")
