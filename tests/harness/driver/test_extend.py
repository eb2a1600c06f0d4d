"""Seeds that go where they decide something."""

from __future__ import annotations

from dataclasses import replace

import pytest

import lfombench as lfombench_package
from lfombench.analysis.assemble import boards
from lfombench.analysis.results import Tables, sweeps
from lfombench.harness import PROTOCOLS, Sweep, run
from lfombench.harness.driver.extend import Goal, extend
from lfombench.harness.errors import UserError
from lfombench.harness.spec.labels import label
from lfombench.harness.spec.seeds import first_seeds
from lfombench.solvers import GradientDescent
from lfombench.tasks import LinearRegression
from tests.commands import lfombench

QUICK = replace(PROTOCOLS["rigorous"], test_prompts=256)
FAST, FASTER = GradientDescent(step=0.3, depth=1), GradientDescent(step=0.31, depth=1)
SLOW = GradientDescent(step=0.01, depth=1)
SAME = GradientDescent(step=0.3, preconditioner="covariance", depth=1)  # Sigma is I here


def sweep(*solvers, **more):
    return Sweep(name="few", tasks=[LinearRegression(d=3, n=6)], solvers=solvers, protocols=[QUICK], **more)


def extended(out, *solvers, goal=None, **more):
    return extend(sweep(*solvers, **more), str(out), goal or Goal(), workers=0, mlflow="off")


def seeds_of(out):
    [manifest] = sweeps(str(out))
    return {case.solver: len(case.seeds) for case in manifest.asked}


def test_it_ends_once_all_are_separated(tmp_path):
    standing, summary = extended(tmp_path, FAST, FASTER, SLOW, seeds=range(3))
    assert standing.separated.all()
    assert summary.exit_code == 0
    seeds = seeds_of(tmp_path)
    assert seeds["gradient_descent(step=0.01)"] <= seeds["gradient_descent(step=0.3)"] < 64
    [board] = boards(Tables(str(tmp_path)), *sweeps(str(tmp_path))).boards
    assert board.extended
    assert [row.cells[1].ranks for row in board.rows] == [(1, 1), (2, 2), (3, 3)]
    [meeting] = lfombench_package.open(str(tmp_path)).compare(label(FAST), label(FASTER)).meetings
    above = {row.solver: row.cells[1].above for row in board.rows}[label(FAST)]
    assert meeting.difference.half_width == pytest.approx(above.half_width)  # a confidence sequence's, as the board's


def test_a_sweep_of_one_seed_gets_enough_of_them_to_judge(tmp_path):
    standing, _ = extended(tmp_path, FAST, SLOW)
    assert standing.separated.all()


def test_equals_end_as_equivalent(tmp_path):
    standing, _ = extended(tmp_path, FAST, SAME, SLOW, seeds=range(3))
    assert standing.equivalent.sum() == 1
    assert not standing.undecided.any()


def test_a_spent_budget_says_what_is_left_and_the_next_goes_on_from_there(tmp_path):
    solvers = (FAST, FASTER, SLOW)
    standing, _ = extended(tmp_path / "a", *solvers, seeds=range(2), goal=Goal(max_seeds=3))
    assert standing.undecided.any()
    assert max(seeds_of(tmp_path / "a").values()) == 3
    names = standing.named(standing.undecided)
    assert "gradient_descent(step=0.3) and gradient_descent(step=0.31) at 1" in names
    resumed, _ = extended(tmp_path / "a", *solvers, seeds=range(2))
    at_once, _ = extended(tmp_path / "b", *solvers, seeds=range(2))
    assert resumed.separated.all()
    assert at_once.separated.all()


def test_no_time_left_is_a_spent_budget_too(tmp_path):
    standing, _ = extended(tmp_path, FAST, FASTER, seeds=range(3), goal=Goal(max_minutes=1e-3))
    assert max(seeds_of(tmp_path).values()) == 3
    assert standing.undecided.any()


def test_only_the_depths_that_are_asked_for(tmp_path):
    deep = [replace(one, depth=2) for one in (FAST, FASTER)]
    standing, _ = extended(tmp_path, *deep, seeds=range(3), goal=Goal(depths=(2,)))
    assert len(standing.pairs.seeds) == 1


def test_the_sweep_itself_is_as_before_when_it_is_run_again(tmp_path):
    extended(tmp_path, FAST, FASTER, seeds=range(3))
    summary = run(sweep(FAST, FASTER, seeds=range(3)), str(tmp_path), workers=0, mlflow="off")
    assert (summary.ran, summary.jobs) == (0, 6)
    [board] = boards(Tables(str(tmp_path)), *sweeps(str(tmp_path))).boards
    assert not board.extended
    assert {cell.asked for row in board.rows for cell in row.cells.values()} == {3}


@pytest.mark.parametrize(
    ("made", "goal", "message"),
    [
        (
            replace(sweep(FAST, SLOW), protocols=[PROTOCOLS["published"]]),
            Goal(),
            "all seeds of few have the same prompts",
        ),
        (sweep(FAST), Goal(), "no two methods of few meet"),
        (sweep(FAST, SLOW), Goal(depths=(9,)), "no two methods of few meet at these depths"),
        (sweep(FAST, SLOW), Goal(test="moon"), "few is not tested on 'moon'"),
        (Sweep(name="all", parts=[sweep(FAST, SLOW)]), Goal(), "all consists of sweeps: extend one of few"),
    ],
)
def test_what_more_seeds_cannot_decide_is_refused(tmp_path, made, goal, message):
    with pytest.raises(UserError, match=message):
        extend(made, str(tmp_path), goal, workers=0, mlflow="off")


def test_new_seeds_follow_the_known_ones():
    assert first_seeds([7, 3], 4) == [3, 7, 8, 9]
    assert first_seeds([], 2) == [0, 1]
    assert first_seeds([0, 1, 2], 2) == [0, 1, 2]


def test_the_command(tmp_path):
    (tmp_path / "few.yaml").write_text(
        """
name: few
protocol: {use: rigorous, test_prompts: 256}
seeds: 3
tasks: [{linear_regression: {d: 3, n: 6}}]
solvers:
  - gradient_descent: {step: {each: [0.3, 0.31]}, depth: 1}
  - conjugate_gradient: {depth: 1}
"""
    )
    out, file = str(tmp_path / "out"), str(tmp_path / "few.yaml")
    done = lfombench("extend", file, "--out", out, "--workers", "0", "--mlflow", "off", "--until-separated")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 pairs: 3 separated, 0 equivalent within 0.01, 0 undecided" in done.stdout
    assert "seeds expected to decide" in done.stdout
    assert "confidence sequences" in done.stdout
    spent = lfombench("extend", file, "--out", out + "2", "--workers", "0", "--mlflow", "off", "--max-seeds", "3")
    assert spent.returncode == 3
    assert "undecided: gradient_descent(step=0.3) and gradient_descent(step=0.31) at 1" in spent.stdout
    assert "budget spent" in spent.stdout
