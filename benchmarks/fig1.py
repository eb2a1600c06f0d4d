"""The fig1 sweep with 50 seeds, end to end on this machine: packs against Ray Tune, and against vmap ensembles.

Tune runs a random share of the jobs, one trial for each, as the notebooks would (naive.py: same protocol, prompts
through X, every learning rate), with its default logging, on all cores; its time is scaled by the inverse of the share.
The ensembles are of 16 token models of one structure and protocol, on all cores, until all seeds and learning rates are
trained; a few steps of each are timed and scaled to all, with nothing added for start, tests or logging.
Ours is the whole command, in a process of its own with an empty compile cache, then once more with a full one.

    python benchmarks/fig1.py [--share 0.02] [--seeds 50]
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
from naive import NaiveMemformer, ensemble, prompts, train
from timing import Row, timed

from lfombench.harness import Job, load
from lfombench.harness.spec.labels import name_of

SWEEP = Path(__file__).parent / "fig1.yaml"
ENSEMBLE = 16  # models: faster by half than all seeds and learning rates at once, which leave the cache


def notebook(config: dict[str, object]) -> None:
    """A job as a notebook cell does it: train every learning rate, test, report."""
    from ray import tune

    torch.set_num_threads(1)
    torch.manual_seed(int(config["seed"]))  # type: ignore[call-overload]
    depth, rigorous = int(config["depth"]), config["protocol"] == "rigorous"  # type: ignore[call-overload]
    U, _ = torch.linalg.qr(torch.randn(5, 5))
    root = U * torch.tensor([1.0, 1.0, 0.5, 0.25, 1.0])
    best = float("inf")
    for rate in (0.01, 0.03, 0.1) if rigorous else (0.01,):
        if config["solver"] in ("linear_transformer", "memformer"):
            options = {"memory": config["solver"] == "memformer", "scalar": config["preconditioner"] == "scalar"}
            model = NaiveMemformer(depth, 5, **options)
            Z, target = prompts(256 if rigorous else 1000, 20, root)
            train(model, Z, target, 5000 if rigorous else 1000, rate, root if rigorous else None)
            with torch.no_grad():
                errors = []
                for _ in range(50 if rigorous else 1):
                    Z, target = prompts(2048 if rigorous else 1000, 20, root)
                    errors.append((model(Z) - target).square())
            best = min(best, torch.cat(errors).mean().item())
        else:  # a classical method or a bound: conjugate gradients, a prompt at a time in a batch
            Z, target = prompts(102_400 if rigorous else 1000, 20, root)
            X, y = Z[:, :20, :5], Z[:, :20, 5]
            G, b = torch.einsum("bni,bnj->bij", X, X) / 20, torch.einsum("bni,bn->bi", X, y) / 20
            w = torch.zeros_like(b)
            r = p = b
            for _ in range(depth):
                Gp = torch.einsum("bij,bj->bi", G, p)
                a = (r * r).sum(1, keepdim=True) / (p * Gp).sum(1, keepdim=True)
                w, old, r = w + a * p, r, r - a * Gp
                p = r + (r * r).sum(1, keepdim=True) / (old * old).sum(1, keepdim=True) * p
            best = ((w * Z[:, 20, :5]).sum(1) - target).square().mean().item()
    tune.report({"mse": best})


def ours(sweep: Path, folder: Path, cache: Path) -> float:
    """Seconds of the whole command."""
    command = [sys.executable, "-m", "lfombench", "run", str(sweep), "--out", str(folder)]
    begin = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=os.environ | {"LFOMBENCH_CACHE": str(cache)})
    return time.perf_counter() - begin


def tuned(jobs: list[dict[str, object]], folder: Path) -> float:
    """Seconds of Ray Tune over these jobs, its start included."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    import ray
    from ray import tune

    begin = time.perf_counter()
    runtime = {"env_vars": {"PYTHONPATH": str(Path(__file__).parent)}}
    ray.init("local", include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR, runtime_env=runtime)
    config = {"job": tune.grid_search(jobs)}
    options = tune.RunConfig(storage_path=str(folder), name="notebook", verbose=0)
    found = tune.Tuner(_one, param_space=config, run_config=options).fit()
    seconds = time.perf_counter() - begin
    assert not found.errors, found.errors
    ray.shutdown()
    return seconds


def _one(config: dict[str, dict[str, object]]) -> None:
    notebook(config["job"])


def vmapped(jobs: list[Job], seeds: int) -> float:
    """Seconds that ensembles of the learned ones among these jobs would train for, structure by structure."""
    torch.set_num_threads(os.cpu_count() or 1)
    learned = [job for job in jobs if job.solver.family == "learned" and job.seed == 0]
    return sum(_step(job) * job.protocol.steps * seeds * len(job.protocol.learning_rates) for job in learned)


def _step(job: Job) -> float:
    """Seconds a step and model."""
    scalar, memory = getattr(job.solver, "preconditioner", "") == "scalar", name_of(job.solver) == "memformer"
    models: list[torch.nn.Module] = [
        NaiveMemformer(job.solver.depth, job.task.d, memory=memory, scalar=scalar) for _ in range(ENSEMBLE)
    ]
    roots = torch.eye(job.task.d).expand(ENSEMBLE, -1, -1)
    drawn = [prompts(job.protocol.batch, job.task.n, root) for root in roots]
    Z, target = torch.stack([tokens for tokens, _ in drawn]), torch.stack([label for _, label in drawn])

    def step() -> None:
        ensemble(models, Z, target, 1, 0.01, roots if job.protocol.renew else None)

    step()
    return statistics.median(timed(step) for _ in range(5)) / ENSEMBLE


def rows(share: float, seeds: int) -> list[Row]:
    fig1 = replace(load(str(SWEEP)), seeds=range(seeds))
    wanted = list(fig1.jobs())
    jobs = [
        {
            "solver": name_of(job.solver),
            "preconditioner": getattr(job.solver, "preconditioner", ""),
            "depth": job.solver.depth,
            "seed": job.seed,
            "protocol": job.protocol.use,
        }
        for job in wanted
    ]
    sample = random.Random(0).sample(jobs, max(2, round(share * len(jobs))))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "fig1_many.yaml").write_text(SWEEP.read_text().replace("seeds: 50", f"seeds: {seeds}"))
        cold = ours(folder / "fig1_many.yaml", folder / "cold", folder / "cache")
        warm = ours(folder / "fig1_many.yaml", folder / "warm", folder / "cache")
        trials = tuned(sample, folder / "tune") * len(jobs) / len(sample)
    ensembles = vmapped(wanted, seeds)
    return [
        Row(
            f"fig1, {seeds} seeds, against {name}, {state}",
            "s",
            theirs,
            seconds,
            theirs / seconds,
            None,
            None,
            goal,
            note,
        )
        for name, theirs, goal, note in (
            ("Ray Tune", trials, 100, f"{len(jobs)} jobs; Tune measured on {len(sample)} of them and scaled"),
            (
                "vmap ensembles",
                ensembles,
                10,
                "five steps of each structure, 16 models at once, measured and scaled; training alone",
            ),
        )
        for state, seconds in (("nothing compiled before", cold), ("compiled before", warm))
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--share", type=float, default=0.02)
    parser.add_argument("--seeds", type=int, default=50)
    options = parser.parse_args()
    print(json.dumps([row.__dict__ for row in rows(options.share, options.seeds)], indent=1))
