"""Register a trained job as a model in MLflow: its weights in safetensors, its job in JSON, a signature, no pickle."""

from __future__ import annotations

import json
import os
import tempfile
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import save_file

from ..errors import UserError
from ..spec.job import Job
from ..store import queries
from ..store.store import Store
from ..tracking.library import prepare
from ..tracking.opened import silent
from ..tracking.uris import VARIABLE, Where
from ..training.predict import example, predictions
from .experiments import opened
from .explain import case_of, one_job
from .recorder import weights_of

PROMPTS = 2  # in the example of an input


def register(out: str, prefix: str, where: Where, name: str | None) -> str:
    """Register the job whose id begins so; the URI of the model's new version. name: of the model in the registry, by
    default that of the job's solver, depth and seed. UserError where the job is not trained, or has nothing to serve.
    """
    store = Store(out)
    job_id = one_job(store, prefix)
    [row] = queries.rows_of(store.place, "jobs", {job_id}).to_pylist()
    if row["status"] not in ("done", "diverged") or not row["spec"]:
        raise UserError(f"job {job_id} is {row['status']}: only a job that has run can be registered")
    spec = json.loads(row["spec"])
    weights = weights_of(store.place, {job_id})[job_id]
    job = Job(case_of(spec).with_floats(weights.chosen), row["seed"])
    given = example(job, PROMPTS)
    answers = predictions(job, weights.params, **given)
    shown = {"job": job_id, **{key: str(row[key]) for key in ("solver", "depth", "seed", "task", "protocol")}}
    with tempfile.TemporaryDirectory() as folder:
        at = {name: Path(folder) / name for name in ("weights", "job")}
        save_file({key: value.contiguous() for key, value in weights.params.items()}, at["weights"])
        at["job"].write_text(json.dumps({"spec": spec, "chosen": dict(weights.chosen)}, indent=1))
        options = {
            "name": name or f"{row['solver'].partition('(')[0]}-L{row['depth']}-s{row['seed']}",
            "artifacts": {key: str(path) for key, path in at.items()},
            "input_example": {key: value.numpy() for key, value in given.items()},
        }
        return _log(where, _run_of(store, where, job_id), shown, answers.shape[1], options)


def _run_of(store: Store, where: Where, job: str) -> str:
    """The run that shows a job. UserError where none does."""
    with opened(store.out, where, silent) as view:
        found = [run.run for runs in view.known().values() for run in runs if run.job == job and run.active]
        if found:
            return found[0]
    raise UserError(f"{where.shown} does not show job {job}: lfombench mlflow sync does that")


def _log(where: Where, run: str, shown: dict[str, str], steps: int, options: dict[str, Any]) -> str:
    """Log a model of a run, and register it; the URI of the version."""
    prepare()
    import mlflow
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    d = options["input_example"]["X"].shape[2]
    kind = np.dtype("float64")
    inputs = Schema(
        [TensorSpec(kind, (-1, -1, d), "X"), TensorSpec(kind, (-1, -1), "y"), TensorSpec(kind, (-1, d), "query")]
    )
    signature = ModelSignature(inputs, Schema([TensorSpec(kind, (-1, steps))]))
    before = os.environ.get(VARIABLE)
    mlflow.set_tracking_uri(where.uri)  # which sets it in the environment, too
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it would rather infer a signature from hints than take this one
            return _logged(run, shown, signature, options)
    finally:
        mlflow.set_tracking_uri(before)  # type: ignore[arg-type]  # None is nothing


def _logged(run: str, shown: dict[str, str], signature: Any, options: dict[str, Any]) -> str:
    import mlflow

    number = mlflow.MlflowClient().get_run(run).info.experiment_id
    model = mlflow.initialize_logged_model(options["name"], source_run_id=run, params=shown, experiment_id=number)
    info = mlflow.pyfunc.log_model(
        **options,
        model_id=model.model_id,
        python_model=str(Path(__file__).with_name("served.py")),
        signature=signature,
        registered_model_name=options["name"],
        pip_requirements=[f"lfombench=={version('lfombench')}"],
    )
    mlflow.finalize_logged_model(model.model_id, "READY")
    return f"models:/{options['name']}/{info.registered_model_version}"
