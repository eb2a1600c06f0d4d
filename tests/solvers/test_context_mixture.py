"""Gates from a prompt's own context, against each example left out by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from lfombench.harness import PROTOCOLS
from lfombench.harness.compiler.streams import Streams, keys
from lfombench.harness.spec.protocol import Expert
from lfombench.solvers import ConjugateGradient, ContextMixture, Estimated, GdPlusPlus, LinearTransformer, Memformer
from lfombench.tasks import LinearRegression

N, D, DEPTH, PROMPTS = 8, 3, 2, 5
TASK = LinearRegression(d=D, n=N, spectrum=(1.0, 0.5, 2.0), noise=0.3)
CPU = torch.device("cpu")


def streams(*word) -> Streams:
    return Streams(keys([(*word, i) for i in range(2)], CPU), torch.float64)


def mixed(*models) -> ContextMixture:
    experts = tuple(Expert(solver=model, task=TASK, protocol=PROTOCOLS["rigorous"]) for model in models)
    return ContextMixture(depth=DEPTH, experts=experts)


@pytest.fixture(scope="module")
def examples():
    return TASK.examples(streams("x"), TASK.frame(streams("frame")), PROMPTS)


def params(solver: ContextMixture) -> dict:
    found = {}
    for e, model in enumerate(solver.models):
        random = streams("expert", e)
        mine = model.init(D, N, lambda *shape, random=random: 0.4 * random.normal(*shape, 1).squeeze(-1))
        found |= {f"{e}.{name}": p for name, p in mine.items()}
    return found


def test_gates_are_those_of_least_squares_on_what_is_left_out(examples):
    models = (
        LinearTransformer(depth=DEPTH, preconditioner="full"),
        Memformer(depth=DEPTH, memory="cgd", preconditioner="full"),
        GdPlusPlus(depth=DEPTH),
    )
    solver = mixed(*models)
    given = params(solver)
    found = torch.stack(list(solver.predictions(given, examples.tokens())))
    left_out = examples.leave_one_out().problem
    X, y = examples.X, examples.y
    for j in range(2):
        for p in range(PROMPTS):
            for l in range(1, DEPTH + 1):
                A = np.zeros((N, 3))
                now = np.zeros(3)
                for e, model in enumerate(models):
                    w = list(model.iterates(solver.params_of(given, e), left_out))[l][:, 0, j, :, p]
                    A[:, e] = (w * X[j, :, :, p].T).sum(-1)
                    v = list(model.iterates(solver.params_of(given, e), examples.problem()))[l][j, :, p]
                    now[e] = v @ examples.query[j, :, p]
                gates = np.linalg.lstsq(A, y[j, :, p].numpy(), rcond=None)[0]
                assert found[l, j, p].item() == pytest.approx(gates @ now, rel=1e-3, abs=1e-4)  # the ridge is 1e-6


def test_leaving_one_out_is_withholding_it(examples):
    """The last of n, against the prompts without it."""
    left, without = examples.leave_one_out(tokens=True), examples.withhold(1)
    assert left.problem.G.shape == (N, 1, 2, D, D, PROMPTS)
    assert torch.allclose(left.problem.G[-1, 0], without.problem().G)
    assert torch.allclose(left.problem.b[-1, 0], without.problem().b)
    assert torch.equal(left.tokens[-1, 0], replace(without, query=examples.X[:, :, -1]).tokens())
    assert torch.allclose(left.target()[-1, 0], examples.y[:, -1])
    w = torch.ones(2, D, PROMPTS, dtype=torch.float64)
    error = ((w * examples.X[:, :, 0]).sum(1) - examples.y[:, 0]).square()
    assert torch.allclose(left.squared_error(w)[0, 0], error)


def test_two_that_are_the_same_are_as_good_as_one(examples):
    model = LinearTransformer(depth=DEPTH, preconditioner="full")
    one, two = mixed(model), mixed(model, model)
    given = params(one)
    twice = given | {name.replace("0.", "1."): p for name, p in given.items()}
    alone, both = (torch.stack(list(s.predictions(p, examples.tokens()))) for s, p in ((one, given), (two, twice)))
    assert torch.allclose(alone, both, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (ConjugateGradient(depth=DEPTH, preconditioner="covariance"), "needs more than gradients"),
        (Estimated(depth=DEPTH, method=ConjugateGradient(depth=DEPTH, preconditioner="covariance")), "needs more"),
        (LinearTransformer(depth=3, preconditioner="full"), "one is of depth 3, the mixture of 2"),
        (GdPlusPlus(depth=DEPTH, tokens=True), "needs more than gradients"),
    ],
)
def test_experts_that_a_context_cannot_judge(model, said):
    with pytest.raises(ValueError, match=said):
        mixed(model).check(D, N)
