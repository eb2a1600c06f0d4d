"""The leaderboard: solvers by depth, with the mean log error over seeds and its interval, lowest first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any, TypeVar

import polars as pl

from lfombench.harness.store.manifest import Manifest

from .published import published, undrawn
from .results import Tables, mixed
from .statistics import mean_interval, tenth
from .suspect import suspects
from .titles import title

T = TypeVar("T")
COLUMNS = 8  # the most depths or values that are shown
EXACT = -25.0  # log errors below this are only rounding
LOOSE = 0.05  # a bound is marked where its fit error is above this part of its error


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
    tenth: float | None = None  # of the standard deviation over seeds: the paper draws it as a band
    suspect: str | None = None  # the bound that it is below, which should not be possible
    loose: bool = False  # whether it is a bound whose fit error is above LOOSE times its error

    @property
    def exact(self) -> bool:
        """Whether the error is only rounding."""
        return self.mean < EXACT


@dataclass(frozen=True)
class Row:
    """A solver at all its depths."""

    solver: str
    family: str
    params: dict[int, int]  # by depth
    cells: dict[int, Cell]  # by depth
    diverged: int
    title: str  # the name that the sweep gives it, or its label

    @property
    def parameters(self) -> int:
        """The number of parameters at the deepest depth."""
        return self.params[max(self.params)] if self.params else 0

    @property
    def competes(self) -> bool:
        """Whether it is a method with a number of steps; bounds and controls are not."""
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
        """The depths to show: all, or an even selection of them."""
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
        """Whether the solvers were tested on the prompts they were trained on."""
        return "test_on=training" in self.protocol

    @property
    def redraws(self) -> int:
        """The number of times that the prompts were drawn."""
        return max((cell.redraws for row in self.rows for cell in row.cells.values()), default=1)

    @property
    def suspects(self) -> list[str]:
        """Descriptions of the rows that are below a bound."""
        return [
            f"{row.solver} at depth {depth} is below {cell.suspect}"
            for row in self.rows
            for depth, cell in row.cells.items()
            if cell.suspect
        ]

    def leaders(self, depth: int) -> set[str]:
        """The method with the lowest mean at a depth, and methods whose interval overlaps its interval; no bounds."""
        cells = {row.solver: row.cells[depth] for row in self.rows if depth in row.cells and row.competes}
        if not cells:
            return set()
        best = min(cells.values(), key=lambda cell: cell.mean)
        upper = best.mean + (best.half_width or 0)
        return {solver for solver, cell in cells.items() if cell.mean - (cell.half_width or 0) <= upper}


def evenly(values: list[T]) -> list[T]:
    """All values, or an even selection of as many as a table holds, first and last included."""
    if len(values) <= COLUMNS:
        return values
    return [values[round(i * (len(values) - 1) / (COLUMNS - 1))] for i in range(COLUMNS)]


@dataclass(frozen=True)
class Boards:
    """All boards of a sweep, and how many of its jobs they are based on."""

    sweep: str
    about: str
    wanted: int
    done: int
    boards: list[Board]
    skipped: list[dict[str, Any]]
    mixed: list[str]  # source files of which different versions computed its results

    @property
    def partial(self) -> bool:
        """Whether jobs are still missing."""
        return self.done < self.wanted

    @property
    def diverged(self) -> int:
        """The number of jobs whose training diverged."""
        return sum(row.diverged for board in self.boards for row in board.rows if board.test == board.task)

    @property
    def loose(self) -> bool:
        """Whether any board has a bound whose fit error is above LOOSE times its error."""
        return any(cell.loose for board in self.boards for row in board.rows for cell in row.cells.values())

    @property
    def suspects(self) -> list[str]:
        """Descriptions of the rows that are below a bound, on any board."""
        return [f"{board.protocol}: {text}" for board in self.boards for text in board.suspects]

    def as_json(self) -> dict[str, Any]:
        """The boards as plain values, for scripts."""
        return asdict(self) | {"partial": self.partial, "suspects": self.suspects}


def boards(tables: Tables, sweep: Manifest) -> Boards:
    """Every board of a sweep, from what the store holds of it."""
    frame = tables.results.filter(pl.col("job").is_in(sweep.jobs)).collect()
    jobs = tables.jobs.filter(pl.col("job").is_in(sweep.jobs))
    details = jobs.select("job", "floors", "budget").collect()
    floors, fitted = (
        dict(details.select("job", "floors").iter_rows()),
        dict(details.select("job", "budget").iter_rows()),
    )
    tests = {(job, test) for job, test in frame.select("job", "test").unique().iter_rows()}
    complete = sum(
        all((job, test) in tests for test in (task, *sweep.tests))
        for job, task in frame.select("job", "task").unique().iter_rows()
    )
    if sweep.axis:  # experts' transfers along the axis are not boards
        frame = frame.filter((pl.col("task") == pl.col("test")) | pl.col("test").is_in(sweep.tests))
    frame = without_draws(frame)
    groups = {
        (str(task), str(test), str(protocol)): rows
        for (task, test, protocol), rows in frame.group_by("task", "test", "undrawn")
    }
    order = {undrawn(name): i for i, name in reversed(list(enumerate(sweep.protocols)))}
    ordered = sorted(groups, key=lambda key: (key[0], key[1] != key[0], key[1], order.get(key[2], len(order)), key[2]))
    titles = {label: title(name, labels, label) for name, labels in sweep.named.items() for label in labels}
    ordered_boards = [_board(*key, groups[key], floors, fitted, titles if key[2] in order else {}) for key in ordered]
    versions = mixed(tables.out, frame["code"].unique().to_list())
    return Boards(sweep.name, sweep.about, len(sweep.jobs), complete, ordered_boards, sweep.skipped, versions)


def without_draws(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with a column `undrawn`: the protocol without its data seed."""
    labels = frame["protocol"].unique().to_list()
    names = pl.DataFrame(
        {"protocol": labels, "undrawn": [undrawn(label) for label in labels]},
        schema={"protocol": pl.String, "undrawn": pl.String},
    )
    return frame.join(names, on="protocol", how="left", maintain_order="left")


