"""Files of a store rewritten: merged, without jobs that must go, and after damage."""

from __future__ import annotations

import contextlib
from typing import Any

import polars as pl
import pytest

from lfombench.harness.store import maintenance, queries, snapshots
from lfombench.harness.store.schema import TABLES
from lfombench.harness.store.store import Store
from tests.builders import ids, pack, rows, run


class Killed(BaseException):
    """Stands for a signal that ends a driver at once."""


@pytest.fixture
def killed_after(monkeypatch):
    """Ends whatever makes snapshots once it has made so many more."""

    def after(commits: int) -> None:
        left, follow = iter(range(commits - 1)), snapshots.follow

        def last(*how: Any) -> bool:
            made = follow(*how)
            if next(left, None) is None:
                raise Killed
            return made

        monkeypatch.setattr(snapshots, "follow", last)

    return after


def test_many_files_become_few_and_no_row_changes(store):
    for seed in range(20):
        store.commit([run(pack([seed]))])
        maintenance.compact(store)
    assert max(len(store.place.names(name)) for name in TABLES) < 12
    before = {name: rows(store, name) for name in TABLES}
    while maintenance.compact(store, 2):
        pass
    assert max(len(store.place.names(name)) for name in TABLES) <= 5
    for name in TABLES:
        assert rows(store, name).equals(before[name])
    assert queries.done(store.place).keys() == ids(pack(range(20)))


@pytest.mark.parametrize(
    ("sizes", "at"),
    [
        ([], 0),
        ([5], 0),
        ([1] * 8, 0),
        ([100, 1, 1, 1], 1),
        ([3, 1, 1, 1], 0),
        ([maintenance.LARGE, 1, 1], 1),
        ([4, 1, 1], 1),
        ([102, 100, 101], 0),
        ([101, 100], 0),
    ],
)
def test_what_is_worth_merging(sizes, at):
    assert maintenance.mergeable(sizes) == at


def test_a_file_whose_rows_all_go_leaves_none(store):
    store.commit([run(pack([0]))])
    store.commit([run(pack([1]))])
    maintenance.forget(store, ids(pack([0])))
    assert queries.done(store.place).keys() == ids(pack([1]))
    for name in TABLES:
        assert [f"{name}/{base}" for base in store.place.names(name)] == store.snapshot.paths(name)


def test_two_drivers_may_merge_the_same_files(store):
    """The second finds them gone, and takes the ones that hold their rows now."""
    for seed in range(4):
        store.commit([run(pack([seed]))])
    other = Store(store.out)
    assert maintenance.compact(store, 2)
    assert not maintenance.compact(other, 2)
    other.commit([run(pack([4]))])
    late = Store(store.out)
    store.commit([run(pack([5]))])
    while maintenance.compact(store, 2):
        pass
    late.commit([run(pack([5, 6]))])
    assert queries.done(Store(store.out).place).keys() == ids(pack(range(7)))
    assert len(rows(store)) == 7 * 2


@pytest.mark.parametrize("name", list(TABLES))
@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_damage_costs_the_jobs_in_that_file_and_no_others(store, name, damage):
    store.commit([run(pack([0, 1]))])
    store.commit([run(pack([2]))])
    [_, path] = store.snapshot.paths(name)
    if damage == "cut":
        with open(f"{store.out}/{path}", "r+b") as file:
            file.truncate(100)
    else:
        store.place.delete(path)
    again = Store(store.out)
    again.remove_uncommitted()
    assert maintenance.repair(again) == [path]
    assert maintenance.repair(again) == []
    left = ids(pack([0, 1])) if name != "curves" else ids(pack())  # a curve is a picture, not a result
    assert queries.done(again.place).keys() == left
    for each in TABLES:
        assert set(rows(again, each)["job"]) == (left if each != name else ids(pack([0, 1])))


@pytest.mark.parametrize("name", ["results", "jobs", "weights"])
@pytest.mark.parametrize("commits", [1, 2, 3])
def test_a_driver_may_die_at_any_commit_of_a_repair(store, killed_after, name, commits):
    """All rows of a job are there or none: else a job would count as done whose weights are lost."""
    store.commit([run(pack([0, 1]))])
    store.commit([run(pack([2]))])
    store.place.delete(store.snapshot.paths(name)[-1])
    killed_after(commits)
    with contextlib.suppress(Killed):
        maintenance.repair(store)
    again = Store(store.out)
    again.remove_uncommitted()
    maintenance.repair(again)
    for table in TABLES:
        assert set(rows(again, table)["job"]) == ids(pack([0, 1])), table


@pytest.mark.parametrize("commits", [1, 2, 3])
def test_a_driver_may_die_at_any_commit_while_it_sets_rows_aside(store, killed_after, commits):
    """Else the job, which runs again, would have two weights for each parameter."""
    store.commit([run(pack([0]))])
    store.commit([run(pack([1]))])
    old = ids(pack([0]))
    tests = set(rows(store).filter(pl.col("job").is_in(old)).select("job", "test").iter_rows())
    killed_after(commits)
    with contextlib.suppress(Killed):
        maintenance.set_aside(store, tests, old)
    again = Store(store.out)
    again.remove_uncommitted()
    assert len({frozenset(rows(again, table)["job"]) for table in TABLES}) == 1


def test_the_last_row_of_a_job_stays_the_last(store):
    """Rows are taken out of two files, and a file between them stays where it is."""
    for seed in range(3):
        store.commit([run(pack([seed])), run(pack([seed + 3]))])
    maintenance.forget(store, ids(pack([0])) | ids(pack([2])))
    assert queries.column(store.place, "jobs", "seed") == [3, 1, 4, 5]
