"""A view that is written into MLflow's own tables: a transaction for some hundred runs, instead of three requests each.

A run's id is made of the store, the experiment and the job: whoever writes a job writes the same run, so that nothing
is there twice. MLflow's tables are its own affair, so this is done only for the schema that `database.py` has tried.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, runtime_checkable

from .artifacts import are_there, keep_artifacts
from .page import PAGE, SUMMARY_JOB, SUMMARY_NAME, Page
from .rows import COLUMNS, Rows, add_run, id_of, no_rows
from .shown import JOB, OURS, OWN_TAGS, SHOWS, SOURCE, Points, Shown, shows
from .uris import SERVED, Where
from .view import Known, Stored

MOVED = (("runs", "artifact_uri"), ("logged_models", "artifact_location"))  # columns with places of artifacts
AT_ONCE = 400  # runs that one statement asks for
OURS_ALONE = "key LIKE 'lfombench.%' OR key IN ({})".format(", ".join(f"'{key}'" for key in OWN_TAGS))


@runtime_checkable
class Connection(Protocol):
    """A database, by its dialect. `?` stands for a value."""

    def rows(self, sql: str, values: Sequence[Any] = ()) -> Rows:
        """What a query gives, or nothing."""

    def fill(self, table: str, columns: Sequence[str], rows: Rows) -> None:
        """Add rows to a table, many at once."""

    def transaction(self) -> AbstractContextManager[None]:
        """Everything in it is done at once or not at all, and of two writers one waits."""

    def close(self) -> None:
        """Close the connection."""


class SqlView:
    """A database of MLflow's as a view."""

    at_once = 500  # runs of a transaction
    answered = True  # the connection stands

    def __init__(self, connection: Connection, store: str, where: Where) -> None:
        """store: the id of the store that is shown. where: says where new experiments keep artifacts; by default as
        the database has it.
        """
        self.connection, self.store, self.uri = connection, store, where.uri
        self.artifacts, self.otherwise = where.artifacts, where.otherwise

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()

    def open(self, name: str) -> str:
        """The id of an experiment, which is made where there is none, and restored where it was deleted."""
        look = "SELECT experiment_id, lifecycle_stage FROM experiments WHERE name = ? AND workspace = 'default'"
        found = self.connection.rows(look, [name])
        if found and found[0][1] == "active":
            self._follow(found[0][0])
            return str(found[0][0])
        now = int(1000 * time.time())
        with self.connection.transaction():
            if found:
                self.connection.rows(
                    "UPDATE experiments SET lifecycle_stage = 'active', last_update_time = ? WHERE experiment_id = ?",
                    [now, found[0][0]],
                )
            elif not self.connection.rows(look, [name]):  # another writer may have been quicker
                self.connection.rows(
                    "INSERT INTO experiments (name, workspace, lifecycle_stage, creation_time, last_update_time) "
                    "VALUES (?, 'default', 'active', ?, ?)",
                    [name, now, now],
                )
                number = self.connection.rows(look, [name])[0][0]
                self.connection.rows(
                    "UPDATE experiments SET artifact_location = ? WHERE experiment_id = ?",
                    [self._artifacts(number), number],
                )
        return str(self.connection.rows(look, [name])[0][0])

    def _follow(self, experiment: int) -> None:
        """Let artifacts be where they are now, if this is the database of a store that has been moved or copied."""
        before = self._folder(experiment)
        if not self.artifacts or before == self.artifacts:
            return
        with self.connection.transaction():
            for table, column in (("experiments", "artifact_location"), *MOVED):
                self.connection.rows(
                    f"UPDATE {table} SET {column} = replace({column}, ?, ?) WHERE experiment_id = ?",
                    [before, self.artifacts, experiment],
                )

    def _artifacts(self, experiment: int) -> str:
        """Where a new experiment keeps artifacts: beside those of MLflow's own first one, as a server would, unless
        only a server can write there.
        """
        if self.artifacts:
            return self.artifacts
        first = self.connection.rows("SELECT artifact_location FROM experiments WHERE experiment_id = 0")
        root = first[0][0].removesuffix("/0") if first and first[0][0] else SERVED
        return self.otherwise if self.otherwise and root.startswith(SERVED) else f"{root}/{experiment}"

    def known(self) -> dict[str, list[Known]]:
        """The runs of the store that is shown, by the name of their experiment, which may be deleted; and those of
        older versions of lfombench, which did not say whose they are.
        """
        runs = {
            run: (name, stage == "active")
            for run, name, stage in self.connection.rows(
                "SELECT r.run_uuid, e.name, r.lifecycle_stage FROM runs r JOIN experiments e "
                "ON e.experiment_id = r.experiment_id"
            )
        }
        tags = "SELECT run_uuid, value FROM tags WHERE key = ? AND value LIKE ?"
        ours = ((run, shows(value)) for run, value in self.connection.rows(tags, [SHOWS, f"{self.store} %"]))
        jobs = [(run, what[1], what[2]) for run, what in ours if what]
        found: dict[str, list[Known]] = {}
        for run, job, digest in [*jobs, *self._older()]:
            if run in runs:
                name, active = runs[run]
                found.setdefault(name, []).append(Known(run, job, digest, active))
        return found

    def _older(self) -> Rows:
        """The runs that older versions of lfombench wrote: id, job and no digest."""
        return self.connection.rows(
            "SELECT t.run_uuid, j.value, NULL FROM tags t JOIN tags j ON j.key = ? AND j.run_uuid = t.run_uuid "
            "WHERE t.key = ? AND t.value = ? "
            "AND NOT EXISTS (SELECT 1 FROM tags s WHERE s.key = ? AND s.run_uuid = t.run_uuid)",
            [JOB, SOURCE, OURS, SHOWS],
        )

    def write(self, experiment: str, runs: Sequence[Shown], instead: Mapping[str, Sequence[str]]) -> None:
        """Write runs in one transaction, each in the place of those that show the same job."""
        number = int(experiment)
        folder = self._folder(number)
        by_id = {self.run_id(experiment, run.job): run for run in runs}
        tables = no_rows()
        for run_id, run in by_id.items():
            add_run(tables, run_id, run, number, folder)
        others = [old for run in runs for old in instead.get(run.job, ()) if old not in by_id]
        with self.connection.transaction():
            self._remove(others)
            self._known_datasets(number, tables)
            self._replace(tables)

    def remove(self, runs: Sequence[str]) -> None:
        """Delete runs, as MLflow does: the UI has them among the deleted ones."""
        with self.connection.transaction():
            self._remove(runs)

    def read(self, runs: Sequence[str]) -> Iterator[Stored]:
        """All that is there of these runs."""
        for some in _parts(runs):
            tags, params = ({}, {})  # type: tuple[dict[str, dict[str, str]], dict[str, dict[str, str]]]
            for table, found in (("tags", tags), ("params", params)):
                for run, key, value in self._those(table, "key, value", some):
                    found.setdefault(run, {})[key] = value
            metrics: dict[str, Points] = {}
            for run, key, step, value, is_nan in self._those("metrics", "key, step, value, is_nan", some):
                metrics.setdefault(run, {})[key, step] = float("nan") if is_nan else value
            latest: dict[str, dict[str, float]] = {}
            for run, key, value, is_nan in self._those("latest_metrics", "key, value, is_nan", some):
                latest.setdefault(run, {})[key] = float("nan") if is_nan else value
            datasets: dict[str, list[tuple[str, str]]] = {}
            sql = (
                "SELECT i.destination_id, d.name, d.digest FROM inputs i JOIN datasets d ON d.dataset_uuid = "
                f"i.source_id WHERE i.destination_type = 'RUN' AND i.destination_id IN {_marks(some)}"
            )
            for run, name, digest in self.connection.rows(sql, some):
                datasets.setdefault(run, []).append((name, digest))
            for run, name, status, begin, end in self._those("runs", "name, status, start_time, end_time", some):
                yield Stored(
                    run,
                    name,
                    status,
                    begin,
                    end,
                    tags.get(run, {}),
                    params.get(run, {}),
                    metrics.get(run, {}),
                    latest.get(run, {}),
                    datasets.get(run, []),
                )

    def described(self, name: str) -> str | None:
        """The mark of the page that an experiment has, if it has one."""
        experiment = self.open(name)
        sql = "SELECT value FROM experiment_tags WHERE key = ? AND experiment_id = ?"
        rows = self.connection.rows(sql, [PAGE, int(experiment)])
        run = self._those("runs", "lifecycle_stage, name, artifact_uri", [self.run_id(experiment, SUMMARY_JOB)])
        stands = bool(run) and run[0][1:3] == ("active", SUMMARY_NAME) and are_there(run[0][3])
        return rows[0][0] if rows and stands else None

    def describe(self, name: str, page: Page) -> None:
        """Write what an experiment shows beside its runs, and its summary run."""
        experiment = int(self.open(name))
        rows = self.connection.rows("SELECT key, value FROM experiment_tags WHERE experiment_id = ?", [experiment])
        run, folder = page.summary(name, self.store), self._folder(experiment)
        run_id = self.run_id(str(experiment), run.job)
        tables = no_rows()
        add_run(tables, run_id, run, experiment, folder)
        with self.connection.transaction():
            self._set_tags(experiment, page.tags_for(dict(rows)))
            self._replace(tables)
        keep_artifacts(self.uri, run_id, f"{folder}/{run_id}/artifacts", page.files, self.artifacts)
        with self.connection.transaction():
            self._set_tags(experiment, {PAGE: page.mark})

    def _set_tags(self, experiment: int, tags: Mapping[str, str]) -> None:
        for key, value in tags.items():
            self.connection.rows("DELETE FROM experiment_tags WHERE experiment_id = ? AND key = ?", [experiment, key])
            self.connection.rows(
                "INSERT INTO experiment_tags (key, value, experiment_id) VALUES (?, ?, ?)", [key, value, experiment]
            )

    def _folder(self, experiment: int) -> str:
        """Where an experiment keeps artifacts, as a URI."""
        sql = "SELECT artifact_location FROM experiments WHERE experiment_id = ?"
        return str(self.connection.rows(sql, [experiment])[0][0])

    def run_id(self, experiment: str, job: str) -> str:
        """The id of the run that shows a job."""
        return id_of(self.store, experiment, job)

    def _those(self, table: str, columns: str, runs: Sequence[str]) -> Rows:
        return self.connection.rows(f"SELECT run_uuid, {columns} FROM {table} WHERE run_uuid IN {_marks(runs)}", runs)

    def _delete(self, table: str, runs: Sequence[str], where: str) -> None:
        for some in _parts(runs):
            self.connection.rows(f"DELETE FROM {table} WHERE ({where}) AND run_uuid IN {_marks(some)}", some)

    def _replace(self, tables: Mapping[str, Rows]) -> None:
        """Add the rows of runs to all tables, in the place of those that are there; tags that others have set stay."""
        ids = [row[0] for row in tables["runs"]]
        there = {row[0] for some in _parts(ids) for row in self._those("runs", "status", some)}
        self._delete("tags", ids, OURS_ALONE)
        for table in ("params", "metrics", "latest_metrics"):
            self._delete(table, ids, "TRUE")
        self._remove_inputs(ids, [row[0] for row in tables["inputs"]])
        columns = COLUMNS["runs"].split()
        update = f"UPDATE runs SET {', '.join(f'{name} = ?' for name in columns[1:])}, deleted_time = NULL"
        for row in tables["runs"]:
            if row[0] in there:
                self.connection.rows(f"{update} WHERE run_uuid = ?", [*row[1:], row[0]])
        new = {**tables, "runs": [row for row in tables["runs"] if row[0] not in there]}
        for table, rows in new.items():
            if rows:
                self.connection.fill(table, COLUMNS[table].split(), rows)

    def _remove_inputs(self, runs: Sequence[str], ours: Sequence[str]) -> None:
        """Delete the datasets of runs. ours: the ids that they have if we wrote them."""
        for some in _parts(ours):
            self.connection.rows(f"DELETE FROM input_tags WHERE input_uuid IN {_marks(some)}", some)
        for some in _parts(runs):
            of = f"source_type = 'DATASET' AND destination_type = 'RUN' AND destination_id IN {_marks(some)}"
            self.connection.rows(
                f"DELETE FROM input_tags WHERE input_uuid IN (SELECT input_uuid FROM inputs WHERE {of})", some
            )
            self.connection.rows(f"DELETE FROM inputs WHERE {of}", some)

    def _remove(self, runs: Sequence[str]) -> None:
        now = int(1000 * time.time())
        for some in _parts(runs):
            self.connection.rows(
                "UPDATE runs SET lifecycle_stage = 'deleted', deleted_time = ? WHERE lifecycle_stage = 'active' AND "
                f"run_uuid IN {_marks(some)}",
                [now, *some],
            )

    def _known_datasets(self, experiment: int, tables: dict[str, Rows]) -> None:
        """Let runs refer to the datasets that the experiment has, by their names and digests, and add only others."""
        rows = self.connection.rows(
            "SELECT name, digest, dataset_uuid FROM datasets WHERE experiment_id = ?", [experiment]
        )
        known = {(name, digest): number for name, digest, number in rows}
        new = {row[0]: row for row in tables["datasets"]}
        there = {number: known.get((row[2], row[3])) for number, row in new.items()}
        tables["datasets"] = [row for number, row in new.items() if there[number] is None]
        tables["inputs"] = [(first, kind, there[of] or of, *rest) for first, kind, of, *rest in tables["inputs"]]


def _marks(values: Sequence[Any]) -> str:
    return f"({', '.join('?' * len(values))})"


def _parts(items: Sequence[str]) -> Iterator[Sequence[str]]:
    return (items[i : i + AT_ONCE] for i in range(0, len(items), AT_ONCE))
