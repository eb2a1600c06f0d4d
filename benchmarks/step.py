"""How much faster a pack trains than the notebook structure: the same model, prompts, steps and core.

Figure 1's largest model: a 4-layer Memformer with full preconditioners, d = 5, n = 20, 1000 prompts in one fixed
batch, Adam. Rounds are interleaved; medians and the ratio pair by pair.

    python benchmarks/step.py [--rounds 7] [--json]
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))
from naive import NaiveMemformer, train

from lfombench.harness import PROTOCOLS, Job, engine
from lfombench.harness.pack import Pack, Source
from lfombench.solvers import Memformer
from lfombench.tasks import LinearRegression

CPU = torch.device("cpu")
DEPTH, JOBS = 4, 16
TASK = LinearRegression(d=5, n=20, spectrum=(1.0, 1.0, 0.5, 0.25, 1.0))
SOLVER = Memformer(depth=DEPTH, memory="cgd", preconditioner="full")


def pack(jobs: int, steps: int) -> Pack:
    protocol = replace(PROTOCOLS["published"], steps=steps)
    return Pack(tuple(Job(task=TASK, solver=SOLVER, protocol=protocol, seed=seed) for seed in range(jobs)))


def naive(given: Pack) -> tuple[NaiveMemformer, torch.Tensor, torch.Tensor]:
    """The notebook's model from the same start, on the same prompts."""
    source = Source([TASK], given.jobs[:1], "train", torch.float32, CPU)
    examples = source.task.examples(source.random, source.frame, given.first.protocol.batch)
    model = NaiveMemformer(DEPTH, TASK.d)
    start = engine.initial(Pack(given.jobs[:1]), CPU)
    with torch.no_grad():
        model.A.copy_(start["A"][0, 0])
        model.alpha.copy_(start["alpha"][0, 0])
        model.gamma[1:].copy_(start["gamma"][0, 0])
    Z = examples.tokens()[0].permute(2, 1, 0).contiguous()
    return model, Z, (examples.query * examples.w_star).sum(1)[0]


def check() -> float:
    """Largest difference of the two training losses over 20 steps: they are the same program."""
    given = pack(1, 20)
    ours = engine.train(given, CPU).losses[:, 0].tolist()
    theirs = train(*naive(given), steps=20, rate=0.01)
    return max(abs(a - b) / b for a, b in zip(ours, theirs, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    difference = check()
    assert difference < 1e-3, f"the two do not train the same model: {difference}"
    model, Z, target = naive(pack(1, 1))
    pairs = []
    for _ in range(options.rounds + 1):
        begin = time.perf_counter()
        train(model, Z, target, steps=20, rate=0.01)
        theirs = (time.perf_counter() - begin) / 20
        begin = time.perf_counter()
        engine.train(pack(JOBS, 100), CPU)
        ours = (time.perf_counter() - begin) / 100 / JOBS
        pairs.append((theirs, ours))
    pairs = pairs[1:]  # the first round warms up
    found = {
        "machine": f"{platform.machine()}, one core, torch {torch.__version__}",
        "jobs": JOBS,
        "rounds": options.rounds,
        "naive_ms": round(1000 * statistics.median(a for a, _ in pairs), 2),
        "packed_ms": round(1000 * statistics.median(b for _, b in pairs), 3),
        "ratio": round(statistics.median(a / b for a, b in pairs), 1),
        "ratio_min": round(min(a / b for a, b in pairs), 1),
        "ratio_max": round(max(a / b for a, b in pairs), 1),
        "largest_relative_difference_of_losses": difference,
    }
    if options.json:
        print(json.dumps(found, indent=1))
        return
    print(f"{found['machine']}: milliseconds for a training step of one job, median of {options.rounds} rounds")
    print(f"  notebook structure, token by token     {found['naive_ms']:8.2f}")
    print(f"  packed, {JOBS} jobs at once                {found['packed_ms']:8.3f}")
    print(f"  ratio {found['ratio']} (from {found['ratio_min']} to {found['ratio_max']})")


if __name__ == "__main__":
    main()
