"""Where solvers of a store meet: on the same test task, under the same protocol, at the same depth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import polars as pl

from lfombench.harness.errors import UserError, nearest
from lfombench.harness.store.manifest import Manifest

from .compare import Comparison, Meeting
from .influence import influence, share, shared_variance
from .losses import outcomes
from .matrix import losses_by_unit, zero
from .pairs import Pairs, joined, paired
from .published import shared
from .results import Tables
from .verdicts import difference_at


@dataclass(frozen=True)
class Solvers:
    """What names stand for: labels of solvers, several of which may have one name; the best of them counts."""

    labels: Mapping[str, Sequence[str]]

    @staticmethod
    def of(frame: pl.DataFrame, manifests: Sequence[Manifest]) -> Solvers:
        """The solvers that a store has outcomes of."""
        known = frame["solver"].unique().sort().to_list()
        named = {name: labels for sweep in manifests for name, labels in sweep.named.items()}
        return Solvers({label: [label] for label in known} | {n: ls for n, ls in named.items() if set(ls) & set(known)})

    def rivals(self, frame: pl.DataFrame) -> list[str]:
        """The labels of all that compete: no bounds, no controls."""
        compete = frame.filter(pl.col("family").is_in(["classical", "learned"]))
        return sorted(set(compete["solver"]) & set(self.labels))

    def find(self, word: str) -> str:
        """The name that a word stands for: the name itself, or the only one that contains the word."""
        if word in self.labels:
            return word
        holding = [name for name in self.labels if word in name]
        if len(holding) == 1:
            return holding[0]
        if holding:
            raise UserError(f"{word!r} is in the names of several solvers: {'; '.join(holding[:8])}")
        raise UserError(f"no solver {word!r} in this store; {nearest(word, self.labels)}")


def gathered(tables: Tables, manifests: Sequence[Manifest], test: str | None) -> pl.DataFrame:
    """The outcomes of these sweeps, each once, sorted. test: on this task alone."""
    frames = [outcomes(tables, manifest) for manifest in manifests]
    frame = pl.concat(frames, how="diagonal").unique(
        ["task", "test", "protocol", "solver", "step", "seed"], keep="first", maintain_order=True
    )
    if test is not None:
        tests = frame["test"].unique().sort().to_list()
        holding = [test] if test in tests else [one for one in tests if test in one]
        if not holding:
            raise UserError(f"nothing is tested on {test!r}; {nearest(test, tests)}")
        frame = frame.filter(pl.col("test").is_in(holding))
    return frame.sort("task", "test", "undrawn", "solver", "step", "protocol", "seed")


def compared(tables: Tables, frame: pl.DataFrame, solvers: Solvers, first: str, second: str) -> Comparison:
    """Two solvers by name wherever both have outcomes at the same depth."""
    found = list(_meetings(tables, frame, solvers, first, second))
    if not found:
        raise UserError(f"{first} and {second} were never tested on the same task at the same depth and protocol")
    pairs = joined([one for *_, one in found])
    meetings = []
    for at, (place, depth, labels, rows, _) in enumerate(found):
        means = tuple(_mean(rows, label) for label in labels)
        alike = shared(place[2])
        part = None if alike else _share(tables, rows, labels, float(pairs.error[at] ** 2 * pairs.seeds[at]))
        difference = difference_at(pairs, at, 1, second)
        meetings.append(Meeting(*place, depth, (means[0], means[1]), difference, part, alike))
    return Comparison(first, second, meetings)


def _meetings(
    tables: Tables, frame: pl.DataFrame, solvers: Solvers, first: str, second: str
) -> Iterator[tuple[tuple[str, str, str], int, tuple[str, str], pl.DataFrame, Pairs]]:
    wanted = {*solvers.labels[first], *solvers.labels[second]}
    rows = frame.filter(pl.col("solver").is_in(list(wanted)))
    for (task, test, protocol, depth), group in rows.group_by("task", "test", "undrawn", "step", maintain_order=True):
        present = set(group.filter(pl.col("loss").is_not_null())["solver"])
        labels = [_best(group, [one for one in solvers.labels[name] if one in present]) for name in (first, second)]
        if labels[0] is None or labels[1] is None or labels[0] == labels[1]:
            continue
        both = group.filter(pl.col("solver").is_in(labels))
        alike = shared(str(protocol)) and both["protocol"].n_unique() == 1
        moves = influence(tables, both) if alike else {}
        common = shared_variance([moves.get((label, int(str(depth)))) for label in (labels[0], labels[1])])
        pairs = paired(losses_by_unit(both, (labels[0], labels[1])), zero(both), common)
        yield (str(task), str(test), str(protocol)), int(str(depth)), (labels[0], labels[1]), both, pairs


def _best(rows: pl.DataFrame, labels: Sequence[str]) -> str | None:
    """Of several solvers of one name the one with the lowest mean, in hindsight; None where there is none."""
    if len(labels) < 2:
        return next(iter(labels), None)
    means = {label: float(rows.filter(pl.col("solver") == label)["loss"].mean()) for label in labels}  # type: ignore[arg-type]
    return min(labels, key=lambda label: means[label])


def _mean(rows: pl.DataFrame, label: str) -> float | None:
    losses = rows.filter((pl.col("solver") == label) & pl.col("loss").is_finite())["loss"]
    return float(losses.mean()) if len(losses) else None  # type: ignore[arg-type]


def _share(tables: Tables, rows: pl.DataFrame, labels: tuple[str, str], variance: float) -> float | None:
    """The part of the variance over seeds that the choice of prompts explains."""
    if not np.isfinite(variance) or variance == 0 or rows["protocol"].n_unique() > 1:
        return None
    kept = tables.with_blocks(rows.filter(pl.col("loss").is_finite() & pl.col("job").is_not_null()))
    by_seed = [dict(kept.filter(pl.col("solver") == label).select("seed", "blocks").iter_rows()) for label in labels]
    seeds = sorted(by_seed[0].keys() & by_seed[1].keys())
    if len(seeds) < 2 or len({len(blocks) for each in by_seed for blocks in each.values()}) != 1:
        return None
    first, second = (np.array([each[seed] for seed in seeds]) for each in by_seed)
    return share(first, second, variance) if (first.mean(1) > 0).all() and (second.mean(1) > 0).all() else None


Counts = dict[tuple[str, str], tuple[int, int, int]]


def matrix(tables: Tables, frame: pl.DataFrame, solvers: Solvers, names: Sequence[str]) -> Counts:
    """For each two of many solvers: at how many places and depths the first wins, ties, loses; Holm over all."""
    found = {pair: list(_meetings(tables, frame, solvers, *pair)) for pair in combinations(names, 2)}
    every = [pairs for meetings in found.values() for *_, pairs in meetings]
    if not every:
        raise UserError("no two of these solvers were tested on the same task at the same depth and protocol")
    pairs, at, table = joined(every), 0, Counts()
    for (first, second), meetings in found.items():
        verdicts = [difference_at(pairs, at + i, 1, second).verdict for i in range(len(meetings))]
        at += len(meetings)
        wins, losses = verdicts.count("better"), verdicts.count("worse")
        table[first, second] = wins, len(verdicts) - wins - losses, losses
        table[second, first] = losses, len(verdicts) - wins - losses, wins
    return table
