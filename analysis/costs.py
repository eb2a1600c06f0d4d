"""What methods cost, and which are on the front: no cheaper one is significantly better."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from .board import Board, Row
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
    takes what a job of at least its depth took until then.
    """
    found: dict[str, float | None] = {"params": losses.params, "steps": losses.depth}
    by_depth = tables.spent.get((losses.task, losses.protocol, losses.solver), {})
    passing = min((depth for depth in by_depth if depth >= losses.depth), default=0)
    spent = by_depth.get(losses.depth if losses.family == "learned" else passing)
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
    words why others have none, and of which deeper ones it is not known what they take.
    """
    within, dearer, never, older = list[Row](), list[str](), list[str](), list[str]()
    for row in (row for row in rows if row.competes):
        depths = [depth for depth, known in row.costs.items() if not _above(known, limits)]
        fits = [depth for depth in depths if row.costs[depth].keys() >= limits.keys()]
        if fits:
            within.append(replace(row, cells={max(fits): row.cells[max(fits)]}))
        if not depths:
            dearer.append(row.title)
        for depth in (depth for depth in depths if depth > max(fits, default=0)):
            (older if row.cells[depth].seeds else never).append(f"{row.title} at {depth}")
    return within, [
        *([f"above the limit at each depth: {', '.join(dearer)}"] if dearer else []),
        *([f"not known what it takes, as none of its jobs is done: {', '.join(never)}"] if never else []),
        *([f"not known what it takes, as its jobs ran before that was counted: {', '.join(older)}"] if older else []),
    ]


def _above(known: Mapping[str, float], limits: Mapping[str, float]) -> bool:
    """Whether a cost that is known is above its limit."""
    return any(known[name] > most for name, most in limits.items() if name in known)
