"""Losses along a field that a sweep varies: noise, training steps, the condition number of the spectrum."""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

import numpy as np
import polars as pl

from lfombench.harness.store.manifest import Manifest

from .losses import outcomes
from .published import shared
from .results import Tables
from .statistics import Sample

ABSENT = "-"  # the value of a field that a part does not have
# known preconditioners, and the learned ones that they are compared with
COUNTERPARTS = {"identity": "scalar", "covariance": "full"}


@dataclass(frozen=True)
class Point:
    """A solver at a value of the axis, in one chart. losses: log errors by seed, infinite where a seed was lost.

    solver: the name that is shown; label: the solver that this point is of, the one with the lowest mean of those that
    the name stands for.
    """

    chart: str
    x: Any
    solver: str
    label: str
    family: str
    params: int
    losses: Mapping[int, float]
    task: str
    zero: float | None = None  # the log error of predicting 0, which a lost seed counts as at least
    extended: bool = False  # whether seeds were added until something was decided

    @property
    def lost(self) -> int:
        """The number of seeds that diverged or failed."""
        return sum(loss == math.inf for loss in self.losses.values())

    @property
    def kept(self) -> list[float]:
        """The losses of the other seeds."""
        return [loss for loss in self.losses.values() if loss < math.inf]

    @property
    def competes(self) -> bool:
        """Whether it is a method; bounds and controls are not."""
        return self.family in ("classical", "learned")

    @property
    def mean(self) -> float:
        """The mean over seeds that were not lost."""
        return fmean(self.kept) if self.kept else math.inf


@dataclass(frozen=True)
class Along:
    """A sweep's losses at its deepest depth, along its axis.

    Solvers are named without the fields that charts are split by, so that their colours are the same in all charts. A
    solver that lacks such a field, as bounds do, is in every chart that agrees with the fields it has.
    """

    name: str
    depth: int
    points: Sequence[Point]
    trained: Sequence[Any]  # values of the axis that experts were trained at

    @functools.cached_property
    def data(self) -> pl.DataFrame:
        """Columns chart, x, solver, family, competes, params, mean, low, high: the 95 % interval over seeds."""
        rows = []
        for point in self.points:
            if not point.kept:
                continue
            sample = Sample.of(np.array(point.kept))
            mean, half_width = sample.mean, sample.half_width(point.extended) or 0.0
            row = {name: getattr(point, name) for name in ("chart", "x", "solver", "family", "competes", "params")}
            rows.append(row | {"mean": mean, "low": mean - half_width, "high": mean + half_width})
        return pl.DataFrame(rows, infer_schema_length=None).sort("solver", "x", "chart")

    @property
    def values(self) -> list[Any]:
        """The values of the axis, ascending."""
        return self.data["x"].unique().sort().to_list()

    @property
    def charts(self) -> list[str]:
        """The titles of the charts, which tell them apart."""
        return self.data["chart"].unique().sort().to_list()

    def points_of(self, chart: str, solver: str) -> dict[Any, Point]:
        """A solver's points in a chart, by x in ascending order."""
        points = {point.x: point for point in self.points if (point.chart, point.solver) == (chart, solver)}
        return {x: points[x] for x in sorted(points)}

    def rows(self, chart: str) -> list[dict[str, Any]]:
        """A row per solver of a chart, sorted by the mean at the last value: at every value its mean, the half width of
        its 95 % interval, 0 for one seed, and how many seeds it lost.
        """
        by_solver: dict[str, dict[str, Any]] = {}
        for row in self.data.filter(pl.col("chart") == chart).iter_rows(named=True):
            columns = {name: row[name] for name in ("solver", "competes", "params")}
            into = by_solver.setdefault(row["solver"], columns | {"means": {}, "half_widths": {}, "lost": {}})
            into["means"][row["x"]], into["half_widths"][row["x"]] = row["mean"], row["high"] - row["mean"]
        for point in self.points:
            if point.chart == chart and point.lost and point.solver in by_solver:
                by_solver[point.solver]["lost"][point.x] = f"{point.lost} of {len(point.losses)} lost"
        last = self.values[-1]
        return sorted(
            by_solver.values(), key=lambda row: (last not in row["means"], row["means"].get(last, 0.0), row["solver"])
        )


