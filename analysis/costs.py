"""What solvers cost, and which are on the front: no cheaper one is significantly better."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from .board import Board
from .results import Tables

COSTS = {"params": "parameters", "prompts": "prompts met in training, by all trials"}


@dataclass(frozen=True)
class Priced:
    """A method at the depth that its board is ranked at. front: no method that is told the same and costs as much or
    less is better, by a real difference.
    """

    solver: str
    cost: float
    mean: float
    front: bool


def priced(tables: Tables, board: Board, cost: str) -> list[Priced]:
    """The methods of a board by what they cost, cheapest first; those that lost a seed are not on the front."""
    at = board.ranked_at
    if at is None or at not in board.rankings:
        return []
    spent = _spent(tables, board) if cost == "prompts" else {}
    rows = [row for row in board.rows if row.competes and at in row.cells and row.cells[at].mean is not None]
    own = {row.solver: float(row.params.get(at, 0)) for row in rows}
    costs = {solver: spent.get((solver, at), 0.0) if cost == "prompts" else own[solver] for solver in own}
    found = []
    for row in rows:
        rivals = [other for other in rows if other is not row and other.told == row.told]
        cheaper = [other for other in rivals if costs[other.solver] <= costs[row.solver]]
        beaten = any(board.rankings[at].difference(row.solver, other.solver).verdict == "worse" for other in cheaper)
        mean = row.cells[at].mean
        assert mean is not None
        found.append(Priced(row.solver, costs[row.solver], mean, not beaten and not row.cells[at].lost))
    return sorted(found, key=lambda one: (one.cost, one.mean, one.solver))


def _spent(tables: Tables, board: Board) -> Mapping[tuple[str, int], float]:
    """Prompts that training met, the mean over seeds, by solver and depth."""
    jobs = tables.jobs.filter((pl.col("task") == board.task) & pl.col("budget").is_not_null())
    means = jobs.group_by("solver", "depth", "protocol").agg(pl.col("budget").mean()).collect()
    return {
        (solver, depth): budget for solver, depth, protocol, budget in means.iter_rows() if protocol == board.protocol
    }
