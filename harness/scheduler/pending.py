"""What a sweep still lacks in a store, job for job, and why."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from lfombench.tasks import Task

from ..spec import fingerprint
from ..spec.job import Case, Job
from ..spec.labels import label

Record = frozenset[tuple[str, str]]  # what a store has of a job: tests with results, and the code that gave them
Done = Mapping[str, Record]  # by job id
Entry = tuple[Job, tuple[Task, ...]]  # a job, and the further tasks it is tested on


class Todo(NamedTuple):
    """A job that lacks results."""

    job: Job
    tests: tuple[Task, ...]  # further tasks that it is to be tested on
    why: str
    trained: bool = False  # its own results stand: only these tests are left to do, from its weights
    stale: tuple[str, ...] = ()  # tests whose results must go: they come from other code
    waits: bool = False  # for experts that are not trained yet


def pending(
    entries: Iterable[Entry],
    done: Done,
    failed: Mapping[str, str] | None = None,
    explain: Callable[[str, Mapping[str, str]], str] = lambda old, now: "its code changed",
    keep: bool = False,
) -> Iterator[Todo]:
    """Jobs that lack results on their own task or on one of their tests, or have them from code that has changed since.

    failed: those that failed when last tried. explain: (old code, modules now) -> what changed.
    keep: other code is good enough.
    """
    failed = failed or {}
    last: tuple[Case | None, tuple[Task, ...]] = (None, ())
    wanted: dict[str, tuple[str, Task | None]] = {}  # by test: the code behind it now, and the task if a further one
    pairs: Record = frozenset()
    said: dict[tuple[str, str], str] = {}

    def changed(old: str, case: Case, test: Task | None) -> str:
        key = old, fingerprint.code(case, test)
        if key not in said:
            said[key] = f"stale: {explain(old, fingerprint.code_modules(case, test))}"
        return said[key]

    for job, tests in entries:
        if last[0] is not job.case or last[1] != tests:  # once for all seeds
            last = job.case, tests
            wanted = {label(test): (fingerprint.code(job.case, test), test) for test in tests}
            wanted[label(job.task)] = (fingerprint.code(job.case), None)
            pairs = frozenset((test, code) for test, (code, _) in wanted.items())
        there = done.get(job.id)
        if there is None:
            yield Todo(job, tests, "failed before" if job.id in failed else "new")
            continue
        if there >= pairs:
            continue
        found = dict(there)
        lacking = {
            test: found.get(test)
            for test, (code, _) in wanted.items()
            if test not in found or (found[test] != code and not keep)
        }
        own = label(job.task)
        if own in lacking:
            code = lacking[own]
            why = changed(code, job.case, None) if code is not None else "lost"
            yield Todo(job, tests, why, stale=tuple(found))
        elif lacking:
            stale = tuple(test for test, code in lacking.items() if code is not None)
            why = changed(found[stale[0]], job.case, wanted[stale[0]][1]) if stale else "further test"
            left = tuple(task for test, (_, task) in wanted.items() if test in lacking and task is not None)
            yield Todo(job, left, why, trained=True, stale=stale)
