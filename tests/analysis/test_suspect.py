"""What is suspect, of models that are nearly as good as their bound and cannot be better."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lfombench.analysis.board import at_their_depth, boards
from lfombench.analysis.results import Tables, sweeps, table
from lfombench.harness import PROTOCOLS, Sweep, run
from lfombench.solvers import BestLfom, Memformer
from lfombench.tasks import LinearRegression


@pytest.mark.slow
def test_few_prompts_make_no_model_suspect(tmp_path):
    """Blocks of a thousand prompts agree, by many standard errors, that some models beat what none can."""
    deep = 4
    sweep = Sweep(
        name="few",
        tasks=[LinearRegression(d=5, n=20, spectrum=(1, 1, 0.5, 0.25, 1))],
        solvers=[
            BestLfom(preconditioner="identity", depth=deep),
            Memformer(memory="cgd", preconditioner="scalar", depth=deep),
        ],
        protocols=[replace(PROTOCOLS["rigorous"], steps=500, learning_rates=(0.03,), test_prompts=1024)],
        seeds=range(40),
    )
    out = str(tmp_path / "out")
    assert run(sweep, out, workers=0, mlflow="off").exit_code == 0
    rows = at_their_depth(table(out, "results").collect()).filter(step=deep).sort("seed")
    model, bound = (np.array(rows.filter(family=family)["blocks"].to_list()) for family in ("learned", "bound"))
    gap = model - bound
    t = gap.mean(1) / (gap.std(1, ddof=1) / np.sqrt(gap.shape[1]))
    assert (t < -5).any()
    assert gap.mean() > 0
    assert boards(Tables(out), sweeps(out)[0]).suspects == []
