"""What a sweep lacks in a store, and why."""

from __future__ import annotations

from lfombench.harness.scheduler.pending import pending
from lfombench.harness.spec.fingerprint import code
from lfombench.harness.spec.labels import label
from lfombench.tasks import LinearRegression
from tests.builders import SWEEP


def test_pending_are_the_jobs_that_lack_a_test():
    jobs = list(SWEEP.jobs())
    own, shifted = jobs[0].task, LinearRegression(d=2, n=9)
    done = {job.id: frozenset({(label(own), code(job.case))}) for job in jobs[:4]}
    done[jobs[0].id] |= {(label(shifted), code(jobs[0].case, shifted))}
    assert [one.job for one in pending([(job, ()) for job in jobs], done)] == jobs[4:]
    left = list(pending([(job, (shifted,)) for job in jobs], done, failed={jobs[4].id: "it broke"}))
    assert [one.job for one in left] == jobs[1:]
    assert [(one.why, one.trained) for one in left[:5]] == [
        *[("further test", True)] * 3,
        ("failed before", False),
        ("new", False),
    ]


def test_what_other_code_gave_is_pending_again_unless_it_may_be_kept():
    job = next(SWEEP.jobs())
    own, shifted = label(job.task), LinearRegression(d=2, n=9)
    entries = [(job, (shifted,))]
    new = (code(job.case), code(job.case, shifted))
    for old, (trained, stale) in {
        ("x", new[1]): (False, {own, label(shifted)}),
        (new[0], "x"): (True, {label(shifted)}),
    }.items():
        done = {job.id: frozenset(zip((own, label(shifted)), old, strict=True))}
        [one] = pending(entries, done, parts=lambda old: {"mine.py:x": old})
        why = one.why if one.why.startswith("stale: ") and "mine.py:x" in one.why else ""
        assert (one.why, one.trained, set(one.stale_tests)) == (why, trained, stale)
        assert not list(pending(entries, done, keep_stale=True))
    assert not list(pending(entries, {job.id: frozenset(zip((own, label(shifted)), new, strict=True))}))
