"""A store, read: its tables as Polars frames and the sweeps it knows."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import polars as pl
import pyarrow.dataset as ds
from pyarrow import fs

from lfombench.harness import schema
from lfombench.harness.place import locate


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
    parts: list[str]  # sweeps whose jobs are also this one's


def table(out: str, name: str) -> pl.LazyFrame:
    """One of results, jobs and curves. Columns that older files lack are null; of a job tried twice, the last row."""
    files, root = locate(out)
    found = files.get_file_info(fs.FileSelector(f"{root}/{name}", allow_not_found=True))
    paths = sorted(i.path for i in found if i.base_name.endswith(".parquet") and not i.base_name.startswith("."))
    data = ds.dataset(paths, schema=schema.arrow(name), format="parquet", filesystem=files)
    frame = pl.scan_pyarrow_dataset(data) if paths else pl.LazyFrame(pl.DataFrame(schema.arrow(name).empty_table()))
    if name == "jobs":
        return frame.sort("finished").unique("job", keep="last", maintain_order=True)
    if name == "curves":  # a pack that was cut short before its results may have left some
        return frame.unique(["job", "step"])
    return frame


class Tables:
    """A store's tables, each read once, when it is first asked for."""

    def __init__(self, out: str) -> None:
        self.out = out

    @functools.cached_property
    def results(self) -> pl.LazyFrame:
        """A row per job, test and iterate."""
        return table(self.out, "results").collect().lazy()

    @functools.cached_property
    def jobs(self) -> pl.LazyFrame:
        """A row per job."""
        return table(self.out, "jobs").collect().lazy()

    @functools.cached_property
    def curves(self) -> pl.LazyFrame:
        """A row per job and point of its training curve."""
        return table(self.out, "curves").collect().lazy()


def sweeps(out: str, name: str = "*") -> list[Wanted]:
    """The sweeps that ran into a store, by name; or the one of that name."""
    files, root = locate(out)
    if files.get_file_info(f"{root}/store.json").type != fs.FileType.File:
        raise NoStore(f"--out {out} holds no results yet; make some with `lfombench run SWEEP --out {out}`")
    known: list[Wanted] = []
    for info in sorted(
        files.get_file_info(fs.FileSelector(f"{root}/sweeps", allow_not_found=True)), key=lambda i: i.path
    ):
        if fnmatchcase(info.base_name, f"{name}.json") and not info.base_name.startswith("."):
            with files.open_input_stream(info.path) as stream:
                try:
                    found: dict[str, Any] = json.loads(stream.read())
                    known.append(Wanted(**{key: found[key] for key in Wanted.__dataclass_fields__}))
                except (ValueError, TypeError, KeyError) as error:
                    raise NoStore(f"{info.path} is damaged: delete it, and run its sweep again") from error
    return known


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
    files, root = locate(out)
    path = f"{root}/audits/{sweep}.json"
    if files.get_file_info(path).type != fs.FileType.File:
        return None
    with files.open_input_stream(path) as stream:
        found: dict[str, Any] = json.loads(stream.read())
    return found
