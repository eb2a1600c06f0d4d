"""The jobs of a sweep that lack results in a store, and why."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from lfombench.tasks import Task

from ..spec import fingerprint
from ..spec.job import Case, Job
from ..spec.labels import label
from ..store.outcome import Done, Record

Entry = tuple[Job, tuple[Task, ...]]  # a job, and the further tasks it is tested on
Parts = Mapping[str, str]  # of a fingerprint: a digest by part of the code


@dataclass(frozen=True, slots=True)
class Pending:
    """A job that lacks results."""

    job: Job
    tests: tuple[Task, ...]  # further tasks that it is to be tested on
    why: str
    trained: bool = False  # its own results stand: only these tests are left to do, from its weights
    stale_tests: tuple[str, ...] = ()  # tests whose results must go: they come from other code
    waits: bool = False  # for experts that are not trained yet


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What a job should have of one test: the code behind it now, and the task, if it is a further one."""

    code: str
    task: Task | None


def pending(
    entries: Iterable[Entry],
    done: Done,
    failed: Mapping[str, str] | None = None,
    parts: Callable[[str], Parts] = lambda code: {},
    keep_stale: bool = False,
) -> Iterator[Pending]:
    """Jobs that lack results on their own task or on one of their tests, or have them from code that has changed since.

    failed: those that failed when last tried. parts: from a fingerprint in the store to what it was made of.
    keep_stale: results of other code are good enough.
    """
    failed = failed or {}
    last: tuple[Case | None, tuple[Task, ...]] = (None, ())
    wanted: dict[str, _Wanted] = {}  # by test
    complete: Record = frozenset()
    explained: dict[tuple[str, str], str] = {}

    def stale(old: str, case: Case, test: Task | None) -> str:
        key = old, fingerprint.code(case, test)
        if key not in explained:
            explained[key] = f"stale: {what_changed(parts(old), fingerprint.code_parts(case, test))}"
        return explained[key]

    for job, tests in entries:
        if last[0] is not job.case or last[1] != tests:  # once for all seeds
            last = job.case, tests
            wanted = {label(test): _Wanted(fingerprint.code(job.case, test), test) for test in tests}
            wanted[label(job.task)] = _Wanted(fingerprint.code(job.case), None)
            complete = frozenset((test, one.code) for test, one in wanted.items())
        record = done.get(job.id)
        if record is None:
            yield Pending(job, tests, "failed before" if job.id in failed else "new")
            continue
        if record >= complete:
            continue
        codes = dict(record)
        lacking = {
            test: codes.get(test)
            for test, one in wanted.items()
            if test not in codes or (codes[test] != one.code and not keep_stale)
        }
        own = label(job.task)
        if own in lacking:
            code = lacking[own]
            why = stale(code, job.case, None) if code is not None else "lost"
            yield Pending(job, tests, why, stale_tests=tuple(codes))
        elif lacking:
            old = tuple(test for test, code in lacking.items() if code is not None)
            why = stale(codes[old[0]], job.case, wanted[old[0]].task) if old else "further test"
            left = tuple(one.task for test, one in wanted.items() if test in lacking and one.task is not None)
            yield Pending(job, left, why, trained=True, stale_tests=old)


def what_changed(before: Parts, now: Parts) -> str:
    """In words, what differs between the code behind two fingerprints. before: empty where it is not known."""
    return f"{', '.join(fingerprint.changed(before, now))} changed" if before else "its code changed"
