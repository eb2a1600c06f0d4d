"""What finitely many test prompts add to the uncertainty of a loss, from the means of its blocks of prompts.

A block's influence on the log of a mean is the block's mean over the whole mean, less 1; so the variance of
influences over blocks, divided by their number, is the variance that the choice of prompts gives the log error.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Float
from scipy.special import stdtrit

from .losses import Losses
from .results import Tables
from .statistics import ALPHA, Sample, satterthwaite


@dataclass(frozen=True)
class Influence:
    """A solver's at one depth: of each block of prompts, the mean over seeds that share the prompts."""

    blocks: Float[np.ndarray, " blocks"]

    @property
    def variance(self) -> float:
        """The variance that the choice of prompts gives the mean log error."""
        return float(self.blocks.var(ddof=1)) / len(self.blocks)

    def half_width(self, sample: Sample) -> float | None:
        """Half of the 95 % interval of the mean of losses whose seeds share their prompts: of other seeds and other
        test prompts.
        """
        if sample.n < 2:
            return None
        seeds, prompts = np.array([sample.variance]), np.array([self.variance])
        df = satterthwaite(seeds, np.array([sample.n - 1.0]), prompts, len(self.blocks) - 1)
        return float(stdtrit(df, 1 - ALPHA / 2)[0]) * math.sqrt(sample.variance + self.variance)


def influence(tables: Tables, board: Sequence[Losses]) -> dict[tuple[str, int], Influence]:
    """By solver and depth, of losses on one test under one protocol; without blocks in the store, none."""
    first = board[0]
    here = (pl.col("test") == first.test) & (pl.col("task") == first.task) & (pl.col("protocol") == first.protocol)
    wanted = {(one.solver, one.depth): set(one.seeds[np.isfinite(one.values)].tolist()) for one in board}
    rows = tables.blocks(here & pl.col("solver").is_in(sorted({one.solver for one in board})))
    found: dict[tuple[str, int], dict[int, np.ndarray]] = {}
    for solver, step, seed, blocks in rows.select("solver", "step", "seed", "blocks").iter_rows():
        means = np.array(blocks)
        if seed in wanted.get((solver, step), ()) and len(means) > 1 and means.mean() > 0:
            found.setdefault((solver, step), {})[seed] = means / means.mean() - 1
    return {
        key: Influence(np.mean([each[seed] for seed in sorted(each)], axis=0))
        for key, each in found.items()
        if len({len(one) for one in each.values()}) == 1
    }


def shared_variance(moves: Sequence[Influence | None]) -> tuple[np.ndarray, int] | None:
    """What test prompts that all seeds share add to the variance of each pair's mean difference, and its degrees of
    freedom; None where the influences of blocks are not known of all.
    """
    known = [one.blocks for one in moves if one is not None]
    if len(known) < len(moves) or len({len(blocks) for blocks in known}) != 1:
        return None
    blocks = np.stack(known)
    i, j = np.triu_indices(len(blocks), 1)
    count = blocks.shape[1]
    return (blocks[i] - blocks[j]).var(1, ddof=1) / count, count - 1


Blocks = Float[np.ndarray, "seeds blocks"]


def share(first: Blocks, second: Blocks, variance: float) -> float:
    """The part of the variance over seeds of a difference of log errors that their prompts explain, each seed having
    its own: where it is large, more prompts help, else more seeds do. Arguments are means of blocks.
    """
    moves = first / first.mean(1, keepdims=True) - second / second.mean(1, keepdims=True)
    explained = float((moves.var(1, ddof=1) / moves.shape[1]).mean())
    return min(explained / variance, 1.0) if variance > 0 else 0.0
