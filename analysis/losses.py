"""The outcomes of a sweep: a row for each solver, depth, test and seed that the sweep asks for, whether it is there,
was lost, or is still to come.
"""

from __future__ import annotations

import polars as pl

from lfombench.harness.store.manifest import Manifest

from .published import undrawn
from .results import Tables

EXACT = -25.0  # log errors below this are only rounding
CASE = ("task", "solver", "protocol", "depth", "seed")
CELL = ("task", "test", "protocol", "solver", "step", "seed")
COLUMNS = (*("job", "family", "depth", "params", "status", "code"), *CELL)
NUMBERS = ("mse", "log_mse", "mse_normalised", "median", "q99", "fit_error")


def outcomes(tables: Tables, sweep: Manifest) -> pl.DataFrame:
    """The rows of a sweep that stand for a solver of depth `step`, sorted, and rows without a job for those to come.

    Beside columns of `results`: `loss`, the log error, infinite where it was lost (training diverged, the error is not
    finite, the job failed), null where it is still to come; `undrawn`, the protocol without its data seed; `stray`,
    whether the store has a loss that is not finite, as lfombench writes none.
    """
    rows = tables.results.filter(pl.col("job").is_in(sweep.jobs)).select(*COLUMNS, *NUMBERS).collect()
    if sweep.axis:  # experts' transfers along the axis are not boards
        rows = rows.filter((pl.col("task") == pl.col("test")) | pl.col("test").is_in(sweep.tests))
    rows = at_their_depth(rows).with_columns(
        pl.when(pl.col("log_mse").is_finite()).then("log_mse").otherwise(float("inf")).alias("loss"),
        (pl.col("log_mse").is_not_null() & ~pl.col("log_mse").is_finite()).alias("stray"),
    )
    wanted = _wanted(sweep, rows).join(_failed(tables, sweep), on=list(CASE), how="left")
    wanted = wanted.group_by(CELL).agg(pl.col("family").first(), pl.col("failed").any())
    lacking = wanted.join(rows.select(CELL), on=list(CELL), how="anti").with_columns(
        pl.when("failed").then(float("inf")).alias("loss"), pl.lit(False).alias("stray")
    )
    frame = without_draws(pl.concat([rows, lacking.drop("failed")], how="diagonal"))
    return frame.sort("task", "test", "undrawn", "solver", "step", "protocol", "seed")


def without_draws(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with a column `undrawn`: the protocol without its data seed."""
    labels = frame["protocol"].unique().to_list()
    names = pl.Series(map(undrawn, labels), dtype=pl.String)
    return frame.with_columns(undrawn=pl.col("protocol").replace_strict(labels, names, return_dtype=pl.String))


def at_their_depth(frame: pl.DataFrame) -> pl.DataFrame:
    """The rows that stand for a solver of depth `step`: a trained model's last iterate, any iterate of the others.

    A model trained for depth 4 is not a model of depth 2, nor is a control made of such models; conjugate gradients
    stopped after 2 steps are a method of depth 2.
    """
    trained = (pl.col("family") == "learned") | ((pl.col("family") == "control") & (pl.col("params") > 0))
    rows = frame.filter((pl.col("step") > 0) & (~trained | (pl.col("step") == pl.col("depth"))))
    return rows.sort("depth").unique(CELL, keep="last", maintain_order=True)


def _wanted(sweep: Manifest, rows: pl.DataFrame) -> pl.DataFrame:
    """The cells that the sweep asks for, with their case's depth and family."""
    whole = set(rows.filter((pl.col("family") == "control") & (pl.col("step") < pl.col("depth")))["solver"].unique())
    tests = set(sweep.tests)
    listed = [
        {"task": case.task, "solver": case.solver, "protocol": case.protocol, "depth": case.depth}
        | {"test": test, "family": case.family, "seed": case.seeds}
        | {"step": [*range(1, case.depth + 1)] if _iterates(case.family, case.solver in whole) else [case.depth]}
        for case in sweep.asked
        for test in dict.fromkeys((case.task, *case.tests))
        if not sweep.axis or test == case.task or test in tests
    ]
    words = ("task", "solver", "protocol", "test", "family")
    types: dict[str, pl.DataType] = dict.fromkeys(words, pl.String()) | {"depth": pl.Int32()}
    types |= {"seed": pl.List(pl.Int64), "step": pl.List(pl.Int32)}
    return pl.DataFrame(listed, schema=types).explode("step").explode("seed")


def _iterates(family: str, whole: bool) -> bool:
    """Whether each iterate of a solver is a method of its own: never if trained. whole: if a control's are."""
    return family in ("classical", "bound") or (family == "control" and whole)


def _failed(tables: Tables, sweep: Manifest) -> pl.DataFrame:
    """The cases of the jobs that failed when they were last tried."""
    failed = tables.jobs.filter(pl.col("job").is_in(sweep.jobs) & (pl.col("status") == "failed"))
    return failed.select(*CASE).unique().with_columns(pl.lit(True).alias("failed")).collect()