def along(tables: Tables, sweep: Manifest) -> Along | None:
    """The losses along a sweep's axis that the store has; None where the sweep has no axis, or there are none yet."""
    if sweep.axis is None:
        return None
    losses = [one for one in outcomes(tables, sweep).losses if one.task == one.test and not np.isnan(one.values).all()]
    names = {label: name for name, labels in sweep.named.items() for label in labels}
    if names:  # experts are jobs of the sweep too, but under other protocols, and are not shown
        losses = [one for one in losses if one.solver in names and one.protocol in sweep.protocols]
    if not losses:
        return None
    deepest: dict[tuple[str, str, str], int] = {}
    for one in losses:
        case = one.solver, one.protocol, one.task
        deepest[case] = max(deepest.get(case, 0), one.depth)
    depth = min(deepest.values())
    specs = _specs(tables, sweep)
    best: dict[tuple[Any, tuple[Any, ...], str], Point] = {}
    trained: set[Any] = set()
    for one in sorted(losses, key=lambda one: (one.solver, one.protocol, one.task)):
        spec = specs.get((one.task, one.solver, one.protocol))
        if one.depth != depth or spec is None:
            continue
        x, *split_values = (value(spec, field) for field in (sweep.axis, *sweep.split))
        if x == ABSENT:  # such as an expert of a union
            continue
        there = ~np.isnan(one.values)
        by_seed = dict(zip(one.seeds[there].tolist(), one.values[there].tolist(), strict=True))
        name = names.get(one.solver) or _short(one.solver, sweep.split)
        point = Point("", x, name, one.solver, one.family, one.params or 0, by_seed, one.task)
        if point.lost:
            point = replace(point, zero=tables.zeros.get((one.task, one.test)))
        point = replace(point, extended=one.extended and not shared(one.protocol))
        key = (x, tuple(split_values), name)
        if key not in best or (point.lost, point.mean) < (best[key].lost, best[key].mean):
            best[key] = point
        trained.update(_trained(spec, sweep.axis))
    if not any(point.kept for point in best.values()):
        return None
    splits = dict.fromkeys(split for _, split, _ in best)
    charts = [split for split in splits if ABSENT not in split] or [(ABSENT,) * len(sweep.split)]
    points = [
        replace(point, chart=titled(sweep.split, chart))
        for (_, split, _), point in best.items()
        for chart in charts
        if all(part in (ABSENT, shown) for part, shown in zip(split, chart, strict=True))
    ]
    return Along(named(sweep.axis), depth, points, sorted(trained))


def _specs(tables: Tables, sweep: Manifest) -> dict[tuple[str, str, str], Any]:
    """The specification of a job of each case, by the labels of task, solver and protocol."""
    jobs = tables.jobs.filter(pl.col("job").is_in(sweep.jobs) & pl.col("spec").is_not_null())
    cases = jobs.select("task", "solver", "protocol", "spec").unique(["task", "solver", "protocol"]).collect()
    return {(task, solver, protocol): json.loads(spec) for task, solver, protocol, spec in cases.iter_rows()}


def _trained(spec: Mapping[str, Any], axis: str) -> list[Any]:
    """The values along an axis of tasks at which a solver's experts were trained; empty unless there are several."""
    if not axis.startswith("task."):
        return []
    [solver] = spec["solver"].values()
    experts = [expert for expert in solver.get("experts", ()) if expert["task"]]
    return [x for expert in experts if (x := value(expert, axis)) != ABSENT] if len(experts) > 1 else []


def value(spec: Mapping[str, Any], axis: str) -> Any:
    """The value of a field such as `task.noise` in a job's specification; for a spectrum, the condition number of
    Sigma; for a known preconditioner, its learned counterpart.
    """
    kind, _, field = axis.partition(".")
    part = spec.get(kind, {})
    if kind in ("task", "solver"):
        [part] = part.values()
    value = part.get(field, ABSENT)
    if field == "preconditioner":
        return COUNTERPARTS.get(value, value)
    if field == "spectrum" and value != ABSENT:
        return (max(value) / min(value)) ** 2 if value else 1.0
    if isinstance(value, list):
        return json.dumps(value)
    return 0 if value is None and field in ("correlation", "noise", "mean") else value


def titled(fields: Sequence[str], values: tuple[Any, ...]) -> str:
    """The title of one of several charts: the fields that charts are split by, with their values."""
    pairs = [(field.partition(".")[2], value) for field, value in zip(fields, values, strict=True)]
    return ", ".join(f"{name}: {json.dumps(value)}".replace('"', "") for name, value in pairs if value is not ABSENT)


def _short(solver: str, split: Sequence[str]) -> str:
    """A solver's label without the fields that charts are split by."""
    for field in split:
        solver = re.sub(rf"(?<=[( ]){field.partition('.')[2]}=(\[[^]]*\]|[^,)]*)(, )?", "", solver)
    return re.sub(r", \)$", ")", solver).removesuffix("()")


def named(axis: str) -> str:
    """The title of the axis in charts."""
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
