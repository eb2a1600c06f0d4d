"""Packs against themselves: width, cores, and the size of the problem."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from dataclasses import replace

import torch
from step import CPU, DEPTH, MEMFORMER, TASK, advance, pack
from timing import Row, timed

from lfombench.harness import PROTOCOLS, Job
from lfombench.harness.compiler.native import Native
from lfombench.harness.training.pack import Pack, WorkOrder
from lfombench.harness.training.training_step import training
from lfombench.solvers import LinearTransformer
from lfombench.tasks import LinearRegression

GRID = ((5, 20, 1), (5, 20, 4), (5, 20, 16), (5, 512, 4), (8, 32, 4), (16, 64, 4), (20, 40, 4), (64, 512, 4))
WIDTHS = (1, 4, 16, 64, 256, 1024, 4096)


def width() -> list[Row]:
    """Jobs trained per second and bytes held, from one job to 4096 in a pack."""
    found = []
    rate_of_one = 0.0
    for jobs in WIDTHS:
        given = pack(MEMFORMER, jobs)
        step, job, state, key = training(given, CPU)
        run = Native(step, job, state, key, "unrolled")
        count = 100  # of the same prompts; they are drawn anew for each call
        run(0, 2)
        taken = []
        for _ in range(3):
            begin = time.perf_counter()
            run(2, count)
            taken.append(time.perf_counter() - begin)
        each = 1000 * sorted(taken)[1] / count / jobs
        rate_of_one = rate_of_one or each
        held = sum(x.numel() * x.element_size() for x in (*job.values(), *state.values(), key)) / jobs
        note = f"{held / 1000:.1f} kB of state a job; {3600 / each:,.0f} jobs of 1000 steps an hour"
        ratio = rate_of_one / each
        found.append(Row(f"width {jobs}", "ms a step and job", rate_of_one, each, ratio, None, None, None, note))
    return found


def _busy(start: object, seconds: float, queue: object) -> None:
    torch.set_num_threads(1)
    run = advance(pack(MEMFORMER, 16))
    run(0, 2)
    start.wait()  # type: ignore[attr-defined]
    begin, steps = time.perf_counter(), 0
    while time.perf_counter() - begin < seconds:
        run(2, 100)
        steps += 100
    queue.put(16 * steps / (time.perf_counter() - begin))  # type: ignore[attr-defined]


def scaling(cores: int = 2, seconds: float = 3.0, rounds: int = 3) -> list[Row]:
    """Steps per second of one process, and of one on each core together; in turn."""
    context = multiprocessing.get_context("spawn")

    def rate(processes: int) -> float:
        start, queue = context.Barrier(processes), context.Queue()
        started = [context.Process(target=_busy, args=(start, seconds, queue)) for _ in range(processes)]
        for process in started:
            process.start()
        found = sum(queue.get() for _ in started)
        for process in started:
            process.join()
        return found

    pairs = [(rate(1), rate(cores)) for _ in range(rounds)]
    ratios = sorted(b / a for a, b in pairs)
    one, both = (1000 / sorted(x)[rounds // 2] for x in zip(*pairs, strict=True))
    work = f"scaling, 1 to {cores} cores"
    return [Row(work, "ms a step and job", one, both, ratios[rounds // 2], ratios[0], ratios[-1], 1.8)]


def roof() -> tuple[float, float]:
    """What one core can do: operations a second in a large matrix product, bytes a second in a large copy."""
    torch.set_num_threads(1)
    a, b = torch.randn(2, 1024, 1024).unbind(0)
    x, y = torch.empty(2, 1 << 26).unbind(0)

    def best(run: Callable[[], object]) -> float:
        return min(timed(run) for _ in range(5))

    return 2 * 1024**3 / best(lambda: a @ b), 2 * 4 * (1 << 26) / best(lambda: y.copy_(x))


def model(d: int, depth: int, prompts: int) -> tuple[float, float]:
    """Operations and bytes of a step. A normal takes some 60 operations; G is written once and read once."""
    variates = d * (d + 1) // 2 + d
    draw = 60 * variates + 2 * d**2 * (d + 1) + 4 * d**2  # U D T and its square, each half of d^3; w* and b
    layers = depth * 2 * d**2 * (2 + 3)  # G w and A g forward; both transposed, and the gradient of A, backward
    return prompts * (draw + layers), prompts * 2 * 4 * (d**2 + 2 * d)


def grid() -> list[Row]:
    """Cost against what operations and bandwidth allow, d = 5 ... 64, n = 20 ... 512, L = 1 ... 16."""
    found = []
    speed, bandwidth = roof()
    for d, n, depth in GRID:
        task = LinearRegression(d=d, n=n)
        solver = LinearTransformer(depth=depth, preconditioner="full")
        protocol = replace(PROTOCOLS["rigorous"], batch=256, learning_rates=(0.01,))
        pack_of = Pack(tuple(Job.of(task=task, solver=solver, protocol=protocol, seed=s) for s in range(4)))
        step = training(WorkOrder(pack_of), CPU)
        begin = time.perf_counter()
        run = Native(*step, "unrolled")
        made = time.perf_counter() - begin
        run(0, 1)
        count, begin = 0, time.perf_counter()
        while time.perf_counter() - begin < 1.0:
            run(count, 5)
            count += 5
        each = (time.perf_counter() - begin) / count / 4
        operations, moved = model(d, depth, 256)
        least = max(operations / speed, moved / bandwidth)
        note = (
            f"theirs: the model, {operations / 1e6:.1f} MFLOP at {speed / 1e9:.0f} GFLOP/s or {moved / 1e6:.1f} MB "
            f"at {bandwidth / 1e9:.1f} GB/s; ours {operations / each / 1e9:.1f} GFLOP/s, ready in {made:.1f} s"
        )
        work = f"d={d} n={n} L={depth}, 256 fresh"
        found.append(Row(work, "ms a step and job", 1000 * least, 1000 * each, least / each, None, None, None, note))
    return found


__all__ = ["DEPTH", "TASK", "grid", "scaling", "width"]
