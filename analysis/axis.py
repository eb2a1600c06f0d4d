"""Losses against a field that a sweep varies: noise, training steps, the spectrum's condition."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from .board import at_their_depth
from .results import Tables, Wanted
from .statistics import mean_interval

ABSENT = "-"  # a field that a part does not have
TOLD = {"identity": "scalar", "covariance": "full"}  # preconditioners, and the learned ones that they stand beside


@dataclass(frozen=True)
class Along:
    """A sweep's losses at its deepest depth. data: chart, x, solver, family, competes, params, mean, low, high.

    solver: without the fields that charts are split by, so that it is called, and coloured, alike in all of them.
    What lacks a field that charts are split by, as bounds do, is in every chart that agrees with those it has.
    """

    name: str
    depth: int
    data: pl.DataFrame

    @property
    def values(self) -> list[Any]:
        """Of the field, in order."""
        return self.data["x"].unique().sort().to_list()

    @property
    def charts(self) -> list[str]:
        """What tells them apart."""
        return self.data["chart"].unique().sort().to_list()

    def rows(self, chart: str) -> list[dict[str, Any]]:
        """A row per solver of a chart with its mean at every value, lowest first at the last."""
        made: dict[str, dict[str, Any]] = {}
        for row in self.data.filter(pl.col("chart") == chart).iter_rows(named=True):
            kept = {name: row[name] for name in ("solver", "competes", "params")}
            made.setdefault(row["solver"], kept | {"means": {}})["means"][row["x"]] = row["mean"]
        last = self.values[-1]
        return sorted(
            made.values(), key=lambda row: (last not in row["means"], row["means"].get(last, 0.0), row["solver"])
        )


def along(tables: Tables, sweep: Wanted) -> Along | None:
    """Along a sweep's axis, from what the store has of it; None where it has no axis, or nothing yet."""
    if sweep.axis is None:
        return None
    frame = (
        tables.results.filter(
            pl.col("job").is_in(sweep.jobs) & (pl.col("task") == pl.col("test")) & pl.col("log_mse").is_not_null()
        )
        .drop("blocks")
        .collect()
    )
    specs = dict(tables.jobs.filter(pl.col("job").is_in(sweep.jobs)).select("job", "spec").collect().iter_rows())
    rows = at_their_depth(frame)
    if rows.is_empty():
        return None
    depth = rows.group_by("solver", "protocol", "task").agg(pl.col("step").max())["step"].min()
    assert isinstance(depth, int)
    groups: dict[tuple[Any, tuple[Any, ...], str, str, int], list[float]] = {}
    here = rows.filter(pl.col("step") == depth).select("job", "solver", "family", "params", "log_mse")
    for job, solver, family, params, loss in here.iter_rows():
        x, *at = (_value(specs[job], field) for field in (sweep.axis, *sweep.split))
        groups.setdefault((x, tuple(at), solver, family, params), []).append(loss)
    every = {split for _, split, *_ in groups}
    charts = [split for split in every if ABSENT not in split] or [(ABSENT,) * len(sweep.split)]
    data = []
    for (x, split, solver, family, params), losses in groups.items():
        mean, half = mean_interval(losses)
        band = {"mean": mean, "low": mean - (half or 0.0), "high": mean + (half or 0.0)}
        competes = family in ("classical", "learned")
        row = {"x": x, "solver": _short(solver, sweep.split), "family": family, "competes": competes, "params": params}
        data += [
            {"chart": _titled(sweep.split, chart)} | row | band
            for chart in charts
            if all(mine in (ABSENT, its) for mine, its in zip(split, chart, strict=True))
        ]
    return Along(_named(sweep.axis), depth, pl.DataFrame(data).sort("solver", "x"))


def _value(spec: str, axis: str) -> Any:
    """What a job's specification has at `task.noise` and the like; of a spectrum, the condition of Sigma; of
    preconditioners that are told, what they are.
    """
    kind, _, field = axis.partition(".")
    part = json.loads(spec).get(kind, {})
    if kind in ("task", "solver"):
        [part] = part.values()
    value = part.get(field, ABSENT)
    if field == "preconditioner":
        return TOLD.get(value, value)
    if field == "spectrum":
        return (max(value) / min(value)) ** 2 if value else 1.0
    if isinstance(value, list):
        return json.dumps(value)
    return 0 if value is None and field in ("correlation", "noise") else value


def _titled(fields: Sequence[str], values: tuple[Any, ...]) -> str:
    """What stands under one of several charts."""
    named = [(field.partition(".")[2], value) for field, value in zip(fields, values, strict=True)]
    return ", ".join(f"{name}: {json.dumps(value)}".replace('"', "") for name, value in named if value is not ABSENT)


def _short(solver: str, split: Sequence[str]) -> str:
    """A label without those fields."""
    for field in split:
        solver = re.sub(rf"(?<=[( ]){field.partition('.')[2]}=(\[[^]]*\]|[^,)]*)(, )?", "", solver)
    return re.sub(r", \)$", ")", solver).removesuffix("()")


def _named(axis: str) -> str:
    """What stands under the chart."""
    field = axis.partition(".")[2]
    words = {"spectrum": "condition number of Sigma", "n": "examples in a prompt", "steps": "training steps"}
    return words.get(field, field.replace("_", " "))
