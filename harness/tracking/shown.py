"""What MLflow shows of a job: a run, with flat parameters, tags to group by, the loss by depth and its training curve.

The score is `log_mse`: a series over depth, whose last value is what tables show. Losses on further test tasks are
`log_mse/TASK`, and so on.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from .fitted import DATASET, NAME, PARAM, TAG, Fitted

VERSION = 1  # of what is shown: raise it with every change here, so that the runs of older versions are written anew
SHOWS = "lfombench.shows"  # a tag: the store, the job and the digest of what the store had of it
JOB, SOURCE, RUN_NAME = "job", "mlflow.source.name", "mlflow.runName"
OURS = "lfombench"  # the source of all our runs
FINAL = ("mse", "mse_normalised", "median", "q90", "q99", "failure_rate")
USED = ("learning_rate", "trials", "steps", "train_prompts", "budget", "labels", "params", "engine", "device", "host")
POINTS = 50  # of a training curve, at most, and the last
SHORT, LEAST = 25, 3  # characters of a run's name that the table of runs shows, and that are left of a word
NAMES = ("task", "solver", "family", "protocol")
STATE = (JOB, "status", "depth", "seed", "pack", "code")
OWN_TAGS = (*NAMES, *STATE, "reason", "sweep", SOURCE, RUN_NAME)  # and all that begin with "lfombench."
Row = dict[str, Any]
Points = dict[tuple[str, int], float]  # the value of a metric, by its key and step


@dataclass(frozen=True)
class Dataset:
    """The task that a job was trained on, as a dataset of its run."""

    name: str
    digest: str
    source: str
    profile: str


@dataclass(frozen=True)
class Shown:
    """A job as a run. Times in milliseconds since 1970: when its pack began and ended."""

    job: str
    name: str
    status: str  # FINISHED or FAILED
    begin: int
    end: int
    tags: dict[str, str]
    params: dict[str, str]
    metrics: Points
    dataset: Dataset | None

    @property
    def digest(self) -> str:
        """The digest of what the store has of the job."""
        return self.tags[SHOWS].rpartition(" ")[2]


def shows(tag: str) -> tuple[str, str, str] | None:
    """The store, the job and the digest in a tag that says what a run shows; None where somebody has changed it."""
    words = tag.split(" ")
    return (words[0], words[1], words[2]) if len(words) == 3 else None


def shown(sweep: str, store: str, digest: str, job: Row, losses: Sequence[Row], curve: Sequence[Row]) -> Shown:
    """A job's run. job: its row of the jobs table; losses, curve: its rows of `results` and `curves`."""
    fitted = Fitted()
    end = int(job["finished"].timestamp() * 1000) if job["finished"] else 0
    begin = end - int(1000 * (job["pack_seconds"] or 0))
    spec = json.loads(job["spec"]) if job["spec"] else {}
    names = job | {"family": next((row["family"] for row in losses), None)}
    tags = {key: fitted.text(names[key], TAG) for key in NAMES if names[key]}
    tags |= {key: str(job[key]) for key in STATE if job[key] is not None}
    if job["reason"]:
        tags["reason"] = fitted.text(job["reason"], TAG, end=True)
    params = {key: fitted.text(text(value), PARAM) for key, value in flat(spec) if value is not None}
    tuned = json.loads(job["tuned"] or "{}")
    used = {f"used.{key}": job[key] for key in USED} | {f"used.{key}": value for key, value in tuned.items()}
    params |= {key: fitted.text(text(value), PARAM) for key, value in used.items() if value is not None}
    metrics: Points = {}
    for row in thinned(curve):
        metrics["loss", row["step"]] = row["loss"]
        metrics["gradient_norm", row["step"]] = row["gradient_norm"]
    if job["pack_seconds"] is not None:
        metrics |= {("pack_seconds", 0): job["pack_seconds"], ("pack_jobs", 0): float(job["pack_jobs"])}
    metrics |= _losses(job, losses, fitted)
    name = fitted.text(run_name(job), NAME)
    tags |= {"sweep": sweep, SHOWS: f"{store} {job[JOB]} {digest}", SOURCE: OURS, RUN_NAME: name, **fitted.tags()}
    status = "FINISHED" if job["status"] == "done" else "FAILED"
    return Shown(job["job"], name, status, begin, end, tags, params, metrics, _dataset(job, spec, fitted))


def _losses(job: Row, rows: Sequence[Row], fitted: Fitted) -> Points:
    """The loss after every step on each test task, and all numbers after the last step."""
    points: Points = {}
    others = list(dict.fromkeys(row["test"] for row in rows if row["test"] != job["task"]))
    keys = fitted.keys("mse_normalised/", others)
    of_test = {test: key.removeprefix("mse_normalised") for test, key in keys.items()} | {job["task"]: ""}
    for row in rows:
        if row["mse"] is not None:
            suffix = of_test[row["test"]]
            points[f"log_mse{suffix}", row["step"]] = row["log_mse"]
            if row["step"] == row["depth"]:
                points |= {(f"{key}{suffix}", row["step"]): row[key] for key in FINAL if row[key] is not None}
    return points


def run_name(job: Row) -> str:
    """A name that tells runs apart by its first characters, as tables cut it: `memformer cgd full L4 s2 rigorous`."""
    solver, _, fields = job["solver"].partition("(")
    values = [field.partition("=")[2] or field for field in re.split(r", (?=\w+=)", fields.removesuffix(")")) if field]
    case = f"L{job['depth']} s{job['seed']}"
    words = [re.split("(_)", word) for word in (solver, *values)]
    while sum(len(part) for word in words for part in word) + len(words) + len(case) > SHORT:
        word = max(words, key=lambda word: max(map(len, word)))  # cut the longest word, letter by letter
        longest = max(range(len(word)), key=lambda i: len(word[i]))
        if len(word[longest]) <= LEAST:
            break
        word[longest] = word[longest][:-1]
    short = " ".join(map("".join, words))[: SHORT - len(case) - 1].rstrip()
    return f"{short} {case} {job['protocol'].partition('(')[0]}"


def thinned(curve: Sequence[Row]) -> list[Row]:
    """A training curve with POINTS of its rows at most, equally far apart, and the last row."""
    return [*curve[: -1 : -(-len(curve) // POINTS)], curve[-1]] if curve else []


def flat(spec: Row) -> Iterator[tuple[str, Any]]:
    """A spec with flat keys: `{"solver": {"memformer": {"depth": 4}}}` as `solver = memformer`, `solver.depth = 4`."""
    for part, values in spec.items():
        if part in ("task", "solver"):
            [(name, values)] = values.items()
            yield part, name
        if isinstance(values, dict):
            yield from ((f"{part}.{key}", value) for key, value in values.items())
        else:
            yield part, values


def text(value: Any) -> str:
    """A value as a parameter: words as they are, numbers as Python writes them, the rest as JSON."""
    if isinstance(value, str):
        return value
    return repr(value) if isinstance(value, int | float) and not isinstance(value, bool) else json.dumps(value)


def _dataset(job: Row, spec: Row, fitted: Fitted) -> Dataset | None:
    """The job's training task. Its digest is that of the task's fields, without the seed that draws its frame."""
    if "task" not in spec:
        return None
    profile = json.dumps(spec["task"], sort_keys=True)
    source = json.dumps({"tags": {SOURCE: OURS, "task": job["task"][:DATASET]}})
    return Dataset(fitted.text(job["task"], DATASET), Fitted()._note(profile), source, profile)
