"""Compare all that a view shows with its store: run by run, value by value."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from ..store.manifest import manifests
from ..store.place import Place
from . import contents
from .fitted import FULL, finite
from .shown import OWN_TAGS, Points, Shown
from .view import Known, Stored, View

MISSING, EXTRA = "is not shown", "is shown, but is no job of this sweep, or twice"


@dataclass(frozen=True)
class Difference:
    """Something that a view shows otherwise than it should."""

    sweep: str
    job: str
    what: str


@dataclass
class Found:
    """What a comparison found. shortened: texts that MLflow would refuse, by their mark: what they begin with."""

    runs: int = 0
    differences: list[Difference] = field(default_factory=list)
    shortened: dict[str, str] = field(default_factory=dict)


def verify(place: Place, store: str, view: View, progress: Callable[[int, int], None] = lambda done, of: None) -> Found:
    """Compare a view with a store. store: its id. progress: told how many runs are compared, and of how many."""
    found = Found()
    digests, known = contents.digests(place), view.known()
    sweeps = {one.name: [job for job in one.jobs if job in digests] for one in manifests(place)}
    total = sum(map(len, sweeps.values()))
    for sweep in dict.fromkeys([*sweeps, *known]):
        wanted = sweeps.get(sweep, [])
        known_jobs = set(wanted)
        there = [run for run in known.get(sweep, ()) if run.active and run.digest is not None]
        shown = {run.job: run for run in there}
        for run in there:
            if run.job not in known_jobs or shown[run.job] is not run:
                found.differences.append(Difference(sweep, run.job, f"run {run.run} {EXTRA}"))
        for i in range(0, len(wanted), contents.AT_ONCE):
            jobs = wanted[i : i + contents.AT_ONCE]
            expected = contents.Contents(place, set(jobs)).runs(sweep, store, jobs)
            for one, stored in _pairs(expected, shown, view):
                found.runs += 1
                found.differences += (Difference(sweep, one.job, what) for what in differences(one, stored))
                found.shortened |= {
                    key.removeprefix(FULL).partition(".")[0]: value[:80]
                    for key, value in one.tags.items()
                    if key.startswith(FULL) and key.endswith(".0")
                }
                progress(found.runs, total)
    return found


def _pairs(expected: Iterator[Shown], shown: dict[str, Known], view: View) -> Iterator[tuple[Shown, Stored | None]]:
    while some := list(islice(expected, max(view.at_once, 20))):
        runs = {run.job: shown[run.job].run for run in some if run.job in shown}
        stored = {one.run: one for one in view.read(list(runs.values()))}
        yield from ((run, stored.get(runs.get(run.job, ""))) for run in some)


def differences(run: Shown, stored: Stored | None) -> Iterator[str]:
    """In which points a run is not as it should be, in words."""
    if stored is None:
        yield MISSING
        return
    own = {key: value for key, value in stored.tags.items() if key in OWN_TAGS or key.startswith("lfombench.")}
    metrics = {point: _number(value) for point, value in run.metrics.items()}
    datasets = [(run.dataset.name, run.dataset.digest)] if run.dataset else []
    pairs: list[tuple[str, Mapping[Any, Any], Mapping[Any, Any]]] = [
        ("name", {"": run.name}, {"": stored.name}),
        ("status", {"": run.status}, {"": stored.status}),
        ("begin", {"": run.begin}, {"": stored.begin}),
        ("end", {"": run.end}, {"": stored.end}),
        ("tag", run.tags, own),
        ("parameter", run.params, stored.params),
        ("metric", metrics, {point: _number(value) for point, value in stored.metrics.items()}),
        ("last value of", _last(run.metrics), {key: _number(value) for key, value in stored.latest.items()}),
        ("dataset", dict(datasets), dict(stored.datasets)),
    ]
    for kind, right, there in pairs:
        for key in dict.fromkeys([*right, *there]):
            if right.get(key) != there.get(key):
                name = " at step ".join(map(str, key)) if isinstance(key, tuple) else str(key)
                name = f"{kind} {name}".strip()
                yield f"{name}: {_said(there, key)}, should be {_said(right, key)}"


def _last(metrics: Points) -> dict[str, str]:
    """The last value of each metric."""
    return {key: _number(value) for (key, _), value in sorted(metrics.items())}


def _said(values: Mapping[Any, Any], key: object) -> str:
    return f"{values[key]!s:.60}" if key in values else "nothing"


def _number(value: float) -> str:
    """A metric's value as MLflow's database has it, as text, so that NaN is equal to NaN."""
    number, is_nan = finite(value)
    return "nan" if is_nan else repr(number)
