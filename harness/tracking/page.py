"""What an experiment shows beside its runs: a description, the columns that its table opens with, and a summary run
with the board and the report.
"""

from __future__ import annotations

import base64
import hashlib
import json
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from .shown import OURS, RUN_NAME, SOURCE, Shown

NOTE, NOTE_DIGEST, PAGE = "mlflow.note.content", "lfombench.note", "lfombench.page"
SUMMARY = "lfombench.summary"  # a tag of the summary run: the store
SUMMARY_JOB, SUMMARY_NAME = "summary", "summary: board and report"
VIEW = "lfombench"  # the name of the columns and their order, in addresses
KIND = {"mlflow.experimentKind": "custom_model_development"}  # not of agents and their traces
COLUMNS = ("metrics.`log_mse`", *(f"tags.`{tag}`" for tag in ("solver", "depth", "seed", "protocol", "task")))
FACETS = {
    "searchFilter": "",
    "orderByKey": "metrics.`log_mse`",
    "orderByAsc": True,
    "startTime": "ALL",
    "lifecycleFilter": "Active",
    "datasetsFilter": [],
    "modelVersionFilter": "All Runs",
}
ADDRESS = f"?viewStateShareKey={VIEW}&workflowType=machine_learning"  # a facet here, and the UI ignores the view


@dataclass(frozen=True)
class Page:
    """What an experiment shows beside its runs."""

    mark: str  # which other pages differ in
    description: str  # Markdown
    files: Mapping[str, bytes] = field(default_factory=dict)  # artifacts of the summary run, by name

    def tags_for(self, there: Mapping[str, str]) -> dict[str, str]:
        """The tags of the experiment that change. there: those that it has. A description that somebody else has
        written stays.
        """
        digest = _digest(self.description)
        note = there.get(NOTE, "")
        own = (
            {NOTE: self.description, NOTE_DIGEST: digest} if not note or _digest(note) == there.get(NOTE_DIGEST) else {}
        )
        tags = KIND | {f"mlflow.sharedViewState.{VIEW}": table_view()} | own
        return {key: value for key, value in tags.items() if there.get(key) != value}

    def summary(self, sweep: str, store: str) -> Shown:
        """The summary run. It is no job's."""
        now = int(1000 * time.time())
        tags = {SOURCE: OURS, RUN_NAME: SUMMARY_NAME, SUMMARY: store, "sweep": sweep}
        return Shown(SUMMARY_JOB, SUMMARY_NAME, "FINISHED", now, now, tags, {}, {}, None)


def table_view() -> str:
    """The columns and the order of an experiment's table, as MLflow's UI packs them when a view is shared."""
    state = FACETS | {
        "selectedColumns": list(COLUMNS),
        "columnOrder": list(COLUMNS),
        "columnWidths": {"tags.`solver`": 280, "tags.`task`": 280},
        "runsHiddenMode": "FIRST_20_RUNS",
        "hideEmptyCharts": True,
        "useGroupedValuesInCharts": True,
    }
    return "deflate;" + base64.b64encode(zlib.compress(json.dumps(state).encode(), 9)).decode()


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
