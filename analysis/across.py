"""Solvers across the tasks of a sweep: mean rank, interquartile mean, worst case, wins, probability of improvement.

Losses are compared between tasks as logs of the error over that of predicting 0. The interquartile mean leaves out the
lowest and the highest quarter of all (task, seed), and the probability of improvement is that of a lower loss than
another solver's, at a task and a seed of each drawn at random (Agarwal, Schwarzer, Castro, Courville & Bellemare,
2021). Tasks are no sample of anything unless a sweep draws them, so ranks over few of them are described, not tested:
from LEAST tasks on, Wilcoxon's signed-rank test by task, with Holm over all pairs (Demsar, 2006).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np

from .board import TOLD, Board, Boards, Row
from .losses import EXACT, Outcomes
from .results import Tables
from .sheets import LONGEST, Line, Part, Sheet, number
from .statistics import ALPHA, holm
from .titles import differing, short

LEAST = 6  # tasks: with fewer no difference can be significant at 5 %


@dataclass(frozen=True)
class Total:
    """A solver over all tasks. iqm and worst are normalised logs; infinite where so many seeds were lost."""

    solver: str
    title: str
    mean_rank: float
    iqm: float
    worst: float
    worst_on: str
    leads: int  # tasks at which it may be the best
    improvement: float  # mean probability of improvement over the others
    beats: tuple[str, ...]  # those that it is significantly better than


@dataclass(frozen=True)
class Across:
    """The solvers that a protocol's boards have in common, at one depth; the best mean rank first."""

    protocol: str
    depth: int
    tasks: Sequence[str]
    totals: Sequence[Total]

    @property
    def tested(self) -> bool:
        """Whether there are enough tasks for a test."""
        return len(self.tasks) >= LEAST


def across(tables: Tables, made: Boards, found: Outcomes) -> list[Across]:
    """A sweep's solvers across tasks, for each protocol with two tasks or more."""
    results: list[Across] = []
    if len({(board.task, board.test) for board in made.boards}) < 2:
        return results
    zeros = tables.zeros
    for protocol in dict.fromkeys(board.protocol for board in made.boards):
        boards = [board for board in made.boards if board.protocol == protocol]
        if len(boards) > 1 and (one := _across(protocol, boards, found, zeros)):
            results.append(one)
    return results


def _across(
    protocol: str, boards: Sequence[Board], found: Outcomes, zeros: Mapping[tuple[str, str], float]
) -> Across | None:
    common = set.intersection(*({row.solver for row in board.rows if row.competes} for board in boards))
    depths = [set(row.cells) for board in boards for row in board.rows if row.solver in common]
    depth = max(set.intersection(*depths), default=None) if depths else None
    if len(common) < 2 or depth is None:
        return None
    solvers = sorted(common)
    titles = {row.solver: _titled(row) for board in boards for row in board.rows}
    losses: dict[tuple[str, str, str], np.ndarray] = {}
    for one in found.losses:
        if one.undrawn == protocol and one.depth == depth and one.solver in common:
            values = np.maximum(one.values[~np.isnan(one.values)], EXACT) - zeros.get((one.task, one.test), 0.0)
            key = one.task, one.test, one.solver
            losses[key] = np.concatenate([losses[key], values]) if key in losses else values
    places = [(board.task, board.test) for board in boards]
    if any(not len(losses.get((*place, solver), ())) for place in places for solver in solvers):
        return None
    means = np.array([[losses[(*place, solver)].mean() for place in places] for solver in solvers])
    ranks = 1 + (means[:, None] > means[None]).sum(1) + ((means[:, None] == means[None]).sum(1) - 1) / 2
    beats = _tested(solvers, means) if len(places) >= LEAST else {}
    totals = [
        Total(
            solver,
            titles[solver],
            float(ranks[i].mean()),
            iqm(np.concatenate([losses[(*place, solver)] for place in places])),
            float(means[i].max()),
            boards[int(means[i].argmax())].test,
            sum(row.solver == solver and row.cells[depth].leads for board in boards for row in board.rows),
            float(np.mean([_improvement(losses, places, solver, other) for other in solvers if other != solver])),
            tuple(beats.get(solver, ())),
        )
        for i, solver in enumerate(solvers)
    ]
    totals.sort(key=lambda total: (total.mean_rank, total.solver))
    return Across(protocol, depth, [test if task == test else f"{task} -> {test}" for task, test in places], totals)


