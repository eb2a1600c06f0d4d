"""What is in the way on a cluster: the checks of this machine on every node, and those that compare nodes."""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import urlopen

import torch

from lfombench.solvers import LinearTransformer
from lfombench.tasks import LinearRegression

from ..redact import redacted
from ..scheduler.attached import Attached
from ..scheduler.devices import gpus as usable
from ..scheduler.facts import show_gpus
from ..scheduler.handshake import versions
from ..scheduler.nodes import NODE
from ..spec.job import Job
from ..spec.protocol import PROTOCOLS
from ..store.deviation import TOLERANCE
from ..store.filesystem import place
from ..training.execute import execute
from ..training.pack import Pack, WorkOrder
from . import doctor
from .doctor import Finding

CPU = torch.device("cpu")
SECONDS = 120.0  # within which a node must have answered
LATE = 5.0  # seconds that a node's clock may differ
REACH = 5.0  # seconds within which a server must answer
HERE: tuple[doctor.Check, ...] = (
    *(doctor.software, doctor.system, doctor.memory, doctor.temporary, doctor.shared_memory, doctor.open_files),
    *(doctor.cache, doctor.compiler, doctor.gpus),
)


@dataclass(frozen=True)
class Node:
    """What was found on a node."""

    host: str
    findings: list[Finding]


@dataclass(frozen=True)
class Question:
    """What every node is asked."""

    versions: Mapping[str, str]
    trained: float  # the logarithm of an error after some training, as this machine has it
    now: float  # seconds since 1970, when the question was sent
    out: str | None
    exists: bool  # whether the store is there on this machine
    mlflow: str | None


def examine(address: str, out: str | None, mlflow: str | None) -> list[Node]:
    """What every node of a cluster finds. out, mlflow: a store and a tracking server that they should reach."""
    attached = Attached(address, 0)
    try:
        ray = attached.ray
        names = {node["NodeID"]: node["NodeManagerHostname"] for node in ray.nodes() if node["Alive"]}
        exists = bool(out) and place(str(out)).kind() == "folder"
        asked = Question(versions(), trained(), time.time(), out, exists, mlflow)
        there = ray.remote(num_cpus=0, max_retries=0, max_calls=1)(answer)
        tasks = {
            name: there.options(label_selector={NODE: name}).remote(replace(asked, now=time.time())) for name in names
        }
        ray.wait([*tasks.values()], num_returns=len(tasks), timeout=SECONDS)
        return [Node(names[name], _heard(ray, task)) for name, task in tasks.items()]
    finally:
        attached.close()


def answer(asked: Question) -> list[Finding]:
    """What this node finds."""
    arrived = time.time()
    show_gpus()
    checks = doctor.named(HERE)
    checks += [
        ("versions", lambda: _versions(asked.versions)),
        ("clock", lambda: _clock(arrived - asked.now)),
        *(("training", partial(_training, asked.trained, device)) for device in (CPU, *usable()[:1])),
    ]
    if asked.out:
        checks.append(("store", lambda: _store(str(asked.out), asked.exists)))
    if asked.mlflow:
        checks.append(("MLflow", lambda: _server(str(asked.mlflow))))
    return [*doctor.found(checks)]


def trained(device: torch.device = CPU) -> float:
    """The logarithm of the error of a small model after some training: about two seconds, with its compilation."""
    job = Job.of(
        task=LinearRegression(d=5, n=20),
        solver=LinearTransformer(depth=2, preconditioner="full"),
        protocol=replace(PROTOCOLS["published"], steps=200, batch=64, test_prompts=1024),
        seed=0,
    )
    [*_, last] = execute(WorkOrder(Pack((job,))), device).tables["results"].to_pylist()
    return float(last["log_mse"])


def _heard(ray: Any, task: Any) -> list[Finding]:
    """What a node has answered, or why it has not."""
    try:
        found: list[Finding] = ray.get(task, timeout=0)
        return found
    except ray.exceptions.GetTimeoutError:
        return [Finding("answer", "bad", f"none within {SECONDS:g} s", "Is it overloaded, or its disk slow?")]
    except ray.exceptions.RayError as error:
        remedy = "Install lfombench there, in the version of this machine"
        return [Finding("answer", "bad", str(error).strip().splitlines()[-1], remedy)]


def _versions(here: Mapping[str, str]) -> Finding:
    there = versions()
    other = [f"{name} {there.get(name)} there, {here[name]} here" for name in here if there.get(name) != here[name]]
    if other:
        return Finding("versions", "bad", "; ".join(other), "Such a node gets no work: install the same on all")
    return Finding("versions", "ok", f"as here, on {platform.machine()}")


def _clock(difference: float) -> Finding:
    if not -LATE < difference < SECONDS:
        return Finding("clock", "look", f"{difference:+.0f} s", "Times in the record are wrong: is NTP running?")
    return Finding("clock", "ok", "as here")


def _training(here: float, device: torch.device) -> Finding:
    there = trained(device)
    if not math.isfinite(there) or abs(there - here) > TOLERANCE:
        said = f"a log error of {there:.6f}, {here:.6f} here"
        remedy = "Its numbers cannot be trusted: is it overheating, its memory broken, its compiler another?"
        return Finding(f"training on {device.type}", "bad", said, remedy)
    exact = there == here
    said = "equal to the bit" if exact else f"{there - here:+.1e} in log error, of {TOLERANCE:g} allowed"
    return Finding(f"training on {device.type}", "ok", said)


def _store(out: str, exists: bool) -> Finding:
    """Whether a store is to be seen, and can be written. exists: on the machine of the driver."""
    if exists and place(out).kind() != "folder":
        remedy = "run --address needs it on its own machine alone; submit needs a folder that all share, or a bucket"
        return Finding("store", "look", f"{out} is not there", remedy)
    return doctor.store(out)


def _server(uri: str) -> Finding:
    """Whether a tracking server answers."""
    parts, shown = urlsplit(uri), redacted(uri, uri)
    if parts.scheme not in ("http", "https"):
        return Finding("MLflow", "ok", f"{shown}: only the driver writes to it")
    try:
        with urlopen(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}/health", timeout=REACH):
            return Finding("MLflow", "ok", f"{shown} answers")
    except HTTPError as error:
        return Finding("MLflow", "ok", f"{shown} answers: {error.code} {error.reason}")
    except OSError as error:
        return Finding("MLflow", "look", f"{shown}: {error}", "The driver must reach it; other nodes need not")
