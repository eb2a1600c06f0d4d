"""A view through MLflow's public interface: for tracking servers, and for databases of an unknown schema.

A run takes four requests. Its id is the server's, so a run is written anew and then takes the place of the old one; one
that is not complete is RUNNING, and the next reconciliation writes it again.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..redact import redacted
from .artifacts import keep_artifacts
from .fitted import finite
from .library import prepare
from .page import PAGE, SUMMARY, SUMMARY_NAME, Page
from .shown import JOB, OURS, OWN_TAGS, SHOWS, SOURCE, Points, Shown, shows
from .uris import Where
from .view import Known, Refused, Stored, Unreachable

ANSWER = 1000  # runs in one
METRICS, PARAMS, TAGS = 900, 90, 90  # in a request: MLflow takes 1000 entries, of which 100 are parameters or tags
CAUSE = re.compile(r"Max retries exceeded .*?(\[Errno -?\d+\][^'\")]+|Failed to resolve '[^']+'|timed out|SSL[^'\")]+)")
LONGEST = 600  # characters of what an error says
GONE = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")  # of a run that is to be deleted: it is, already
TEMPORARY = ("TEMPORARILY_UNAVAILABLE", "INTERNAL_ERROR", "RESOURCE_EXHAUSTED", "REQUEST_LIMIT_EXCEEDED", "ABORTED")


class ClientView:
    """A tracking store as a view, through MLflow's client."""

    at_once = 1

    def __init__(self, where: Where, store: str) -> None:
        self.where, self.store = where, store
        self.tags: dict[str, dict[str, str]] = {}  # of the runs that are there, by run
        prepare()
        from mlflow import MlflowClient

        with self._errors():
            self.client: Any = MlflowClient(tracking_uri=where.uri)
        self.answered = False  # nothing has been asked yet

    def close(self) -> None:
        """Do nothing: there are only requests."""

    def open(self, name: str) -> str:
        """The id of an experiment, which is made where there is none, and restored where it was deleted."""
        from mlflow.exceptions import MlflowException

        with self._errors():
            found = self.client.get_experiment_by_name(name)
            if found is None:
                place = self.where.artifacts or self.where.otherwise
                with contextlib.suppress(MlflowException):  # another writer may have been quicker
                    self.client.create_experiment(name, artifact_location=place)
                found = self.client.get_experiment_by_name(name)
            if found is None:
                raise Refused(f"{self.where.shown} makes no experiment {name}")
            if found.lifecycle_stage != "active":
                self.client.restore_experiment(found.experiment_id)
            return str(found.experiment_id)

    def known(self) -> dict[str, list[Known]]:
        """The runs of the store that is shown, by the name of their experiment; and those of older versions of
        lfombench, which did not say whose they are.
        """
        with self._errors():
            names = {one.experiment_id: one.name for one in self.client.search_experiments()}
            found: dict[str, list[Known]] = {}
            for run in self._runs(list(names)):
                tags = run.data.tags
                ours = shows(tags[SHOWS]) if SHOWS in tags else (self.store, tags.get(JOB, ""), None)
                if ours and ours[0] == self.store and ours[1]:
                    self.tags[run.info.run_id] = tags
                    digest = "" if run.info.status == "RUNNING" and ours[2] else ours[2]
                    known = Known(run.info.run_id, ours[1], digest)
                    found.setdefault(names[run.info.experiment_id], []).append(known)
            return found

    def _runs(self, experiments: list[str]) -> Iterator[Any]:
        """All runs that lfombench wrote."""
        token = None
        while experiments:
            page = self.client.search_runs(experiments, f"tags.`{SOURCE}` = '{OURS}'", 1, ANSWER, page_token=token)
            yield from page
            token = page.token
            if not token:
                return

    def write(self, experiment: str, runs: Sequence[Shown], instead: Mapping[str, Sequence[str]]) -> None:
        """Write runs, each in the place of those that show the same job, which keep what others have noted there."""
        for run in runs:
            with self._errors():
                old = instead.get(run.job, ())
                noted = {key: value for one in old for key, value in self.tags.get(one, {}).items() if not ours(key)}
                self._write(experiment, run, noted)
                self._delete(old)

    def remove(self, runs: Sequence[str]) -> None:
        """Delete runs: the UI has them among the deleted ones."""
        with self._errors():
            self._delete(runs)

    def _delete(self, runs: Sequence[str]) -> None:
        """Delete runs, but those that are gone: a request may be repeated whose answer was lost."""
        from mlflow.exceptions import MlflowException

        for run in runs:
            try:
                self.client.delete_run(run)
            except MlflowException as error:
                if error.error_code not in GONE:
                    raise

    def read(self, runs: Sequence[str]) -> Iterator[Stored]:
        """All that is there of these runs, by a request for each and for each of its metrics."""
        for one in runs:
            with self._errors():
                run = self.client.get_run(one)
                points: Points = {
                    (key, point.step): point.value
                    for key in run.data.metrics
                    for point in self.client.get_metric_history(one, key)
                }
            datasets = [(i.dataset.name, i.dataset.digest) for i in run.inputs.dataset_inputs]
            info, data = run.info, run.data
            yield Stored(
                one,
                info.run_name,
                info.status,
                info.start_time,
                info.end_time,
                data.tags,
                data.params,
                points,
                data.metrics,
                datasets,
            )

    def described(self, name: str) -> str | None:
        """The mark of the page that an experiment has, if it has one."""
        with self._errors():
            experiment = self.open(name)
            mark: str | None = self.client.get_experiment(experiment).tags.get(PAGE)
            found = self._summaries(experiment)
            return mark if len(found) == 1 and found[0].info.run_name == SUMMARY_NAME else None

    def describe(self, name: str, page: Page) -> None:
        """Write what an experiment shows beside its runs, and its summary run."""
        experiment = self.open(name)
        run = page.summary(name, self.store)
        with self._errors():
            there = self.client.get_experiment(experiment).tags
            for key, value in page.tags_for(there).items():
                self.client.set_experiment_tag(experiment, key, value)
            old = self._summaries(experiment)
            begun = self.client.create_run(experiment, run.begin, run.tags, run.name).info
            keep_artifacts(self.where.uri, begun.run_id, begun.artifact_uri, page.files)
            self.client.set_terminated(begun.run_id, run.status, run.end)
            for one in old:
                self.client.delete_run(one.info.run_id)
            self.client.set_experiment_tag(experiment, PAGE, page.mark)

    def _summaries(self, experiment: str) -> list[Any]:
        """The summary runs of this store."""
        return list(self.client.search_runs([experiment], f"tags.`{SUMMARY}` = '{self.store}'", 1))

    def _write(self, experiment: str, run: Shown, noted: Mapping[str, str]) -> None:
        tags = list({**noted, **run.tags}.items())
        begun = self.client.create_run(experiment, start_time=run.begin, tags=dict(tags[:TAGS]), run_name=run.name)
        try:
            self._fill(begun.info.run_id, run, tags)
        except Exception:  # whatever it was, half a run is none
            with contextlib.suppress(Exception):
                self.client.delete_run(begun.info.run_id)
            raise

    def _fill(self, name: str, run: Shown, tags: Sequence[tuple[str, str]]) -> None:
        """Log everything of a run that has begun, and end it."""
        from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag

        metrics = [Metric(key, _stored(value), run.end, step) for (key, step), value in run.metrics.items()]
        params = [Param(key, value) for key, value in run.params.items()]
        for i in range(max(1, -(-len(metrics) // METRICS), -(-len(params) // PARAMS), -(-len(tags) // TAGS - 1))):
            more = tags[TAGS * (i + 1) : TAGS * (i + 2)]
            self.client.log_batch(
                name,
                metrics=metrics[METRICS * i : METRICS * (i + 1)],
                params=params[PARAMS * i : PARAMS * (i + 1)],
                tags=[RunTag(key, value) for key, value in more],
            )
        if run.dataset:
            of = run.dataset
            dataset = Dataset(of.name, of.digest, "code", of.source, profile=of.profile)
            self.client.log_inputs(name, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])
        self.client.set_terminated(name, run.status, run.end)

    def _said(self, error: Exception) -> str:
        """What an error says, on one line, without passwords; of a failed connection, why it failed."""
        text = " ".join(str(error).split())
        cause = CAUSE.search(text)
        return redacted(cause[1].strip() if cause else text, self.where.uri)[:LONGEST]

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """MLflow's errors as those of a view, without passwords."""
        import requests
        from alembic.util import CommandError
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        try:
            yield
            self.answered = True
        except MlflowException as error:
            said = f"{self.where.shown}: {self._said(error)}"
            status = error.get_http_status_code()  # type: ignore[no-untyped-call]
            passing = error.error_code in TEMPORARY or status >= 500 or status in (408, 425, 429)
            lost = "API request to" in said and "failed with exception" in said
            if (passing or lost) and "out-of-date database schema" not in said:
                raise Unreachable(said) from error
            raise Refused(said) from error
        except (CommandError, SQLAlchemyError, ImportError) as error:  # of a database, another schema, no driver for it
            raise Refused(f"{self.where.shown}: {self._said(error)}") from error
        except (requests.RequestException, OSError) as error:
            raise Unreachable(f"{self.where.shown}: {self._said(error)}") from error


def _stored(value: float) -> float:
    """A value as MLflow's database will have it."""
    number, is_nan = finite(value)
    return math.nan if is_nan else number


def ours(key: str) -> bool:
    """Whether a tag of a run is one that we write."""
    return key in OWN_TAGS or key.startswith("lfombench.")
