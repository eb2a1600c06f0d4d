"""The leaderboard: solvers by depth, the mean log error over seeds with an interval, lowest first."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any, TypeVar

import polars as pl

from .published import published, undrawn
from .results import Tables, Wanted, mixed
from .statistics import mean_interval, tenth
from .suspect import suspects

T = TypeVar("T")
COLUMNS = 8  # depths or values shown at most
EXACT = -25.0  # a log error below which it is rounding
LOOSE = 0.05  # of a bound's error


@dataclass(frozen=True)
class Cell:
    """A solver at one depth. Where prompts were redrawn (by data seed), low and high are the least and largest mean."""

    mean: float
    half_width: float | None  # of the 95 % interval over seeds
    seeds: int
    published: float | None
    low: float | None = None
    high: float | None = None
    redraws: int = 1
    tenth: float | None = None  # of the standard deviation over seeds: the band that the paper draws
    suspect: str | None = None  # the bound that it beats and cannot
    loose: bool = False  # a bound whose own fit may lack more than LOOSE

    @property
    def exact(self) -> bool:
        """Whether the error is only rounding."""
        return self.mean < EXACT


@dataclass(frozen=True)
class Row:
    """A solver."""

    solver: str
    family: str
    params: dict[int, int]  # by depth
    cells: dict[int, Cell]  # by depth
    diverged: int
    title: str  # the name that the sweep gives it, or its label

    @property
    def parameters(self) -> int:
        """At its deepest depth."""
        return self.params[max(self.params)] if self.params else 0

    @property
    def competes(self) -> bool:
        """Whether it is a method of so many steps; bounds and controls are not."""
        return self.family in ("classical", "learned")


@dataclass(frozen=True)
class Board:
    """Solvers trained on one task under one protocol, on the same test prompts."""

    task: str
    test: str
    protocol: str
    rows: list[Row]

    @property
    def depths(self) -> list[int]:
        """The depths to show: all, or an even selection."""
        return evenly(sorted({depth for row in self.rows for depth in row.cells}))

    @property
    def published(self) -> bool:
        """Whether the paper has values to compare with."""
        return any(cell.published is not None for row in self.rows for cell in row.cells.values())

    @property
    def drawable(self) -> bool:
        """Whether a chart has anything to show."""
        return any(not cell.exact for row in self.rows for cell in row.cells.values())

    @property
    def memorised(self) -> bool:
        """Whether it tests on what was trained on."""
        return "test_on=training" in self.protocol

    @property
    def redraws(self) -> int:
        """How often the prompts were drawn."""
        return max((cell.redraws for row in self.rows for cell in row.cells.values()), default=1)

    @property
    def suspects(self) -> list[str]:
        """Rows that beat a bound."""
        return [
            f"{row.solver} at depth {depth} is below {cell.suspect}"
            for row in self.rows
            for depth, cell in row.cells.items()
            if cell.suspect
        ]

    def leaders(self, depth: int) -> set[str]:
        """The solver with the lowest mean at a depth, and those whose interval reaches its own; bounds apart."""
        cells = {row.solver: row.cells[depth] for row in self.rows if depth in row.cells and row.competes}
        if not cells:
            return set()
        best = min(cells.values(), key=lambda cell: cell.mean)
        reach = best.mean + (best.half_width or 0)
        return {solver for solver, cell in cells.items() if cell.mean - (cell.half_width or 0) <= reach}


def evenly(values: list[T]) -> list[T]:
    """All, or an even selection of as many as a table holds, ends included."""
    if len(values) <= COLUMNS:
        return values
    return [values[round(i * (len(values) - 1) / (COLUMNS - 1))] for i in range(COLUMNS)]


@dataclass(frozen=True)
class Boards:
    """All boards of a sweep, and how much of it they rest on."""

    sweep: str
    about: str
    wanted: int
    done: int
    boards: list[Board]
    skipped: list[dict[str, Any]]
    mixed: list[str]  # files of which its results come from different versions

    @property
    def partial(self) -> bool:
        """Whether jobs are still missing."""
        return self.done < self.wanted

    @property
    def diverged(self) -> int:
        """Jobs whose training diverged."""
        return sum(row.diverged for board in self.boards for row in board.rows if board.test == board.task)

    @property
    def loose(self) -> bool:
        """Whether a bound's fit leaves much open, on any board."""
        return any(cell.loose for board in self.boards for row in board.rows for cell in row.cells.values())

    @property
    def suspects(self) -> list[str]:
        """Rows that beat a bound, on any board."""
        return [f"{board.protocol}: {text}" for board in self.boards for text in board.suspects]

    def as_json(self) -> dict[str, Any]:
        """Plain values, for scripts."""
        return asdict(self) | {"partial": self.partial, "suspects": self.suspects}


def boards(tables: Tables, sweep: Wanted) -> Boards:
    """Every board of a sweep, from what the store holds of it."""
    frame = tables.results.filter(pl.col("job").is_in(sweep.jobs)).collect()
    jobs = tables.jobs.filter(pl.col("job").is_in(sweep.jobs))
    about = jobs.select("job", "floors", "budget").collect()
    floors, fitted = dict(about.select("job", "floors").iter_rows()), dict(about.select("job", "budget").iter_rows())
    tests = {(job, test) for job, test in frame.select("job", "test").unique().iter_rows()}
    complete = sum(
        all((job, test) in tests for test in (task, *sweep.tests))
        for job, task in frame.select("job", "task").unique().iter_rows()
    )
    if sweep.axis:  # experts' transfers along it are no boards
        frame = frame.filter((pl.col("task") == pl.col("test")) | pl.col("test").is_in(sweep.tests))
    frame = without_draws(frame)
    groups = {
        (str(task), str(test), str(protocol)): rows
        for (task, test, protocol), rows in frame.group_by("task", "test", "undrawn")
    }
    order = {undrawn(name): i for i, name in reversed(list(enumerate(sweep.protocols)))}
    ordered = sorted(groups, key=lambda key: (key[0], key[1] != key[0], key[1], order.get(key[2], len(order)), key[2]))
    titles = {label: _title(name, labels, label) for name, labels in sweep.named.items() for label in labels}
    made = [_board(*key, groups[key], floors, fitted, titles if key[2] in order else {}) for key in ordered]
    versions = mixed(tables.out, frame["code"].unique().to_list())
    return Boards(sweep.name, sweep.about, len(sweep.jobs), complete, made, sweep.skipped, versions)


