"""How a sweep is run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from ..scheduler.resources import Resources
from .observer import Observer, Silent


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a sweep is run.

    address: a Ray cluster; left out, Ray starts on this machine.
    workers: how many; 0 runs in this process, without Ray; left out, one per core, or some per GPU.
    resources: the part of the cluster that may be used.
    priority: where several sweeps want a cluster's workers, those of a higher one come first.
    mlflow: a tracking URI; left out, SQLite in the store; "off" for none.
    audit: a share of the sweep's jobs to run again, alone and eager, and to compare.
    profile: note where time goes, in profile/NAME.json; measures the parts of each structure's training step as well.
    keep_stale: count results of code that has changed since as done, instead of making them again.
    deadline: seconds without a sign of life after which a pack is cancelled; left out, ten times what it should take.
    max_failures: stop when more jobs than these have failed.
    stop: asked again and again; once it says yes, packs stop where they can go on, and what is done is committed.
    join: work beside other drivers on the store; each does a share of the jobs.
    observer: told of the run's progress.
    """

    address: str | None = None
    workers: int | None = None
    resources: Resources = field(default_factory=Resources)
    priority: int = 0
    mlflow: str | None = None
    audit: float = 0.0
    profile: bool = False
    keep_stale: bool = False
    deadline: float | None = None
    max_failures: int | None = None
    stop: Callable[[], bool] = lambda: False
    join: bool = False
    observer: Observer = field(default_factory=Silent)
