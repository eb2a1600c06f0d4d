"""The paper's values belong to jobs that ship."""

from __future__ import annotations

import pytest

from lfombench.analysis.published import FIGURE_1, PUBLISHED, drawn, published, undrawn
from lfombench.harness import load


def test_every_published_value_is_of_a_job_that_ships():
    """Task, solver and protocol of each row, as `paper` runs them."""
    paper = load("paper")
    names = [job.case.names for job in paper.jobs()]
    known = {(one["task"], one["solver"], undrawn(one["protocol"])) for one in names}
    named = {name: labels for part in paper.parts for one in part.parts for name, labels in one.named.items()}
    for row in PUBLISHED:
        others = [one for one in (row.rigorous, *(row.controls or ())) if one]
        for solver, protocol in [(row.solver, row.protocol), *((one.solver, one.protocol) for one in others)]:
            for meant in named.get(solver, [solver]):
                assert (row.task, meant, protocol) in known, row.name
        if row.solver not in named:
            assert published(row.task, row.solver, row.protocol) == dict(enumerate(row.values, start=1))
        for quirk in row.quirks:
            assert (row.task, quirk.solver, quirk.protocol) in known, row.name
    assert published(FIGURE_1, "best_lfom(preconditioner=identity)", "published") == {}


@pytest.mark.parametrize(
    ("label", "without", "seed"),
    [
        ("published", "published", None),
        ("published(data_seed=3)", "published", 3),
        ("published(batch=10, data_seed=-12, test_on=training)", "published(batch=10, test_on=training)", -12),
        ("published(data_seed=3, dtype=float64)", "published(dtype=float64)", 3),
        ("published(batch=10, data_seed=3)", "published(batch=10)", 3),
    ],
)
def test_a_protocol_without_its_data_seed(label, without, seed):
    assert undrawn(label) == without
    assert drawn(label) == seed
