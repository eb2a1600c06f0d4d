"""Fronts: who is beaten by nobody that costs as much or less."""

from __future__ import annotations

from lfombench.analysis.assemble import boards
from lfombench.analysis.costs import priced
from lfombench.analysis.results import Tables, sweeps
from tests.stores import store


def test_a_dearer_method_is_on_the_front_only_if_nothing_cheaper_is_better(tmp_path):
    means = {"cheap": (1, 0.0), "middle": (2, -1.0), "dear but no better": (3, -0.5), "dear and as good": (4, -1.0)}
    noise = [0.0, 0.02, -0.01, 0.03, 0.01]
    own = {name: 0.001 * cost for name, (cost, _) in means.items()}  # of a seed's number: what each adds of its own
    rows = [
        (name, "learned", 1, 1, seed, mean + noise[seed] + own[name] * (seed - 2) * (-1) ** seed)
        for name, (_, mean) in means.items()
        for seed in range(5)
    ]
    rows += [("lost", "learned", 1, 1, seed, None if seed else -9.0) for seed in range(5)]
    out = store(tmp_path, rows, params={name: cost for name, (cost, _) in means.items()} | {"lost": 5})
    tables, [manifest] = Tables(out), sweeps(out)
    [board] = boards(tables, manifest).boards
    found = {one.solver: one for one in priced(tables, board, "params")}
    assert [one.cost for one in found.values()] == [1, 2, 3, 4, 5]
    assert {name for name, one in found.items() if one.front} == {"cheap", "middle", "dear and as good"}
    assert {one.cost for one in priced(tables, board, "prompts")} == {0.0}
