"""What `make gpu` runs, on a machine without a GPU."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "gpu.py"


def gpu(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_all_but_the_launch_runs_without_a_device(tmp_path):
    done = gpu("--dry", "--only", "machine", "tests", "steps", "--page", str(tmp_path / "page.md"))
    assert done.returncode == 0, done.stdout + done.stderr
    page = (tmp_path / "page.md").read_text()
    assert "the host, played" in page
    assert "| Memformer, d = 5 |" in page
    assert "failed" not in page


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_device_it_says_so_and_leaves_the_figures_alone(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("figures")
    done = gpu("--page", str(page))
    assert done.returncode == 1
    assert "PyTorch finds no GPU" in done.stderr
    assert page.read_text() == "figures"
