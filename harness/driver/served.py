"""A trained job as MLflow loads and serves it: a prompt in, the predictions after each layer out.

This file is what `mlflow.pyfunc` runs to load a model: no pickle. Its weights are in safetensors, its job in JSON.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import torch
from mlflow.pyfunc.model import PythonModel
from safetensors.torch import load_file

from lfombench.harness.driver.explain import case_of
from lfombench.harness.spec.job import Job
from lfombench.harness.training.predict import predictions

AXES = {"X": "prompts n d", "y": "prompts n", "query": "prompts d"}


class Served(PythonModel):
    """A job's solver with its trained parameters."""

    def load_context(self, context: Any) -> None:
        """Read the job and its weights from the model's files."""
        known = json.loads(Path(context.artifacts["job"]).read_text())
        self.job = Job(case_of(known["spec"]).with_floats(known["chosen"]), known["spec"]["seed"])
        self.params = load_file(context.artifacts["weights"])

    def predict(self, context: Any, model_input: np.ndarray, params: dict[str, Any] | None = None) -> np.ndarray:
        """Predictions at the query, `prompts steps`: after 0 .. depth layers. model_input: arrays X, y and query, by
        their names; MLflow knows few types by their hints, and of those this is the nearest.
        """
        given = {name: torch.as_tensor(np.asarray(model_input[name], dtype=np.float64)) for name in AXES}
        for name, axes in AXES.items():
            if given[name].dim() != len(axes.split()):
                raise ValueError(f"{name} has {given[name].dim()} axes, needs {axes}")
        return predictions(self.job, self.params, given["X"], given["y"], given["query"]).numpy()


mlflow.models.set_model(Served())
