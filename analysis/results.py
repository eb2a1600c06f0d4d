"""A store, read: its tables as Polars frames and the sweeps it knows."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import polars as pl
from pyarrow import fs

from lfombench.harness.store import snapshots
from lfombench.harness.store.filesystem import place


class NoStore(Exception):
    """There is nothing to read."""


@dataclass(frozen=True)
class Wanted:
    """A sweep as the store remembers it."""

    name: str
    about: str
    jobs: list[str]
    protocols: list[str]
    tests: list[str]
    skipped: list[dict[str, Any]]
    axis: str | None
    split: list[str]
    named: dict[str, list[str]]  # names of solvers, and the labels that each stands for
    crossover: list[str]  # two of them
    parts: list[str]  # sweeps whose jobs are also this one's


def table(out: str, name: str) -> pl.LazyFrame:
    """One of results, jobs, curves and weights, read when it is collected. Columns that older files lack are null; of a
    job that was tried twice the last row counts.
    """
    here = place(out)
    data = snapshots.dataset(here, name, snapshots.latest(here).paths(name))
    frame = pl.scan_pyarrow_dataset(data) if data.files else pl.LazyFrame(pl.DataFrame(data.schema.empty_table()))
    return _last(frame) if name == "jobs" else frame


def _last(jobs: pl.LazyFrame) -> pl.LazyFrame:
    return jobs.unique("job", keep="last", maintain_order=True)


class Tables:
    """A store's tables, each read once, when it is first asked for."""

    def __init__(self, out: str) -> None:
        self.out = out

    @functools.cached_property
    def results(self) -> pl.LazyFrame:
        """A row per job, test and iterate."""
        return self._read("results")

    @functools.cached_property
    def jobs(self) -> pl.LazyFrame:
        """A row per job."""
        return _last(self._read("jobs")).collect().lazy()

    @functools.cached_property
    def curves(self) -> pl.LazyFrame:
        """A row per job and point of its training curve."""
        return self._read("curves")

    @functools.cached_property
    def weights(self) -> pl.LazyFrame:
        """A row per job and parameter."""
        return self._read("weights")

    def _read(self, name: str) -> pl.LazyFrame:
        return pl.LazyFrame(pl.DataFrame(snapshots.read(place(self.out), name, lambda data: data.to_table())))


def sweeps(out: str, name: str = "*") -> list[Wanted]:
    """The sweeps that ran into a store, by name; or the one of that name."""
    here = place(out)
    if here.kind("store.json") != fs.FileType.File:
        raise NoStore(f"--out {out} holds no results yet; make some with `lfombench run SWEEP --out {out}`")
    known: list[Wanted] = []
    for base in here.names("sweeps"):
        if fnmatchcase(base, f"{name}.json"):
            try:
                found: dict[str, Any] = json.loads(here.read(f"sweeps/{base}") or b"null")
                known.append(Wanted(**{key: found[key] for key in Wanted.__dataclass_fields__}))
            except (ValueError, TypeError, KeyError) as error:
                raise NoStore(
                    f"{here.path(f'sweeps/{base}')} is damaged: delete it, and run its sweep again"
                ) from error
    return known


def mixed(out: str, codes: Iterable[str | None]) -> list[str]:
    """Files of which results with these fingerprints come from different versions."""
    here, versions = place(out), dict[str, set[str]]()
    for code in sorted({code for code in codes if code}):
        for module, found in json.loads(here.read(f"code/{code}.json") or b"{}").items():
            versions.setdefault(module, set()).add(found)
    return sorted(name for name, found in versions.items() if len(found) > 1)


def leaves(out: str, wanted: list[Wanted]) -> list[Wanted]:
    """These sweeps and their parts, each once, without those that have no jobs of their own."""
    found: dict[str, Wanted] = {}
    for sweep in wanted:
        if sweep.jobs:
            found.setdefault(sweep.name, sweep)
        for name in sweep.parts:
            for part in leaves(out, sweeps(out, name)):
                found.setdefault(part.name, part)
    return list(found.values())


def audit(out: str, sweep: str) -> dict[str, Any] | None:
    """What the last audit of a sweep found; None where there was none."""
    content = place(out).read(f"audits/{sweep}.json")
    found: dict[str, Any] | None = json.loads(content) if content is not None else None
    return found
