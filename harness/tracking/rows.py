"""A run as rows of MLflow's own tables.

Ids are made of what they stand for, so that whoever writes a run writes the same rows.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from .fitted import finite
from .shown import OURS, Shown

IDS = uuid.UUID("5f1d3c52-6f0a-4f0e-9a0e-1b2f6a1f7c11")  # the name space of the ids of our runs
RUN = "run_uuid name source_type source_name entry_point_name user_id status start_time end_time source_version"
COLUMNS = {
    "runs": f"{RUN} lifecycle_stage artifact_uri experiment_id",
    "tags": "key value run_uuid",
    "params": "key value run_uuid",
    "metrics": "key value timestamp step is_nan run_uuid",
    "latest_metrics": "key value timestamp step is_nan run_uuid",
    "datasets": "dataset_uuid experiment_id name digest dataset_source_type dataset_source dataset_profile",
    "inputs": "input_uuid source_type source_id destination_type destination_id",
    "input_tags": "input_uuid name value",
}
Rows = list[tuple[Any, ...]]


def id_of(*parts: str) -> str:
    """The id of what these words name."""
    return uuid.uuid5(IDS, "/".join(parts)).hex


def no_rows() -> dict[str, Rows]:
    """No rows of each table."""
    return {table: [] for table in COLUMNS}


def add_run(tables: Mapping[str, Rows], run_id: str, run: Shown, experiment: int, folder: str) -> None:
    """Add the rows of a run to those of each table. folder: where its experiment keeps artifacts."""
    artifacts = f"{folder}/{run_id}/artifacts"
    tables["runs"].append(
        (run_id, run.name, "UNKNOWN", "", "", OURS, run.status, run.begin, run.end, "", "active", artifacts, experiment)
    )
    tables["tags"] += ((key, value, run_id) for key, value in run.tags.items())
    tables["params"] += ((key, value, run_id) for key, value in run.params.items())
    last: dict[str, tuple[Any, ...]] = {}
    for (key, step), value in run.metrics.items():
        number, is_nan = finite(value)
        row = (key, number, run.end, step, is_nan, run_id)
        tables["metrics"].append(row)
        if key not in last or last[key][3] < step:
            last[key] = row
    tables["latest_metrics"] += last.values()
    if run.dataset:
        of = run.dataset
        dataset_id = id_of(str(experiment), of.name, of.digest)
        input_id = id_of(run_id, dataset_id)
        tables["datasets"].append((dataset_id, experiment, of.name, of.digest, "code", of.source, of.profile))
        tables["inputs"].append((input_id, "DATASET", dataset_id, "RUN", run_id))
        tables["input_tags"].append((input_id, "mlflow.data.context", "training"))
