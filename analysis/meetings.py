"""Where solvers of a store meet: on the same test task, under the same protocol, at the same depth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float

from lfombench.harness.errors import UserError, nearest
from lfombench.harness.store.manifest import Manifest

from .compare import Comparison, Meeting
from .influence import Influence, influence, share, shared_variance
from .losses import Losses, outcomes
from .matrix import Cell, by_unit, cells, redrawn, zero
from .pairs import Pairs, joined, paired
from .published import shared
from .results import Tables
from .titles import natural
from .verdicts import difference_at


@dataclass(frozen=True)
class Solvers:
    """What names stand for: labels of solvers, several of which may have one name; the best of them counts."""

    labels: Mapping[str, Sequence[str]]
    where: str

    @staticmethod
    def of(losses: Sequence[Losses], manifests: Sequence[Manifest], where: str = "this store") -> Solvers:
        """The solvers that sweeps have outcomes of. where: what the sweeps are called."""
        known = sorted({one.solver for one in losses})
        named = {name: labels for sweep in manifests for name, labels in sweep.named.items()}
        labels = {label: [label] for label in known} | {n: ls for n, ls in named.items() if set(ls) & set(known)}
        return Solvers(labels, where)

    def rivals(self, losses: Sequence[Losses]) -> list[str]:
        """The labels of all that compete: no bounds, no controls."""
        return sorted({one.solver for one in losses if one.family in ("classical", "learned")})

    def begins(self, word: str) -> bool:
        """Whether the name of any begins with a word."""
        return any(name.startswith(word) for name in self.labels)

    def find(self, word: str) -> str:
        """The name that a word stands for: the name itself, or the only one that contains the word."""
        if word in self.labels:
            return word
        holding = [name for name in self.labels if word in name]
        if len(holding) == 1:
            return holding[0]
        if holding:
            raise UserError(f"{word!r} is in the names of several solvers: {'; '.join(holding[:8])}")
        raise UserError(f"no solver {word!r} in {self.where}; {nearest(word, self.labels)}")


def gathered(tables: Tables, manifests: Sequence[Manifest], test: str | None) -> list[Losses]:
    """The losses of these sweeps, each once, sorted. test: on this task alone."""
    every: dict[tuple[Any, ...], Losses] = {}
    for one in (one for manifest in manifests for one in outcomes(tables, manifest).losses):
        key = one.task, one.test, one.protocol, one.depth, one.solver
        if key not in every or np.isfinite(one.values).sum() > np.isfinite(every[key].values).sum():
            every[key] = one
    losses = [every[key] for key in sorted(every)]
    if test is None:
        return losses
    tests = sorted({one.test for one in losses})
    holding = [test] if test in tests else [one for one in tests if test in one]
    if not holding:
        raise UserError(f"nothing is tested on {test!r}; {nearest(test, tests)}")
    return [one for one in losses if one.test in holding]


def compared(tables: Tables, losses: Sequence[Losses], solvers: Solvers, first: str, second: str) -> Comparison:
    """Two solvers by name wherever both have outcomes at the same depth."""
    if first == second:
        raise UserError(f"both names stand for {first}: compare needs two solvers")
    wanted = {*solvers.labels[first], *solvers.labels[second]}
    found = list(_met(_places(tables, losses, wanted), solvers, first, second))
    if not found:
        raise UserError(f"{first} and {second} were never tested on the same task at the same depth and protocol")
    pairs = joined([one.pairs for one in found])
    meetings = []
    for at, one in enumerate(found):
        alike = shared(one.sides[0].draws[0].protocol)
        part = None if alike else _share(tables, one.sides, float(pairs.error[at] ** 2 * pairs.seeds[at]))
        difference, extended = difference_at(pairs, at, 1, second), bool(pairs.sequential[at])
        meetings.append(Meeting(*one.place, _means(one.losses), difference, part, alike, extended))
    return Comparison(first, second, meetings)


@dataclass(frozen=True)
class _Met:
    """Two solvers at one depth of a board, and the pair that they are."""

    place: tuple[str, str, str, int]
    sides: tuple[Cell, Cell]
    losses: Float[np.ndarray, "2 seeds"]
    pairs: Pairs


@dataclass(frozen=True)
class _Place:
    """The cells of one task, test, protocol and depth, by solver; what prompts do to them where seeds share them."""

    key: tuple[str, str, str, int]
    cells: Mapping[str, Cell]
    moves: Mapping[tuple[str, int], Influence]
    zero: float | None


def _places(tables: Tables, losses: Sequence[Losses], solvers: set[str]) -> list[_Place]:
    """The places at which any of these solvers has an outcome."""
    places: dict[tuple[str, str, str, int], list[Losses]] = {}
    for one in losses:
        if one.solver in solvers and not np.isnan(one.values).all():
            places.setdefault((one.task, one.test, one.undrawn, one.depth), []).append(one)
    return [
        _Place(
            key,
            {cell.solver: cell for cell in cells(here)},
            influence(tables, here) if shared(here[0].protocol) and not redrawn(here) else {},
            zero(tables, here),
        )
        for key, here in sorted(places.items(), key=lambda place: (*map(natural, place[0][:3]), place[0][3]))
    ]


def _met(places: Sequence[_Place], solvers: Solvers, first: str, second: str) -> Iterator[_Met]:
    for place in places:
        known = [
            [place.cells[label] for label in solvers.labels[name] if label in place.cells] for name in (first, second)
        ]
        sides = _best(known[0]), _best(known[1])
        if sides[0] is None or sides[1] is None or sides[0] is sides[1]:
            continue
        both = sides[0], sides[1]
        draws = [one for side in both for one in side.draws]
        common = shared_variance([place.moves.get((side.solver, side.depth)) for side in both])
        sequential = any(one.extended for one in draws) and common is None
        losses = by_unit(both, redrawn(draws))
        yield _Met(place.key, both, losses, paired(losses, place.zero, common, sequential=sequential))


def _best(sides: Sequence[Cell]) -> Cell | None:
    """Of several solvers of one name the one with the lowest mean, in hindsight; None where there is none."""
    return min(sides, key=lambda side: (float(np.nanmean(side.values)), side.solver), default=None)


def _means(losses: Float[np.ndarray, "2 seeds"]) -> tuple[float | None, float | None]:
    """The means over the seeds that both have an outcome for, of those that each did not lose."""
    common = losses[:, ~np.isnan(losses).any(0)]
    first, second = (float(np.mean(each[np.isfinite(each)])) if np.isfinite(each).any() else None for each in common)
    return first, second


def _share(tables: Tables, sides: tuple[Cell, Cell], variance: float) -> float | None:
    """The part of the variance over seeds that the choice of prompts explains."""
    if not np.isfinite(variance) or variance == 0 or redrawn([one for side in sides for one in side.draws]):
        return None
    one = sides[0].draws[0]
    here = (pl.col("task") == one.task) & (pl.col("test") == one.test) & (pl.col("protocol") == one.protocol)
    here = here & (pl.col("step") == one.depth) & pl.col("solver").is_in([side.solver for side in sides])
    rows = tables.blocks(here)
    by_seed = [dict(rows.filter(solver=side.solver).select("seed", "blocks").iter_rows()) for side in sides]
    kept = [set(side.draws[0].seeds[np.isfinite(side.values)].tolist()) for side in sides]
    seeds = sorted(by_seed[0].keys() & by_seed[1].keys() & kept[0] & kept[1])
    if len(seeds) < 2 or len({len(blocks) for each in by_seed for blocks in each.values()}) != 1:
        return None
    first, second = (np.array([each[seed] for seed in seeds]) for each in by_seed)
    return share(first, second, variance) if (first.mean(1) > 0).all() and (second.mean(1) > 0).all() else None


Counts = dict[tuple[str, str], tuple[int, int, int]]


def matrix(tables: Tables, losses: Sequence[Losses], solvers: Solvers, names: Sequence[str]) -> Counts:
    """For each two of many solvers: at how many places and depths the first wins, ties, loses; Holm over all."""
    places = _places(tables, losses, {label for name in names for label in solvers.labels[name]})
    found = {pair: list(_met(places, solvers, *pair)) for pair in combinations(names, 2)}
    every = [one.pairs for met in found.values() for one in met]
    if not every:
        raise UserError(
            f"no two of {'; '.join(names) or 'no methods'} were tested on the same task at the same depth and "
            "protocol; bounds and controls are compared where they are named"
        )
    pairs, at, table = joined(every), 0, Counts()
    for (first, second), met in found.items():
        verdicts = [difference_at(pairs, at + i, 1, second).verdict for i in range(len(met))]
        at += len(met)
        wins, defeats = verdicts.count("better"), verdicts.count("worse")
        table[first, second] = wins, len(verdicts) - wins - defeats, defeats
        table[second, first] = defeats, len(verdicts) - wins - defeats, wins
    return table
