"""The leaderboard: solvers by depth, the mean log error over seeds with an interval, lowest first."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import polars as pl

from .published import published
from .results import Wanted, table
from .statistics import mean_interval

COLUMNS = 8  # depths shown at most


@dataclass(frozen=True)
class Cell:
    """A solver at one depth."""

    mean: float
    half_width: float | None  # of the 95 % interval over seeds
    seeds: int
    published: float | None


@dataclass(frozen=True)
class Row:
    """A solver."""

    solver: str
    family: str
    params: dict[int, int]  # by depth
    cells: dict[int, Cell]  # by depth
    diverged: int


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
        every = sorted({depth for row in self.rows for depth in row.cells})
        if len(every) <= COLUMNS:
            return every
        return sorted({every[round(i * (len(every) - 1) / (COLUMNS - 1))] for i in range(COLUMNS)})

    @property
    def published(self) -> bool:
        """Whether the paper has values to compare with."""
        return any(cell.published is not None for row in self.rows for cell in row.cells.values())

    def leaders(self, depth: int) -> set[str]:
        """The solver with the lowest mean at a depth, and those whose interval reaches its own; bounds apart."""
        cells = {row.solver: row.cells[depth] for row in self.rows if depth in row.cells and row.family != "bound"}
        if not cells:
            return set()
        best = min(cells.values(), key=lambda cell: cell.mean)
        reach = best.mean + (best.half_width or 0)
        return {solver for solver, cell in cells.items() if cell.mean - (cell.half_width or 0) <= reach}


@dataclass(frozen=True)
class Boards:
    """All boards of a sweep, and how much of it they rest on."""

    sweep: str
    about: str
    wanted: int
    done: int
    boards: list[Board]

    @property
    def partial(self) -> bool:
        """Whether jobs are still missing."""
        return self.done < self.wanted

    @property
    def diverged(self) -> int:
        """Jobs whose training diverged."""
        return sum(row.diverged for board in self.boards for row in board.rows if board.test == board.task)

    def as_json(self) -> dict[str, Any]:
        """Plain values, for scripts."""
        return asdict(self) | {"partial": self.partial}


def boards(out: str, sweep: Wanted) -> Boards:
    """Every board of a sweep, from what the store holds of it."""
    frame = table(out, "results").filter(pl.col("job").is_in(sweep.jobs)).drop("blocks").collect()
    tests = {(job, test) for job, test in frame.select("job", "test").unique().iter_rows()}
    complete = sum(
        all((job, test) in tests for test in (task, *sweep.tests))
        for job, task in frame.select("job", "task").unique().iter_rows()
    )
    groups = {
        (str(task), str(test), str(protocol)): rows
        for (task, test, protocol), rows in frame.group_by("task", "test", "protocol")
    }
    order = {name: i for i, name in enumerate(sweep.protocols)}
    ordered = sorted(groups, key=lambda key: (key[0], key[1] != key[0], key[1], order.get(key[2], len(order)), key[2]))
    return Boards(sweep.name, sweep.about, len(sweep.jobs), complete, [_board(*key, groups[key]) for key in ordered])


def at_their_depth(frame: pl.DataFrame) -> pl.DataFrame:
    """Rows that speak for a solver at depth `step`: a trained model's last iterate, any iterate of the others.

    A model trained for depth 4 is no model of depth 2; conjugate gradients stopped after 2 steps are.
    """
    rows = frame.filter((pl.col("step") > 0) & ((pl.col("family") != "learned") | (pl.col("step") == pl.col("depth"))))
    key = ("task", "test", "protocol", "solver", "seed", "step")
    return rows.sort("depth").unique(key, keep="last", maintain_order=True)


def _board(task: str, test: str, protocol: str, frame: pl.DataFrame) -> Board:
    frame = at_their_depth(frame).sort("solver", "step", "seed")
    rows = []
    for (solver, family), mine in frame.group_by("solver", "family", maintain_order=True):
        known = published(task, str(solver)) if test == task else {}
        cells, params = {}, {}
        for (step,), cell in mine.group_by("step", maintain_order=True):
            depth = int(str(step))
            values = cell["log_mse"].drop_nulls().to_list()
            params[depth] = cell["params"][0]
            if values:
                mean, half_width = mean_interval(values)
                cells[depth] = Cell(mean, half_width, len(values), known.get(depth))
        diverged = mine.filter(pl.col("status") == "diverged")["job"].n_unique()
        rows.append(Row(str(solver), str(family), params, cells, diverged))
    return Board(task, test, protocol, _ranked(rows))


def _ranked(rows: list[Row]) -> list[Row]:
    """Lowest first at the deepest depth that all rows have; rows without values last."""
    shared = (
        set.intersection(*(set(row.cells) for row in rows if row.cells)) if any(row.cells for row in rows) else set()
    )

    def rank(row: Row) -> tuple[bool, float, str]:
        depth = max(shared or row.cells, default=0)
        return (not row.cells, row.cells[depth].mean if row.cells else 0.0, row.solver)

    return sorted(rows, key=rank)
