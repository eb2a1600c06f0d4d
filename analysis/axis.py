"""Losses against a field that a sweep varies: noise, training steps, the spectrum's condition."""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

import polars as pl

from .board import at_their_depth
from .results import Tables, Wanted
from .statistics import mean_interval

ABSENT = "-"  # a field that a part does not have
TOLD = {"identity": "scalar", "covariance": "full"}  # preconditioners, and the learned ones that they stand beside


@dataclass(frozen=True)
class Point:
    """A solver at a value of the axis, in one chart. losses: log mse by seed; lost: seeds that diverged.

    solver: its name; label: the solver that counts there, the best in the mean of those that the name stands for.
    """

    chart: str
    x: Any
    solver: str
    label: str
    family: str
    params: int
    losses: Mapping[int, float]
    task: str
    lost: int = 0

    @property
    def competes(self) -> bool:
        """Whether it is a method; bounds and controls are not."""
        return self.family in ("classical", "learned")

    @property
    def mean(self) -> float:
        """Over seeds that did not diverge."""
        return fmean(self.losses.values()) if self.losses else math.inf


@dataclass(frozen=True)
class Along:
    """A sweep's losses at its deepest depth, along its axis.

    Solvers are called without the fields that charts are split by, so that they are coloured alike in all of them. What
    lacks a field that charts are split by, as bounds do, is in every chart that agrees with those it has.
    """

    name: str
    depth: int
    points: Sequence[Point]
    trained: Sequence[Any]  # values of the axis that experts were trained at

    @functools.cached_property
    def data(self) -> pl.DataFrame:
        """chart, x, solver, family, competes, params, mean, low, high: the 95 % interval over seeds."""
        rows = []
        for point in self.points:
            if not point.losses:
                continue
            mean, half = mean_interval(list(point.losses.values()))
            row = {name: getattr(point, name) for name in ("chart", "x", "solver", "family", "competes", "params")}
            rows.append(row | {"mean": mean, "low": mean - (half or 0.0), "high": mean + (half or 0.0)})
        return pl.DataFrame(rows, infer_schema_length=None).sort("solver", "x")

    @property
    def values(self) -> list[Any]:
        """Of the field, in order."""
        return self.data["x"].unique().sort().to_list()

    @property
    def charts(self) -> list[str]:
        """What tells them apart."""
        return self.data["chart"].unique().sort().to_list()

    def of(self, chart: str, solver: str) -> dict[Any, Point]:
        """A solver's points in a chart, by x in order."""
        mine = {point.x: point for point in self.points if (point.chart, point.solver) == (chart, solver)}
        return {x: mine[x] for x in sorted(mine)}

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
        tables.results.filter(pl.col("job").is_in(sweep.jobs) & (pl.col("task") == pl.col("test")))
        .drop("blocks")
        .collect()
    )
    specs = dict(tables.jobs.filter(pl.col("job").is_in(sweep.jobs)).select("job", "spec").collect().iter_rows())
    names = {label: name for name, labels in sweep.named.items() for label in labels}
    rows = at_their_depth(frame)
    if names:  # experts are jobs of the sweep too, under protocols of their own, and no rows of it
        rows = rows.filter(pl.col("solver").is_in(list(names)) & pl.col("protocol").is_in(sweep.protocols))
    if rows.is_empty():
        return None
    depth = rows.group_by("solver", "protocol", "task").agg(pl.col("step").max())["step"].min()
    assert isinstance(depth, int)
    found: dict[tuple[Any, tuple[Any, ...], str], Point] = {}
    here = rows.filter(pl.col("step") == depth).select(
        "job", "solver", "family", "params", "task", "protocol", "seed", "log_mse"
    )
    trained: set[Any] = set()
    for (label, family, params, task, _), mine in here.group_by(
        "solver", "family", "params", "task", "protocol", maintain_order=True
    ):
        spec = json.loads(specs[mine["job"][0]])
        x, *at = (value(spec, field) for field in (sweep.axis, *sweep.split))
        if x == ABSENT:  # an expert of a union, say
            continue
        losses = dict(mine.select("seed", "log_mse").drop_nulls().iter_rows())
        name = names.get(label) or _short(label, sweep.split)
        point = Point("", x, name, label, family, params, losses, task, mine["log_mse"].null_count())
        key = (x, tuple(at), name)
        if key not in found or (point.lost, point.mean) < (found[key].lost, found[key].mean):
            found[key] = point
        trained.update(_trained(spec, sweep.axis))
    if not any(point.losses for point in found.values()):
        return None
    every = {split for _, split, _ in found}
    charts = [split for split in every if ABSENT not in split] or [(ABSENT,) * len(sweep.split)]
    points = [
        replace(point, chart=titled(sweep.split, chart))
        for (_, split, _), point in found.items()
        for chart in charts
        if all(mine in (ABSENT, its) for mine, its in zip(split, chart, strict=True))
    ]
    return Along(named(sweep.axis), depth, points, sorted(trained))


def _trained(spec: Mapping[str, Any], axis: str) -> list[Any]:
    """Where along the axis several experts of a solver were trained, if they were trained along it."""
    [solver] = spec["solver"].values()
    experts = [one for one in solver.get("experts", ()) if one["task"]]
    return [x for one in experts if (x := value(one, axis)) != ABSENT] if len(experts) > 1 else []


def value(spec: Mapping[str, Any], axis: str) -> Any:
    """What a job's specification has at `task.noise` and the like; of a spectrum, the condition of Sigma; of
    preconditioners that are told, what they are.
    """
    kind, _, field = axis.partition(".")
    part = spec.get(kind, {})
    if kind in ("task", "solver"):
        [part] = part.values()
    value = part.get(field, ABSENT)
    if field == "preconditioner":
        return TOLD.get(value, value)
    if field == "spectrum" and value != ABSENT:
        return (max(value) / min(value)) ** 2 if value else 1.0
    if isinstance(value, list):
        return json.dumps(value)
    return 0 if value is None and field in ("correlation", "noise", "mean") else value


def titled(fields: Sequence[str], values: tuple[Any, ...]) -> str:
    """What stands under one of several charts."""
    named = [(field.partition(".")[2], value) for field, value in zip(fields, values, strict=True)]
    return ", ".join(f"{name}: {json.dumps(value)}".replace('"', "") for name, value in named if value is not ABSENT)


def _short(solver: str, split: Sequence[str]) -> str:
    """A label without those fields."""
    for field in split:
        solver = re.sub(rf"(?<=[( ]){field.partition('.')[2]}=(\[[^]]*\]|[^,)]*)(, )?", "", solver)
    return re.sub(r", \)$", ")", solver).removesuffix("()")


def named(axis: str) -> str:
    """What stands under the chart."""
    field = axis.partition(".")[2]
    words = {
        "spectrum": "condition number of Sigma",
        "n": "examples in a prompt",
        "steps": "training steps",
        "batch": "prompts to learn from",
        "turn": "turn of the principal axes, radians",
        "support": "entries of the teacher that are not 0",
        "leak": "leak of the teacher's units, 1: linear",
        "mean": "mean of the covariates",
    }
    return words.get(field, field.replace("_", " "))
