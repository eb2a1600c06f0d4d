"""Adapting the paper's mixture, three GD++ experts of 4 layers whose gates move: packs against the notebook structure.

A step on 1000 prompts, and 1,000 mixtures for 500 steps on 64 prompts each, which is the whole of their adaptation.
"""

from __future__ import annotations

import time
from dataclasses import replace

import torch
from naive import attention, train
from timing import Row, interleaved, timed
from torch import Tensor, nn

from lfombench.harness import PROTOCOLS, Job
from lfombench.harness.compiler.select import program
from lfombench.harness.compiler.streams import Streams
from lfombench.harness.spec.protocol import Expert
from lfombench.harness.training.pack import Pack, Weights, WorkOrder, drawing
from lfombench.harness.training.training_step import training
from lfombench.solvers import GdPlusPlus, Mixture
from lfombench.tasks import LinearRegression

CPU = torch.device("cpu")
DEPTH, EXPERTS = 4, 3
TASK = LinearRegression(d=5, n=20, spectrum=(1.0, 1.0, 0.5, 0.25, 1.0))
MODEL = GdPlusPlus(depth=DEPTH)
MIXTURE = Mixture(
    depth=DEPTH,
    start="zero",
    experts=tuple(
        Expert(solver=MODEL, task=replace(TASK, variance=v, strength=v), protocol=PROTOCOLS["published"])
        for v in (1.0, 2.0, 3.0)
    ),
)


class NaiveMixture(nn.Module):
    """Z + sum_e g_e Attn_e(Z) / n, token by token; the experts' matrices do not move."""

    def __init__(self, A: Tensor, B: Tensor) -> None:
        super().__init__()
        self.gates = nn.Parameter(torch.zeros(len(A)))
        self.A, self.B = A, B  # experts depth d d

    def forward(self, Z: Tensor) -> Tensor:
        """The prediction at the query, one per prompt."""
        n, d = Z.shape[1] - 1, Z.shape[2] - 1
        for l in range(self.A.shape[1]):
            moved = torch.zeros_like(Z)
            for e, gate in enumerate(self.gates):
                P, Q = torch.zeros(d + 1, d + 1), torch.zeros(d + 1, d + 1)
                P[:d, :d] = self.B[e, l]
                P[d, d] = 1
                Q[:d, :d] = -self.A[e, l].T
                moved = moved + gate * attention(P, Q, Z) / n
            Z = Z + moved
        return -Z[:, n, d]


def pack(jobs: int, batch: int) -> WorkOrder:
    """Mixtures of experts that are near a step of a third each."""
    protocol = replace(PROTOCOLS["adapted"], batch=batch)
    mixtures = tuple(Job.of(task=TASK, solver=MIXTURE, protocol=protocol, seed=seed) for seed in range(jobs))
    random = torch.Generator().manual_seed(0)

    def expert() -> Weights:
        A, B = (0.02 * torch.randn(DEPTH, 5, 5, generator=random) for _ in range(2))
        return Weights({"A": A + torch.eye(5) / 3, "B": B}, {})

    experts = tuple(tuple(expert() for _ in range(EXPERTS)) for _ in mixtures)
    return WorkOrder(Pack(mixtures), experts=experts)


def naive(given: WorkOrder) -> tuple[NaiveMixture, Tensor, Tensor]:
    """The first job's, on the same prompts."""
    source = drawing(Pack(given.jobs[:1]), [TASK], "train", torch.float32, CPU)
    examples = TASK.examples(Streams(source.key, torch.float32), source.job["frame"], given.first.protocol.batch)
    A, B = (torch.stack([e.params[name] for e in given.experts[0]]) for name in ("A", "B"))
    assert examples.w_star is not None
    Z = examples.tokens()[0].permute(2, 1, 0).contiguous()
    return NaiveMixture(A, B), Z, (examples.query * examples.w_star).sum(1)[0]


def advance(given: WorkOrder):
    step, job, state, key = training(given, CPU)
    return program(step, job, state, key, 10**6)


def rows(rounds: int) -> list[Row]:
    torch.set_num_threads(1)
    alone = pack(1, 1000)
    found = advance(alone)(0, 20)["loss"].flatten().tolist()
    losses = train(*naive(alone), steps=20, rate=0.01)
    difference = max(abs(a - b) / b for a, b in zip(found, losses, strict=True))
    assert difference < 2e-3, f"the two do not adapt the same mixture: {difference}"
    given = pack(16, 1000)
    ours, (model, Z, target) = advance(given), naive(given)
    ours(0, 1)
    step = interleaved(
        "adapting a mixture of three GD++ experts, a step on 1000 prompts",
        100,
        ours=(lambda: ours(1, 20), 20 * 16),
        theirs=(lambda: train(model, Z, target, 10, 0.01), 10),
        rounds=rounds,
        note=f"16 mixtures in the pack; losses agree to {difference:.0e}",
    )
    begin = time.perf_counter()
    many = advance(pack(1000, 64))
    many(0, 1)
    ready = time.perf_counter() - begin
    seconds = timed(lambda: many(0, 500))
    model, Z, target = naive(pack(1, 64))
    each = timed(lambda: train(model, Z, target, 20, 0.01)) / 20
    theirs = 1000 * 500 * each
    whole = Row(
        "1,000 mixtures adapted for 500 steps on 64 prompts, one program",
        "s",
        theirs,
        seconds,
        theirs / seconds,
        None,
        None,
        None,
        f"one core; ready in {ready:.1f} s; the notebook's from 20 steps of one, scaled",
    )
    return [step, whole]
