"""Python leaves the same report as the command."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import lfombench
from lfombench.harness import PROTOCOLS, Sweep
from lfombench.solvers import ConjugateGradient, GradientDescent
from lfombench.tasks import LinearRegression
from tests.commands import lfombench as command

SWEEP = Sweep(
    name="little",
    tasks=[LinearRegression(d=2, n=4)],
    solvers=[GradientDescent(step=0.3, depth=1), ConjugateGradient(depth=1)],
    protocols=[replace(PROTOCOLS["rigorous"], test_prompts=64)],
    seeds=range(2),
)


def without_time(path: Path) -> list[str]:
    return [line for line in path.read_text().splitlines() if "Written" not in line]


def test_a_run_from_python_leaves_the_report(tmp_path):
    summary = lfombench.run(SWEEP, str(tmp_path), workers=0, mlflow="off")
    assert summary.exit_code == 0
    page = tmp_path / "report/index.html"
    ours = without_time(page)
    page.unlink()
    assert command("report", "little", "--out", str(tmp_path)).returncode == 0
    assert without_time(page) == ours


def test_a_report_that_fails_is_said_and_the_run_is_done_all_the_same(tmp_path, monkeypatch, caplog):
    from lfombench.analysis import report

    monkeypatch.setattr(report, "render", lambda *_: 1 / 0)
    assert lfombench.run(SWEEP, str(tmp_path), workers=0, mlflow="off").exit_code == 0
    assert "the report is missing: ZeroDivisionError" in caplog.text
