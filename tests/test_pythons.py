"""Other Pythons: the package installs, runs a small sweep, and gives every job the same name and numbers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lfombench.analysis.results import table
from tests.builders import SMALL

ROOT = Path(__file__).resolve().parent.parent
OTHERS = [f"python3.{minor}" for minor in range(11, 20) if minor != sys.version_info.minor]
HERE = [
    name for name in OTHERS if shutil.which(name) and not subprocess.run([name, "-V"], capture_output=True).returncode
]
NAMED = os.environ.get("LFOMBENCH_PYTHONS", "").split()
WHY = (
    f'each installs a gigabyte or more: make pythons PYTHONS="{" ".join(HERE)}"'
    if HERE
    else "this machine has no other Python than the one that runs the tests"
)


@pytest.mark.parametrize("python", NAMED or [pytest.param("", marks=pytest.mark.skip(reason=WHY), id="none")])
@pytest.mark.timeout(3600)
def test_a_small_sweep_is_the_same(python, finished, tmp_path):
    """Installed from this checkout, with all that it needs; with Ray and MLflow."""
    (tmp_path / "small.yaml").write_text(SMALL)
    subprocess.run([python, "-m", "venv", str(tmp_path / "venv")], check=True)
    source = shutil.copytree(
        ROOT, tmp_path / "source", ignore=shutil.ignore_patterns(".*", "build", "*.egg-info", "out")
    )
    commands = tmp_path / "venv" / "bin"
    subprocess.run([commands / "python", "-m", "pip", "install", "--quiet", str(source)], check=True)
    run = [commands / "lfombench", "run", "small.yaml", "--workers", "1"]
    done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "MLflow could not" not in done.stderr
    ours, theirs = (
        table(str(out), "results").collect().sort("job", "test", "step") for out in (finished, tmp_path / "out")
    )
    names = ["job", "task", "solver", "protocol", "test", "step"]
    assert ours.select(names).equals(theirs.select(names))
    apart = (ours["log_mse"] - theirs["log_mse"]).abs().max()
    assert apart < 1e-3, apart
    code = (
        f"from lfombench.harness import load; print(*(job.id for job in load({str(tmp_path / 'small.yaml')!r}).jobs()))"
    )
    told = subprocess.run([commands / "python", "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert sorted(set(told)) == ours["job"].unique().sort().to_list()
    shown = json.loads(
        subprocess.run(
            [commands / "lfombench", "doctor", "--json"], cwd=tmp_path, capture_output=True, text=True
        ).stdout
    )
    assert not [one for one in shown if one["verdict"] == "bad"]