def without_draws(frame: pl.DataFrame) -> pl.DataFrame:
    """With a column `undrawn`: the protocol without its data seed."""
    labels = frame["protocol"].unique().to_list()
    names = pl.DataFrame(
        {"protocol": labels, "undrawn": [undrawn(label) for label in labels]},
        schema={"protocol": pl.String, "undrawn": pl.String},
    )
    return frame.join(names, on="protocol", how="left", maintain_order="left")


def at_their_depth(frame: pl.DataFrame) -> pl.DataFrame:
    """Rows that speak for a solver at depth `step`: a trained model's last iterate, any iterate of the others.

    A model trained for depth 4 is no model of depth 2, nor is a control made of such models; conjugate gradients
    stopped after 2 steps are.
    """
    trained = (pl.col("family") == "learned") | ((pl.col("family") == "control") & (pl.col("params") > 0))
    rows = frame.filter((pl.col("step") > 0) & (~trained | (pl.col("step") == pl.col("depth"))))
    key = ("task", "test", "protocol", "solver", "seed", "step")
    return rows.sort("depth").unique(key, keep="last", maintain_order=True)


def _title(name: str, labels: Sequence[str], label: str) -> str:
    """A name, with what tells the solver from others of it: a mixture's experts, its options, or all its label."""
    every = [_parts(one) for one in labels]
    told = [part for part, others in zip(_parts(label), zip(*every, strict=True), strict=True) if len(set(others)) > 1]
    words = ", ".join(filter(None, told))
    return f"{name}: {words}" if words else name


def _parts(label: str) -> tuple[str, str]:
    """Experts and options of a mixture; of another solver, its label."""
    found = re.fullmatch(r"\w+\(experts=\[(.*)\] #\w+(?:, )?(.*)\)", label)
    return (found[1], found[2]) if found else (label, "")


def _board(
    task: str,
    test: str,
    protocol: str,
    frame: pl.DataFrame,
    floors: Mapping[str, Sequence[str] | None],
    fitted: Mapping[str, int],
    titles: Mapping[str, str],
) -> Board:
    frame = at_their_depth(frame).sort("solver", "step", "protocol", "seed")
    beaten = suspects(frame, {job: found or () for job, found in floors.items()}, fitted)
    diverged = frame.filter(status="diverged").group_by("solver", "family").agg(pl.col("job").n_unique()).iter_rows()
    lost = {(solver, family): jobs for solver, family, jobs in diverged}
    far = (pl.col("fit_error") > LOOSE * pl.col("mse")).any().alias("far")
    cells = frame.group_by("solver", "family", "step", maintain_order=True).agg(
        pl.col("params").first(), "protocol", "log_mse", far
    )
    known = {solver: published(task, solver, protocol) if test == task else {} for solver in frame["solver"].unique()}
    rows: dict[tuple[str, str], Row] = {}
    for solver, family, depth, params, protocols, log_mse, loose in cells.iter_rows():
        if (solver, family) not in rows:
            broken, title = lost.get((solver, family), 0), titles.get(solver, solver)
            rows[solver, family] = Row(solver, family, {}, {}, broken, title)
        row = rows[solver, family]
        row.params[depth] = params
        if cell := _cell(protocols, log_mse, loose, known[solver].get(depth), beaten.get((solver, depth))):
            row.cells[depth] = cell
    return Board(task, test, protocol, _ranked(list(rows.values())))


def _cell(
    protocols: Sequence[str], log_mse: Sequence[float | None], loose: bool, known: float | None, suspect: str | None
) -> Cell | None:
    """Of one solver at one depth, whose prompts were drawn once or, as the protocols say, more often."""
    draws: dict[str, list[float]] = {}
    for protocol, value in zip(protocols, log_mse, strict=True):
        if value is not None:
            draws.setdefault(protocol, []).append(value)
    drawn = list(draws.values())
    if not drawn:
        return None
    if len(drawn) == 1:
        mean, half_width = mean_interval(drawn[0])
        return Cell(mean, half_width, len(drawn[0]), known, tenth=tenth(drawn[0]), suspect=suspect, loose=loose)
    means = [fmean(values) for values in drawn]
    mean, half_width = mean_interval(means)
    seeds = max(map(len, drawn))
    return Cell(mean, half_width, seeds, known, min(means), max(means), len(drawn), suspect=suspect, loose=loose)


def _ranked(rows: list[Row]) -> list[Row]:
    """Lowest first at the deepest depth that all rows have; rows without values last."""
    shared = (
        set.intersection(*(set(row.cells) for row in rows if row.cells)) if any(row.cells for row in rows) else set()
    )

    def rank(row: Row) -> tuple[bool, float, str]:
        depth = max(shared or row.cells, default=0)
        return (not row.cells, row.cells[depth].mean if row.cells else 0.0, row.solver)

    return sorted(rows, key=rank)
