"""The columns of the store: name, type, unit and meaning. The one place that says what is in a file."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import pyarrow as pa

VERSION = 2  # of the store's layout; a store of another version is refused
BLOCKS = 64  # of test prompts, whose mean errors are kept, so that any two solvers can be compared prompt for prompt


@dataclass(frozen=True)
class Column:
    """One column of a table."""

    name: str
    type: pa.DataType
    meaning: str


RESULTS = (
    Column("job", pa.string(), "id: a hash of task, solver, protocol and seed"),
    Column("task", pa.string(), "training task"),
    Column("test", pa.string(), "task tested on"),
    Column("solver", pa.string(), "name and non-default fields, depth apart"),
    Column("family", pa.string(), "classical, learned, bound or control"),
    Column("depth", pa.int32(), "layers or steps of the solver"),
    Column("step", pa.int32(), "iterate, 0 .. depth"),
    Column("seed", pa.int64(), "of task frame, prompts and initialisation"),
    Column("protocol", pa.string(), "name and fields that differ from it"),
    Column("mse", pa.float64(), "mean squared error at the query over the test prompts; null if diverged"),
    Column("log_mse", pa.float64(), "its natural logarithm; where the mse is 0, that of the least positive double"),
    Column("mse_normalised", pa.float64(), "mse over the mse of predicting 0"),
    Column("median", pa.float64(), "of the squared error over prompts"),
    Column("q90", pa.float64(), "90 % quantile of the squared error over prompts"),
    Column("q99", pa.float64(), "99 % quantile of the squared error over prompts"),
    Column("failure_rate", pa.float64(), "share of prompts with a larger error than predicting 0, or none"),
    Column("prompts", pa.int64(), "test prompts"),
    Column(
        "blocks",
        pa.list_(pa.float64()),
        f"mean squared error in {BLOCKS} equal blocks of the test prompts; of each if fewer",
    ),
    Column(
        "fit_error", pa.float64(), "expected excess of a fitted bound's mse, on its own task, over the true bound's"
    ),
    Column("conjugacy", pa.float64(), "mean |cos| in G's norm of this step and the last; 0 where conjugate"),
    Column("params", pa.int32(), "trained or fitted numbers of the solver"),
    Column("status", pa.string(), "done or diverged"),
    Column("reason", pa.string(), "why, where it is not done"),
    Column("code", pa.string(), "fingerprint of the solver's, the task's and the engine's code that gave the numbers"),
)

JOBS = (
    Column("job", pa.string(), "id"),
    Column("status", pa.string(), "done, diverged, failed, or skipped: a combination that makes no sense"),
    Column("reason", pa.string(), "why, where it is not done; a traceback if it failed"),
    Column("task", pa.string(), "training task"),
    Column("solver", pa.string(), "name and non-default fields, depth apart"),
    Column("depth", pa.int32(), "layers or steps"),
    Column("protocol", pa.string(), "name and fields that differ from it"),
    Column("seed", pa.int64(), "seed"),
    Column("spec", pa.string(), "canonical form, JSON: what the id is the hash of"),
    Column("learning_rate", pa.float64(), "chosen on validation prompts, or given"),
    Column("tuned", pa.string(), "other floats that were chosen so, JSON"),
    Column("trials", pa.int32(), "combinations of learning rate and other floats that were tried"),
    Column("steps", pa.int32(), "training steps behind the parameters that were kept"),
    Column("train_prompts", pa.int64(), "prompts drawn for those steps, or that a closed form is fitted to"),
    Column("budget", pa.int64(), "trials x steps x prompts: prompts met in training by all trials together"),
    Column("params", pa.int32(), "trained or fitted numbers"),
    Column("floors", pa.list_(pa.string()), "solvers that none of its kind can beat in the mean, on its own task"),
    Column(
        "polynomial",
        pa.list_(pa.float64()),
        "residual polynomial in G or Sigma^{-1} G, constant first; to depth 12",
    ),
    Column("code", pa.string(), "fingerprint of the solver's, the task's and the engine's code"),
    Column("pack", pa.string(), "id of the pack it ran in"),
    Column("pack_jobs", pa.int32(), "jobs in that pack"),
    Column("structure", pa.string(), "short name of what jobs of one pack share: classes, depth, dimensions"),
    Column("engine", pa.string(), "how training ran: compiled, or as written; null where nothing was trained"),
    Column("prior_seconds", pa.float64(), "the pack's seconds by the cost model, before any history"),
    Column("predicted_seconds", pa.float64(), "as planned, from the prior and the store's history"),
    Column("predicted_low", pa.float64(), "lower bound of the plan's 80 % interval"),
    Column("predicted_high", pa.float64(), "its upper bound"),
    Column("pack_seconds", pa.float64(), "wall-clock seconds of the pack, all its jobs together"),
    Column("prior_memory", pa.float64(), "the pack's peak of memory in bytes by the cost model, before any history"),
    Column("predicted_memory", pa.float64(), "as planned"),
    Column("pack_memory", pa.float64(), "bytes by which the pack raised its process's, or its device's, peak"),
    Column("device", pa.string(), "cpu or the accelerator's name"),
    Column("host", pa.string(), "name of the machine"),
    Column("finished", pa.timestamp("us", tz="UTC"), "end of the pack"),
    Column("version", pa.string(), "of lfombench, torch and Python"),
)

CURVES = (
    Column("job", pa.string(), "id"),
    Column("step", pa.int32(), "training step, from 1"),
    Column("loss", pa.float64(), "training loss of the chosen learning rate at that step"),
    Column("gradient_norm", pa.float64(), "Euclidean norm of its gradient"),
)

WEIGHTS = (
    Column("job", pa.string(), "id"),
    Column("name", pa.string(), "of the parameter, in the solver's own words"),
    Column("dtype", pa.string(), "of the numbers as they were trained or fitted"),
    Column("shape", pa.list_(pa.int32()), "of the parameter"),
    Column("values", pa.list_(pa.float64()), "its numbers, last axis fastest; of the parameters that were tested"),
)

TABLES = {"results": RESULTS, "jobs": JOBS, "curves": CURVES, "weights": WEIGHTS}


@functools.cache
def arrow(table: str) -> pa.Schema:
    """A table's Arrow schema, each column with its meaning."""
    return pa.schema([pa.field(c.name, c.type, metadata={"meaning": c.meaning}) for c in TABLES[table]])
