"""Comparisons of solvers in words and numbers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from lfombench.analysis.assemble import boards
from lfombench.analysis.meetings import Solvers, compared, gathered, matrix
from lfombench.analysis.opened import Results
from lfombench.analysis.results import Tables, sweeps
from lfombench.harness.errors import UserError
from tests.commands import lfombench
from tests.stores import by_hand, redrawn, store


@pytest.fixture
def made(tmp_path):
    """Three solvers of depth 2: `a` and `b` are the same at depth 1, `a` better at 2; `c` loses every seed at 2."""
    generator = np.random.default_rng(0)
    rows = []
    for seed, noise in enumerate(generator.normal(size=5)):
        at = {"a": (noise, noise - 1 + 0.01 * seed), "b": (noise + 0.001 * (-1) ** seed, noise), "c": (noise + 3, None)}
        rows += [(name, "classical", 2, k + 1, seed, each[k]) for name, each in at.items() for k in (0, 1)]
    return store(tmp_path, [*rows, ("limit", "bound", 2, 2, 0, -9.0)])


def test_an_answer_in_words(made):
    tables, manifests = Tables(made), sweeps(made)
    frame = gathered(tables, manifests, None)
    solvers = Solvers.of(frame, manifests)
    one = compared(tables, frame, solvers, "a", "b")
    assert one.words == ["a against b: better at 2 (by 0.98); no difference beyond 0.002 at 1"]
    back = compared(tables, frame, solvers, "b", "a")
    assert back.words == ["b against a: worse at 2 (by 0.98); no difference beyond 0.002 at 1"]
    assert compared(tables, frame, solvers, "c", "a").words == ["c against a: worse at 1, 2 (by 3.0)"]
    assert matrix(tables, frame, solvers, solvers.rivals(frame)) == {
        ("a", "b"): (1, 1, 0),
        ("b", "a"): (0, 1, 1),
        ("a", "c"): (2, 0, 0),
        ("c", "a"): (0, 0, 2),
        ("b", "c"): (2, 0, 0),
        ("c", "b"): (0, 0, 2),
    }


def test_the_command(made):
    text = lfombench("compare", "a", "b", "made", "--out", made).stdout
    assert "a against b: better at 2" in text
    assert "-0.980 ±0.020 better by at least 0.95" in " ".join(text.split())
    values = json.loads(lfombench("compare", "a", "b", "--out", made, "--json").stdout)
    assert [one["verdict"] for one in values["meetings"]] == ["equivalent", "better"]
    assert "who beats whom" in lfombench("compare", "made", "--out", made).stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a", "nobody"], "no solver 'nobody' in this store; allowed: a, b, c, limit"),
        (["a", "a"], "got 'a', 'a', of which two stand for a; compare A B [SWEEP] compares two solvers"),
        (["a", "nobody", "made"], "no solver 'nobody' in sweep made; allowed: a, b, c, limit"),
        (["made", "a", "b"], "sweep 'made' must come last, and alone; compare A B"),
        (["limit", "limit"], "two stand for limit"),
        (["a", "made"], "compare A B [SWEEP] compares two solvers"),
        (["a", "b", "--test", "moon"], "nothing is tested on 'moon'; allowed: t"),
    ],
)
def test_bad_words(made, words, message):
    result = lfombench("compare", *words, "--out", made)
    assert result.returncode == 1
    assert message in result.stderr


def test_what_is_bounds_alone_says_how_to_compare_them(tmp_path):
    out = store(tmp_path, [("a", "classical", 1, 1, 0, 0.0), ("b", "bound", 1, 1, 0, 0.0)])
    assert "bounds and controls are compared where they are named" in lfombench("compare", "made", "--out", out).stderr
    assert lfombench("compare", "a", "b", "--out", out).returncode == 0
    with pytest.raises(UserError, match="both names stand for a: compare needs two"):
        Results(out).compare("a", "a")


def test_a_solver_may_be_called_as_a_sweep_is(tmp_path):
    """`nesterov` is both, and so is `momentum` of the shipped ones."""
    names = ("nesterov(step=1)", "b")
    out = store(tmp_path, [(name, "classical", 1, 1, seed, 0.0) for name in names for seed in (0, 1)])
    sweep = json.loads((Path(out) / "sweeps" / "made.json").read_text())
    (Path(out) / "sweeps" / "nesterov.json").write_text(json.dumps(sweep | {"name": "nesterov"}))
    found = lfombench("compare", "nesterov", "b", "made", "--out", out)
    assert found.returncode == 0, found.stderr
    assert "nesterov(step=1) against b" in found.stdout


def extended(tmp_path, rows) -> str:
    """A store whose sweep was extended."""
    out = store(tmp_path, rows)
    path = Path(out) / "sweeps" / "made.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"extended": True}))
    return out


def test_an_extended_sweep_is_compared_by_e_values_and_says_so(tmp_path):
    noise = np.random.default_rng(0).normal(size=(2, 9))
    rows = [("a", "classical", 1, 1, seed, noise[0, seed]) for seed in range(9)]
    rows += [("b", "classical", 1, 1, seed, 3 + noise[1, seed]) for seed in range(6)]
    out = extended(tmp_path, rows)
    text = " ".join(lfombench("compare", "a", "b", "--out", out).stdout.split())
    assert "of an extended sweep one over the e value" in text
    values = json.loads(lfombench("compare", "a", "b", "--out", out, "--json").stdout)
    assert values["extended"]
    [meeting] = values["meetings"]
    D = noise[0, :6] - 3 - noise[1, :6]
    assert meeting["difference"]["mean"] == pytest.approx(D.mean())
    assert np.subtract(*meeting["means"]) == pytest.approx(D.mean())  # of the seeds that both have
    assert meeting["difference"]["half_width"] > stats.t.ppf(0.975, 5) * D.std(ddof=1) / np.sqrt(6)


def test_what_is_only_rounding_is_exact(tmp_path):
    rows = [(name, "classical", 1, 1, seed, -40.0 - seed - ord(name)) for name in "ab" for seed in range(4)]
    rows += [("c", "classical", 1, 1, seed, -1.0 - 0.1 * seed) for seed in range(4)]
    out = store(tmp_path, rows)
    text = " ".join(lfombench("compare", "a", "b", "--out", out).stdout.split())
    assert "exact exact 4 1 +0.000 ±0.000 identical" in text
    assert "exact: only rounding, which counts as -25" in text
    cell = next(row for row in boards(Tables(out), sweeps(out)[0]).boards[0].rows if row.solver == "a").cells[1]
    assert cell.exact
    assert cell.half_width == 0.0


def test_solvers_that_never_met(tmp_path):
    out = store(tmp_path, [("a", "learned", 1, 1, 0, 0.0), ("b", "learned", 2, 2, 0, 0.0)])
    tables, manifests = Tables(out), sweeps(out)
    frame = gathered(tables, manifests, None)
    with pytest.raises(UserError, match="never tested on the same task at the same depth"):
        compared(tables, frame, Solvers.of(frame, manifests), "a", "b")


def test_prompts_that_explain_the_spread_ask_for_more_prompts(tmp_path):
    generator = np.random.default_rng(0)
    rows = []
    for seed in range(12):
        for name in ("a", "b"):
            blocks = generator.chisquare(1, 64)
            rows.append(
                redrawn(name, 1, seed, 0, float(np.log(blocks.mean())), blocks=blocks.tolist(), protocol="rigorous")
            )
            rows[-1]["job"] = f"{name}-{seed}"
    out = by_hand(tmp_path, rows)
    tables, manifests = Tables(out), sweeps(out)
    frame = gathered(tables, manifests, None)
    one = compared(tables, frame, Solvers.of(frame, manifests), "a", "b")
    assert one.meetings[0].difference.verdict == "undecided"
    assert "more test prompts" in one.advice


@pytest.mark.parametrize("protocol", ["published", "published(data_seed=7)", "rigorous(data_seed=7)"])
def test_seeds_that_share_their_prompts_are_told_so(tmp_path, protocol):
    """The same 64 blocks for all seeds: the seeds agree, and the prompts say nothing is certain."""
    generator = np.random.default_rng(1)
    blocks = {name: generator.chisquare(1, 64) for name in ("a", "b")}
    rows = [
        redrawn(name, 1, seed, 7, float(np.log(each.mean())) + 1e-4 * seed, blocks=each.tolist(), protocol=protocol)
        for name, each in blocks.items()
        for seed in range(5)
    ]
    out = by_hand(tmp_path, rows)
    tables, manifests = Tables(out), sweeps(out)
    frame = gathered(tables, manifests, None)
    [meeting] = compared(tables, frame, Solvers.of(frame, manifests), "a", "b").meetings
    assert meeting.shared
    ratio = blocks["a"] / blocks["a"].mean() - blocks["b"] / blocks["b"].mean()
    assert meeting.difference.half_width == pytest.approx(1.998 * ratio.std(ddof=1) / 8, rel=1e-3)
    assert meeting.difference.verdict == "undecided"
    [board] = boards(tables, manifests[0]).boards
    assert board.shared
    assert board.rows[1].cells[1].above.half_width == pytest.approx(meeting.difference.half_width)
