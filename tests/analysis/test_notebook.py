"""The notebook of the docs, run as a reader runs it."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[2] / "docs" / "claim.ipynb"


def claims(notebook) -> list[str]:
    """The sentences of its last output, without the numbers that another processor may round otherwise."""
    [output] = [cell for cell in notebook.cells if cell.cell_type == "code"][-1].outputs
    return [re.sub(r"at least [\d.]+", "at least", line.partition(" (")[0]) for line in output.text.splitlines()]


@pytest.mark.slow
def test_the_notebook_ends_in_the_claim_that_it_shows(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", os.path.dirname(sys.executable), prepend=os.pathsep)
    shown = nbformat.read(NOTEBOOK, 4)
    made = nbformat.read(NOTEBOOK, 4)
    NotebookClient(made, timeout=180, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert claims(made) == claims(shown)
    assert [line.partition(":")[0] for line in claims(made)] == [
        "At noise 0 and 4 layers of one step size each",
        "At noise 3 and 4 layers of one step size each",
    ]
    assert "a model with memory is equivalent within" in claims(made)[0]
    assert "a model with memory is better by at least" in claims(made)[1]