def at_their_depth(frame: pl.DataFrame) -> pl.DataFrame:
    """The rows that stand for a solver of depth `step`: a trained model's last iterate, any iterate of the others.

    A model trained for depth 4 is not a model of depth 2, nor is a control made of such models; conjugate gradients
    stopped after 2 steps are a method of depth 2.
    """
    trained = (pl.col("family") == "learned") | ((pl.col("family") == "control") & (pl.col("params") > 0))
    rows = frame.filter((pl.col("step") > 0) & (~trained | (pl.col("step") == pl.col("depth"))))
    key = ("task", "test", "protocol", "solver", "seed", "step")
    return rows.sort("depth").unique(key, keep="last", maintain_order=True)


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
    suspect_bounds = suspects(frame, {job: labels or () for job, labels in floors.items()}, fitted)
    diverged = frame.filter(status="diverged").group_by("solver", "family").agg(pl.col("job").n_unique()).iter_rows()
    diverged_jobs = {(solver, family): jobs for solver, family, jobs in diverged}
    is_loose = (pl.col("fit_error") > LOOSE * pl.col("mse")).any().alias("loose")
    cells = frame.group_by("solver", "family", "step", maintain_order=True).agg(
        pl.col("params").first(), "protocol", "log_mse", is_loose
    )
    published_values = {
        solver: published(task, solver, protocol) if test == task else {} for solver in frame["solver"].unique()
    }
    rows: dict[tuple[str, str], Row] = {}
    for solver, family, depth, params, protocols, log_mse, loose in cells.iter_rows():
        if (solver, family) not in rows:
            count, title = diverged_jobs.get((solver, family), 0), titles.get(solver, solver)
            rows[solver, family] = Row(solver, family, {}, {}, count, title)
        row = rows[solver, family]
        row.params[depth] = params
        if cell := _cell(
            protocols, log_mse, loose, published_values[solver].get(depth), suspect_bounds.get((solver, depth))
        ):
            row.cells[depth] = cell
    return Board(task, test, protocol, _ranked(list(rows.values())))


def _cell(
    protocols: Sequence[str], log_mse: Sequence[float | None], loose: bool, known: float | None, suspect: str | None
) -> Cell | None:
    """The cell of one solver at one depth. The protocols say whether its prompts were drawn once or more often."""
    by_draw: dict[str, list[float]] = {}
    for protocol, value in zip(protocols, log_mse, strict=True):
        if value is not None:
            by_draw.setdefault(protocol, []).append(value)
    losses_by_draw = list(by_draw.values())
    if not losses_by_draw:
        return None
    if len(losses_by_draw) == 1:
        mean, half_width = mean_interval(losses_by_draw[0])
        return Cell(
            mean,
            half_width,
            len(losses_by_draw[0]),
            known,
            tenth=tenth(losses_by_draw[0]),
            suspect=suspect,
            loose=loose,
        )
    means = [fmean(values) for values in losses_by_draw]
    mean, half_width = mean_interval(means)
    seeds = max(map(len, losses_by_draw))
    return Cell(
        mean, half_width, seeds, known, min(means), max(means), len(losses_by_draw), suspect=suspect, loose=loose
    )


def _ranked(rows: list[Row]) -> list[Row]:
    """Rows sorted by the mean at the deepest depth that all rows have, lowest first; rows without values last."""
    shared = (
        set.intersection(*(set(row.cells) for row in rows if row.cells)) if any(row.cells for row in rows) else set()
    )

    def rank(row: Row) -> tuple[bool, float, str]:
        depth = max(shared or row.cells, default=0)
        return (not row.cells, row.cells[depth].mean if row.cells else 0.0, row.solver)

    return sorted(rows, key=rank)
