"""A step on a device against one core of ours, torch.compile with CUDA graphs, and notebook models one at a time."""

from __future__ import annotations

import functools
import time
from typing import Any

import naive
import torch
from gpu_machine import Device, seconds
from gpu_steps import CASES, WIDE, Case, prepared, timed
from step import CPU
from step import naive as as_notebooks

from lfombench.harness.compiler.select import program
from lfombench.harness.training.training_step import training

WIDTH = 2000  # jobs of the pack that torch.compile is given
RATE = 0.01


def rivals(page: Any, here: Device) -> None:
    """A row for a batch that is kept, and one for fresh prompts."""
    rows = []
    for name in ("Memformer, d = 5", "Memformer, d = 5, fresh prompts"):
        case = CASES[name]
        each = timed(here, prepared(here, case), 2 if here.dry else WIDE, 1 if here.dry else case.steps)
        row = [name, f"{1e6 * each:.3f}", *(tried(opponent, here, case, each) for opponent in (core, graphs, notebook))]
        rows.append(row)
    names = ["kernel", "one core of ours", "torch.compile, CUDA graphs", "notebook, one model"]
    page.table(["µs a step and job", *names], rows)


def tried(opponent: Any, here: Device, case: Case, each: float) -> str:
    """An opponent's time and its ratio to ours; or why there is none."""
    if here.dry and opponent is not core:
        return ""
    try:
        theirs, note = opponent(here, case)
        return f"{1e6 * theirs:,.1f} ({theirs / each:,.1f}x){note}"
    except Exception as error:
        lines = str(error).strip().splitlines()
        said = next((line for line in reversed(lines) if "Error" in line), lines[0])
        return f"failed: {said[:200]}"


def core(here: Device, case: Case) -> tuple[float, str]:
    """Seconds a step and job of ours on one core of this machine."""
    torch.set_num_threads(1)
    step, job, state, key = training(case.order(16), CPU)
    run = program(step, job, state, key, 10**6)
    run(0, 1)
    return seconds(Device(CPU, None, True), functools.partial(run, 1, 20)) / 20 / 16, ""


def graphs(here: Device, case: Case) -> tuple[float, str]:
    """The same of torch.compile, and when it was ready."""
    step, job, state, key = training(case.order(WIDTH), here.at)
    begin = time.perf_counter()
    run = program(step, job, state, key, 10**6, "inductor")
    run(0, 20)
    here.sync()
    ready = time.perf_counter() - begin
    return seconds(here, functools.partial(run, 20, 100)) / 100 / WIDTH, f", ready after {ready:.0f} s"


def notebook(here: Device, case: Case) -> tuple[float, str]:
    """The same of one model as notebooks write it."""
    given = case.order(1)
    model, Z, target, root = as_notebooks(given)
    with torch.device(here.at):
        model.to(here.at)
        fresh = root.to(here.at) if given.first.protocol.renew else None
        run = functools.partial(naive.train, model, Z.to(here.at), target.to(here.at), 20, RATE, fresh)
        return seconds(here, run) / 20, ""