def _titled(row: Row) -> str:
    return f"{row.title}, told {TOLD[row.told]}" if row.told else row.title


def as_json(one: Across) -> dict[str, Any]:
    """Plain values, for scripts; what is infinite, as seeds were lost, is null."""
    values = asdict(one)
    for total in values["totals"]:
        total |= {name: None for name in ("iqm", "worst") if not np.isfinite(total[name])}
    return values


def iqm(values: np.ndarray) -> float:
    """The mean of the middle half of values."""
    values = np.sort(values)
    cut = int(len(values) * 0.25)
    return float(values[cut : len(values) - cut].mean())


def _improvement(
    losses: Mapping[tuple[str, str, str], np.ndarray], places: Sequence[tuple[str, str]], solver: str, other: str
) -> float:
    """The probability that a solver's loss is lower than another's, ties counting half."""
    each = []
    for place in places:
        mine, theirs = losses[(*place, solver)][:, None], losses[(*place, other)][None]
        each.append(((mine < theirs).mean() + (mine <= theirs).mean()) / 2)
    return float(np.mean(each))


def _tested(solvers: Sequence[str], means: np.ndarray) -> dict[str, list[str]]:
    """Of each solver those that it is significantly better than, over tasks."""
    from scipy.stats import wilcoxon  # takes a second to import, and most sweeps have few tasks

    pairs = list(combinations(range(len(solvers)), 2))
    gaps = [means[i] - means[j] for i, j in pairs]
    p = np.array([float(wilcoxon(gap).pvalue) if np.isfinite(gap).all() and gap.any() else 1.0 for gap in gaps])
    found: dict[str, list[str]] = {}
    for (i, j), gap, real in zip(pairs, gaps, holm(p) <= ALPHA, strict=True):
        if real:
            better, worse = (i, j) if np.median(gap) < 0 else (j, i)
            found.setdefault(solvers[better], []).append(solvers[worse])
    return found


def across_sheet(one: Across) -> Sheet:
    """The solvers across tasks as a table."""
    head = ["solver", "mean rank", "IQM", "worst", "on", "leads", "improves", "beats"]
    head = head if one.tested else head[:-1]
    briefs, lines = differing(one.tasks), []
    for total in one.totals:
        cells = [
            [Part(total.title, brief=short(total.title, LONGEST))],
            [Part(f"{total.mean_rank:.2f}")],
            [Part(number(total.iqm, 2) if np.isfinite(total.iqm) else "lost")],
            [Part(number(total.worst, 2) if np.isfinite(total.worst) else "lost")],
            [Part(total.worst_on, "soft", briefs.get(total.worst_on, ""))],
            [Part(f"{total.leads} of {len(one.tasks)}")],
            [Part(f"{total.improvement:.0%}")],
        ]
        lines.append(Line([*cells, [Part(str(len(total.beats)))]] if one.tested else cells))
    few = f"no test: {len(one.tasks)} tasks are too few"
    test = f"Wilcoxon's signed-rank test, Holm over all pairs, {ALPHA:.0%}"
    notes = [
        "IQM: interquartile mean of the log of the error over that of predicting 0, of which worst is the largest mean "
        "of a task; leads: tasks at which it may be the best; improves: the "
        "probability of a lower loss than another method's, at a random seed of each, the mean over tasks and methods",
        f"beats: methods that it is better than over tasks: {test}" if one.tested else few,
    ]
    title = f"{one.protocol}, across {len(one.tasks)} tasks"
    return Sheet(title, f"after {one.depth} layers or steps", head, lines, notes, (0, 4))
