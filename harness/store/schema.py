"""The columns of the store: name, type, unit and meaning. The one place that says what is in a file."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import pyarrow as pa

VERSION = 2  # version of the store's layout; a store of another version is refused
BLOCKS = 64  # number of blocks of test prompts whose mean errors are stored, to compare solvers on the same prompts


@dataclass(frozen=True)
class Column:
    """A column of a table: its name, its Arrow type, and its meaning with the unit."""

    name: str
    type: pa.DataType
    meaning: str


RESULTS = (
    Column("job", pa.string(), "id of the job: a hash of task, solver, protocol and seed"),
    Column("task", pa.string(), "training task"),
    Column("test", pa.string(), "task that the solver is tested on"),
    Column("solver", pa.string(), "name and non-default fields of the solver, without its depth"),
    Column("family", pa.string(), "family of the solver: classical, learned, bound or control"),
    Column("depth", pa.int32(), "layers or steps of the solver"),
    Column("step", pa.int32(), "number of the iterate, 0 .. depth"),
    Column("seed", pa.int64(), "seed of the task's frame, the prompts and the initialisation"),
    Column("protocol", pa.string(), "name of the protocol, and the fields that differ from the named one"),
    Column("mse", pa.float64(), "mean squared error at the query over the test prompts; null if diverged"),
    Column("log_mse", pa.float64(), "natural logarithm of mse; where mse is 0, of the least positive double"),
    Column("mse_normalised", pa.float64(), "mse divided by the mse of predicting 0"),
    Column("median", pa.float64(), "median of the squared error over prompts"),
    Column("q90", pa.float64(), "90 % quantile of the squared error over prompts"),
    Column("q99", pa.float64(), "99 % quantile of the squared error over prompts"),
    Column("failure_rate", pa.float64(), "share of prompts with a larger error than predicting 0, or with NaN"),
    Column("prompts", pa.int64(), "number of test prompts"),
    Column(
        "blocks",
        pa.list_(pa.float64()),
        f"mean squared error in {BLOCKS} equal blocks of the test prompts; of each prompt if there are fewer",
    ),
    Column(
        "fit_error", pa.float64(), "expected excess of a fitted bound's mse, on its own task, over the true bound's"
    ),
    Column("conjugacy", pa.float64(), "mean |cos| of this step and the last in G's norm; 0 where conjugate"),
    Column("params", pa.int32(), "number of trained or fitted parameters of the solver"),
    Column("status", pa.string(), "done or diverged, on this test task"),
    Column("reason", pa.string(), "why it diverged, if it did"),
    Column("code", pa.string(), "fingerprint of the solver's, the task's and the engine's code that gave the numbers"),
)

JOBS = (
    Column("job", pa.string(), "id of the job"),
    Column("status", pa.string(), "done, diverged, failed, or skipped: an impossible combination"),
    Column("reason", pa.string(), "why the job is not done, if it is not; a traceback if it failed"),
    Column("task", pa.string(), "training task"),
    Column("solver", pa.string(), "name and non-default fields of the solver, without its depth"),
    Column("depth", pa.int32(), "layers or steps of the solver"),
    Column("protocol", pa.string(), "name of the protocol, and the fields that differ from the named one"),
    Column("seed", pa.int64(), "seed of the job"),
    Column("spec", pa.string(), "canonical form of the job, JSON: what its id is the hash of"),
    Column("learning_rate", pa.float64(), "learning rate that the validation prompts chose, or the only one"),
    Column("tuned", pa.string(), "other floats that the validation prompts chose, JSON"),
    Column("trials", pa.int32(), "number of combinations of learning rate and other floats that were tried"),
    Column("steps", pa.int32(), "training steps behind the parameters that were tested"),
    Column("train_prompts", pa.int64(), "prompts drawn for those steps, or that a closed form is fitted to"),
    Column("budget", pa.int64(), "trials x steps x prompts: prompts met in training by all trials together"),
    Column("labels", pa.int64(), "labels met in training by all trials together: of a prompt's examples and its query"),
    Column("params", pa.int32(), "number of trained or fitted parameters"),
    Column(
        "flops",
        pa.list_(pa.int64()),
        "operations on numbers for one prompt after 1 .. depth steps, as written: G is there, and G w takes 2 d^2",
    ),
    Column("floors", pa.list_(pa.string()), "labels of bounds that it cannot beat in the mean, on its own task"),
    Column(
        "polynomial",
        pa.list_(pa.float64()),
        "residual polynomial in G or Sigma^{-1} G, constant first; to depth 12",
    ),
    Column("code", pa.string(), "fingerprint of the solver's, the task's and the engine's code"),
    Column("pack", pa.string(), "id of the pack that the job ran in"),
    Column("pack_jobs", pa.int32(), "number of jobs in that pack"),
    Column("structure", pa.string(), "short name of what the jobs of one pack share: classes, depth, dimensions"),
    Column(
        "engine",
        pa.string(),
        "how training ran: compiled, kernel (on a GPU), torch.compile, eager (once: as written); null if untrained",
    ),
    Column("prior_seconds", pa.float64(), "seconds of the pack by the cost model, before any history"),
    Column("predicted_seconds", pa.float64(), "seconds of the pack as planned, from the prior and the store's history"),
    Column("predicted_low", pa.float64(), "lower bound of the 80 % interval of predicted_seconds"),
    Column("predicted_high", pa.float64(), "upper bound of the 80 % interval of predicted_seconds"),
    Column("pack_seconds", pa.float64(), "wall-clock seconds of the pack, all its jobs together"),
    Column("prior_memory", pa.float64(), "peak memory of the pack in bytes by the cost model, before any history"),
    Column("predicted_memory", pa.float64(), "peak memory of the pack in bytes as planned"),
    Column("pack_memory", pa.float64(), "bytes by which the pack raised the peak of its process, or of its device"),
    Column("device", pa.string(), "cpu, or the name of the accelerator"),
    Column("host", pa.string(), "name of the machine"),
    Column("finished", pa.timestamp("us", tz="UTC"), "when the pack ended"),
    Column("version", pa.string(), "versions of lfombench, torch and Python"),
)

CURVES = (
    Column("job", pa.string(), "id of the job"),
    Column("step", pa.int32(), "training step, from 1"),
    Column("loss", pa.float64(), "training loss of the chosen trial at that step"),
    Column("gradient_norm", pa.float64(), "Euclidean norm of the gradient of that loss"),
)

WEIGHTS = (
    Column("job", pa.string(), "id of the job"),
    Column("name", pa.string(), "name of the parameter in the solver's code"),
    Column("dtype", pa.string(), "number type in which the parameter was trained or fitted"),
    Column("shape", pa.list_(pa.int32()), "shape of the parameter"),
    Column("values", pa.list_(pa.float64()), "numbers of the parameter as it was tested, last axis fastest"),
)

TABLES = {"results": RESULTS, "jobs": JOBS, "curves": CURVES, "weights": WEIGHTS}


@functools.cache
def arrow(table: str) -> pa.Schema:
    """The Arrow schema of a table, with the meaning of each column as metadata."""
    return pa.schema([pa.field(c.name, c.type, metadata={"meaning": c.meaning}) for c in TABLES[table]])
