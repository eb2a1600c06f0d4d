"""The rows of a sweep's results by group: those of a solver of one depth at one step, on one test, under one protocol.

A store may have ten million rows: columns that are not needed are not read, texts are read as numbers, and rows are
gathered by group as they come.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
from jaxtyping import Bool, Int

from lfombench.harness.store.rows import Rows, split

from .results import Tables

LOOSE = 0.05  # a bound's fit is loose where its error is above this part of its mean error
WORDS = ("task", "test", "protocol", "solver", "family")
NUMBERS = ("seed", "params", "log_mse", "q99", "fit_error")
CODED = ("job", "task", "test", "protocol", "solver", "family", "status", "code")

Key = tuple[str, str, str, str, int]  # task, test, protocol, solver, depth


class Group(NamedTuple):
    """The rows of a solver of one depth at one step."""

    task: str
    test: str
    protocol: str
    solver: str
    step: int
    family: str
    depth: int
    params: int | None
    heavy: int
    loose: bool
    diverged: int
    stray: int
    seeds: np.ndarray
    values: np.ndarray

    @property
    def cell(self) -> Key:
        """The cell that the rows belong to."""
        return self[:5]


def grouped(tables: Tables, jobs: list[str]) -> tuple[list[Group], list[str]]:
    """The rows of these jobs that stand for a solver of depth `step`, by group; and the codes behind them."""
    ids = frozenset(jobs)

    def gather(rows: Rows) -> tuple[list[Group], list[str]]:
        groups, codes = list[Group](), set[str]()
        for batch in rows.batches([*CODED, "step", "depth", *NUMBERS], coded=CODED):
            column = batch.column("job")
            here = column.dictionary.to_pylist()
            if not ids.issuperset(here):
                batch = batch.filter(pa.array([job in ids for job in here], pa.bool_()).take(column.indices))
            if len(batch):
                groups += groups_of(batch.drop_columns(["job"]), codes)
        return groups, sorted(codes)

    return tables.read("results", gather)


@dataclass(frozen=True)
class Words:
    """A text column: which of its names each row has, -1 for none; None where all rows have the same."""

    which: np.ndarray | None
    names: list[Any]

    @classmethod
    def of(cls, codes: pl.Series, texts: list[str]) -> Words:
        """A column, by the number that each row has, and by the texts that these stand for."""
        nulls = codes.null_count()
        if len(texts) == 1 and not nulls:
            return cls(None, texts)
        return cls((codes.fill_null(-1) if nulls else codes).to_numpy(), [*texts, None])

    def at(self, rows: Int[np.ndarray, " rows"]) -> Iterable[Any]:
        """The names in some rows."""
        return itertools.repeat(self.names[0]) if self.which is None else [self.names[i] for i in self.which[rows]]

    def mark(self, name: str) -> Bool[np.ndarray, "*rows"]:
        """Whether each row has this name; one answer for all where all have the same."""
        marks = np.array([each == name for each in self.names])
        found: np.ndarray = marks[0] if self.which is None else marks[self.which]
        return found

    @property
    def known(self) -> set[str]:
        """The names that rows have."""
        every = [0] if self.which is None else np.flatnonzero(np.bincount(self.which + 1)) - 1
        return {self.names[i] for i in every} - {None}


def groups_of(batch: pa.RecordBatch, codes: set[str]) -> Iterator[Group]:
    """The groups of some rows."""
    plain, texts = split(batch)
    words = {name: Words.of(plain[name], each) for name, each in texts.items()}
    codes |= words["code"].known
    labels, family = [words[name] for name in WORDS], words["family"]
    step, depth, params = (plain[name].to_numpy() for name in ("step", "depth", "params"))
    trained = family.mark("learned") | (family.mark("control") & (params > 0))
    rows = np.flatnonzero((step > 0) & (~trained | (step == depth)))
    if not len(rows):
        return
    parts = [(each.which, len(each.names)) for each in labels if each.which is not None]
    parts += [(each, int(each.max()) + 2) for each in (step, depth)]
    small = np.min_scalar_type(math.prod(size for _, size in parts))  # numbers of 16 bits are sorted by radix
    key = np.zeros(len(rows), dtype=small)
    for part, size in parts:
        key = key * small.type(size) + (part[rows] + 1).astype(small)
    order = np.argsort(key, kind="stable")
    rows, key = rows[order], key[order]
    begins = np.flatnonzero(np.append(True, key[1:] != key[:-1]))

    def count(marks: Bool[np.ndarray, " rows"]) -> Int[np.ndarray, " groups"]:
        counts: np.ndarray = np.add.reduceat(marks, begins, dtype=int)
        return counts

    with np.errstate(all="ignore"):
        loss = plain["log_mse"].to_numpy()[rows]
        mse, finite = np.exp(loss), np.isfinite(loss)
        heavy = count(mse > plain["q99"].to_numpy()[rows])
        loose = np.zeros(len(begins), int)
        if plain["fit_error"].null_count() < len(batch):  # bounds alone have one
            loose = count(plain["fit_error"].to_numpy()[rows] > LOOSE * mse)
    odd = ~finite
    if odd.any():
        odd &= plain["log_mse"].is_not_null().to_numpy()[rows]
    stray, diverged = count(odd), count(np.broadcast_to(words["status"].mark("diverged"), len(batch))[rows])
    seeds, values = plain["seed"].to_numpy()[rows], np.where(finite, loss, np.inf)
    slices = list(map(slice, begins, [*begins[1:], len(rows)]))
    at = rows[begins]
    yield from map(
        Group,
        *(words[name].at(at) for name in ("task", "test", "protocol", "solver")),
        step[at].tolist(),
        family.at(at),
        depth[at].tolist(),
        (None if params != params else int(params) for params in params[at].tolist()),
        heavy.tolist(),
        (loose > 0).tolist(),
        diverged.tolist(),
        stray.tolist(),
        map(seeds.__getitem__, slices),
        map(values.__getitem__, slices),
    )
