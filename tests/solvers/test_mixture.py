"""Mixtures: what they must be equal to."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from lfombench.harness import PROTOCOLS
from lfombench.harness.compiler.streams import Streams, keys
from lfombench.harness.spec.protocol import Expert
from lfombench.solvers import (
    ConjugateGradient,
    GdPlusPlus,
    Lfom,
    LinearTransformer,
    Memformer,
    Mixture,
    SoftmaxTransformer,
)
from lfombench.solvers.attention import attention, prediction
from lfombench.tasks import LinearRegression

TASK = LinearRegression(d=4, n=9, spectrum=(1.0, 0.5, 2.0, 1.0))
DEPTH, JOBS, PROMPTS = 3, 2, 7
CPU = torch.device("cpu")


def streams(*word) -> Streams:
    return Streams(keys([(*word, i) for i in range(JOBS)], CPU), torch.float64)


def normal(random: Streams):
    return lambda *shape: 0.3 * random.normal(*shape, 1).squeeze(-1)


def mixture(*models, depth=DEPTH, **options) -> Any:
    experts = tuple(Expert(solver=model, task=TASK, protocol=PROTOCOLS["rigorous"]) for model in models)
    found = Mixture(experts=experts, depth=depth, **options)
    found.check(TASK.d, TASK.n)
    return found


def params(solver: Mixture, gates=None) -> dict:
    found = dict(solver.init(TASK.d, TASK.n, normal(streams("own"))))
    for e, model in enumerate(solver.models):
        mine = model.init(TASK.d, TASK.n, normal(streams("expert", e)))
        found |= {f"{e}.{name}": p for name, p in mine.items()}
    if gates is not None:
        found["gates"] = torch.as_tensor(gates, dtype=torch.float64).expand(found["gates"].shape)
    return found


@pytest.fixture(scope="module")
def drawn():
    return TASK.examples(streams("x"), TASK.frame(streams("frame")), PROMPTS).with_tokens()


def close(ours, theirs) -> None:
    ours, theirs = list(ours), list(theirs)
    assert len(ours) == len(theirs) == DEPTH + 1
    for one, other in zip(ours, theirs, strict=True):
        assert torch.allclose(one, other.expand_as(one), rtol=1e-11, atol=1e-12)


MODELS = [
    LinearTransformer(depth=DEPTH, preconditioner="full"),
    Memformer(depth=DEPTH, memory="cgd", preconditioner="full"),
    Memformer(depth=DEPTH, memory="lfom", preconditioner="scalar", gate="diagonal", free=True),
    Lfom(depth=DEPTH, coefficients="diagonal"),
    GdPlusPlus(depth=DEPTH, heads=2),
]


@pytest.mark.parametrize("combine", ["updates", "outputs"])
@pytest.mark.parametrize("model", MODELS, ids=repr)
def test_one_expert_with_a_gate_of_one_is_the_expert(drawn, model, combine):
    solver = mixture(model, combine=combine)
    given = params(solver)
    assert given["gates"].eq(1).all()
    close(solver.iterates(given, drawn.problem), model.iterates(solver.params_of(given, 0), drawn.problem))


def test_updates_of_linear_transformers_are_those_of_their_sum(drawn):
    model = LinearTransformer(depth=DEPTH, preconditioner="full")
    solver = mixture(model, model, gates="layer")
    gates = [[0.3, 1.2], [-0.5, 0.7], [1.0, 0.0]]
    given = params(solver, gates)
    sums = sum(g[:, None, None] * given[f"{e}.A"] for e, g in enumerate(torch.tensor(gates, dtype=torch.float64).T))
    close(solver.iterates(given, drawn.problem), model.iterates({"A": sums}, drawn.problem))


def test_a_memory_remembers_what_its_expert_would_have_added(drawn):
    """Two Memformers by their equations, one gradient for both."""
    model = Memformer(depth=DEPTH, memory="cgd", preconditioner="full")
    solver = mixture(model, model)
    given = params(solver, [0.6, 0.9])
    problem = drawn.problem
    w, past, expected = problem.start(), [0.0, 0.0], [problem.start()]
    for l in range(DEPTH):
        g = problem.gradient(w)
        for e in range(2):
            A, alpha, gamma = (given[f"{e}.{name}"] for name in ("A", "alpha", "gamma"))
            past[e] = (A[:, l, :, :, None] * g.unsqueeze(1)).sum(2) + (
                gamma[:, l - 1, None, None] * past[e] if l else 0
            )
            w = w - (0.6, 0.9)[e] * alpha[:, l, None, None] * past[e]
        expected.append(w)
    close(solver.iterates(given, problem), expected)


@pytest.mark.parametrize("gates", ["expert", "layer"])
def test_updates_of_gd_plus_plus_are_the_papers(drawn, gates):
    """Z_{l+1} = Z_l + sum_e g_e Attn_e(Z_l) / n, and the same on (G, b)."""
    model = GdPlusPlus(depth=DEPTH)
    solver = mixture(model, model, model, gates=gates)
    weights = torch.tensor([[0.3, 0.8, -0.2], [0.5, 0.1, 0.4], [1.1, 0.2, 0.3]], dtype=torch.float64)
    weights = weights if gates == "layer" else weights[:1].expand(DEPTH, 3)
    given = params(solver, weights if gates == "layer" else weights[0])
    Z = drawn.tokens
    expected = [prediction(Z)]
    for l in range(DEPTH):
        A, B = ([given[f"{e}.{name}"][:, l] for e in range(3)] for name in ("A", "B"))
        Z = Z + sum(weights[l, e] * attention(A[e], Z, B[e]) for e in range(3)) / TASK.n
        expected.append(prediction(Z))
    close(solver.predictions(given, drawn.tokens), expected)
    query = drawn.tokens[:, :-1, -1]
    close([(w * query).sum(-2) for w in solver.iterates(given, drawn.problem)], expected)


@pytest.mark.parametrize("gates", ["expert", "layer"])
def test_outputs_are_sums_of_the_experts(drawn, gates):
    models = MODELS[:2]
    solver = mixture(*models, combine="outputs", gates=gates)
    given = params(solver, [0.25, 1.5])
    one, other = (list(m.iterates(solver.params_of(given, e), drawn.problem)) for e, m in enumerate(models))
    close(solver.iterates(given, drawn.problem), [0.25 * a + 1.5 * b for a, b in zip(one, other, strict=True)])


def test_outputs_on_tokens(drawn):
    models: Any = SoftmaxTransformer(depth=DEPTH), GdPlusPlus(depth=DEPTH, tokens=True)
    solver = mixture(*models, combine="outputs")
    assert solver.on_tokens
    given = params(solver, [2.0, -0.5])
    one, other = (list(m.predictions(solver.params_of(given, e), drawn.tokens)) for e, m in enumerate(models))
    close(
        solver.predictions(given, drawn.tokens),
        [one[0], *(2 * a - b / 2 for a, b in zip(one[1:], other[1:], strict=True))],
    )


@pytest.mark.parametrize(
    ("form", "raw", "expected"),
    [
        ("linear", [0.2, -1.0], [0.2, -1.0]),
        ("softmax", [0.0, 1.0], [1 / (1 + 2.718281828459045), 1 / (1 + 1 / 2.718281828459045)]),
        ("simplex", [3.0, 1.0], [0.75, 0.25]),
        ("simplex", [3.0, -1.0], [1.0, 0.0]),
    ],
)
def test_forms_of_gates(form, raw, expected):
    solver = mixture(*MODELS[:2], form=form)
    given = params(solver, raw) | {"scale": torch.full((JOBS, 1), 2.0, dtype=torch.float64)}
    assert [g[0].item() for g in solver.weights(given, 0)] == pytest.approx([2 * x for x in expected])


@pytest.mark.parametrize(
    ("moves", "trainable"),
    [
        ("nothing", set()),
        ("gates", {"gates"}),
        ("scale", {"scale"}),
        ("memory", {"1.alpha", "1.gamma"}),
        ("everything", {"gates", "0.A", "1.A", "1.alpha", "1.gamma"}),
    ],
)
def test_what_is_trainable(moves, trainable):
    solver = mixture(*MODELS[:2], moves=moves)
    assert {name for name in params(solver) if solver.trainable(name)} == trainable
    assert solver.family == ("learned" if trainable else "control")


@pytest.mark.parametrize(
    ("models", "options", "said"),
    [
        ([], {}, "experts: none"),
        ([LinearTransformer(depth=2, preconditioner="full")], {}, "of depth 2, the mixture of 3"),
        ([ConjugateGradient(depth=DEPTH)], {}, "say combine: outputs"),
        ([SoftmaxTransformer(depth=DEPTH)], {}, "say combine: outputs"),
        ([GdPlusPlus(depth=DEPTH, memory="cgd")], {}, "say combine: outputs"),
        ([SoftmaxTransformer(depth=DEPTH), MODELS[0]], {"combine": "outputs"}, "tokens: true"),
        ([GdPlusPlus(depth=DEPTH), MODELS[0]], {}, "say combine: outputs"),
        (MODELS[:2], {"form": "simplex", "start": "zero"}, "start: zero"),
        (MODELS[:1], {"moves": "memory"}, "memory"),
        (MODELS[:1], {"moves": "scale", "start": "zero"}, "start: uniform"),
    ],
)
def test_what_cannot_be_combined(models, options, said):
    with pytest.raises(ValueError, match=said):
        mixture(*models, **options)


@pytest.mark.parametrize("order", [1, -1])
def test_one_layer_of_gd_plus_plus_beside_another_kind(order):
    models = [GdPlusPlus(depth=1), LinearTransformer(depth=1, preconditioner="full")][::order]
    with pytest.raises(ValueError, match="say combine: outputs"):
        mixture(*models, depth=1)


@pytest.mark.parametrize("gates", ["expert", "layer"])
def test_least_squares_is_numpys(drawn, gates):
    solver: Any = mixture(*MODELS[:3], combine="outputs", gates=gates, by="least_squares")
    given = params(solver)
    found = solver.fit(solver.moments(given, drawn.problem, drawn.residual))["gates"]
    for j in range(JOBS):
        for l in range(DEPTH):
            columns = [
                list(m.iterates(solver.params_of(given, e), drawn.problem))[l + 1] for e, m in enumerate(solver.models)
            ]
            query, target = drawn.judge[j, :, 0], (drawn.judge[j, :, 0] * drawn.w_star[j]).sum(0)
            A = torch.stack([(query * w[j]).sum(0) for w in columns], -1)
            expected = np.linalg.lstsq(A.numpy(), target.numpy(), rcond=None)[0]
            if gates == "layer" or l == DEPTH - 1:
                assert np.allclose(found[j, l] if gates == "layer" else found[j], expected, rtol=1e-8)
