"""What methods cost, and which are on the front: no cheaper one is significantly better."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from .board import Board, Row, listed
from .losses import Losses
from .results import Tables

COSTS = {
    "params": "parameters",
    "steps": "layers or steps",
    "flops": "operations for a prompt",
    "prompts": "prompts met in training, by all trials",
    "labels": "labels met in training, by all trials",
}
FRONTS = ("params", "flops", "prompts")  # against which a report draws losses: labels are so many of each prompt


def costs(tables: Tables, losses: Losses) -> dict[str, float]:
    """What a method takes at its depth: those of COSTS that the store knows. An iterate of a method that is not trained
    takes what the deepest job took until then.
    """
    found: dict[str, float | None] = {"params": losses.params, "steps": losses.depth}
    by_depth = tables.spent.get((losses.task, losses.protocol, losses.solver), {})
    spent = by_depth.get(losses.depth if losses.family == "learned" else max(by_depth, default=0))
    if spent:
        flops = spent.flops[losses.depth - 1] if spent.flops else None
        found |= {"flops": flops, "prompts": spent.prompts, "labels": spent.labels}
    return {name: float(value) for name, value in found.items() if value is not None}


@dataclass(frozen=True)
class Priced:
    """A method at the depth that its board is ranked at. front: no method that is told the same and costs as much or
    less is better, by a real difference.
    """

    solver: str
    cost: float
    mean: float
    front: bool


def priced(board: Board, cost: str) -> list[Priced]:
    """The methods of a board by what they cost, cheapest first; those that lost a seed are not on the front, and those
    of unknown cost are left out.
    """
    at = board.ranked_at
    if at is None or at not in board.rankings:
        return []
    rows = [row for row in board.rows if row.competes and at in row.cells and row.cells[at].mean is not None]
    rows = [row for row in rows if cost in row.costs.get(at, {})]
    return sorted(
        (_placed(board, row, rows, at, cost) for row in rows), key=lambda one: (one.cost, one.mean, one.solver)
    )


def _placed(board: Board, row: Row, rows: list[Row], at: int, cost: str) -> Priced:
    price, cell = row.costs[at][cost], row.cells[at]
    cheaper = [
        other for other in rows if other is not row and other.told == row.told and other.costs[at][cost] <= price
    ]
    ranking = board.rankings[at]
    beaten = any(ranking.difference(row.solver, other.solver).verdict == "worse" for other in cheaper)
    assert cell.mean is not None
    return Priced(row.solver, price, cell.mean, not beaten and not cell.lost)


def chosen(rows: Sequence[Row], limits: Mapping[str, float]) -> tuple[list[Row], list[str]]:
    """The methods that have a depth within all limits, each with its deepest alone, which no test error chose; and in
    words why others have none.
    """
    within, unknown, dearer = list[Row](), list[str](), list[str]()
    for row in (row for row in rows if row.competes):
        known = {depth: found for depth, found in row.costs.items() if found.keys() >= limits.keys()}
        fits = [depth for depth, found in known.items() if all(found[name] <= most for name, most in limits.items())]
        if fits:
            within.append(replace(row, cells={max(fits): row.cells[max(fits)]}))
        else:
            (dearer if known else unknown).append(row.title)
    return within, [
        *([f"above the limit at each depth: {listed(dearer)}"] if dearer else []),
        *([f"the store does not know what it takes: {listed(unknown)}; its jobs are older"] if unknown else []),
    ]
