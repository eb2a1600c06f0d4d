"""10,000 jobs, 1,000 steps, 1,000 prompts on one GPU; nothing where there is none."""

from __future__ import annotations

import time

import torch
from step import MEMFORMER, pack
from timing import Row

from lfombench.harness.compiler.select import program
from lfombench.harness.training.training_step import training

JOBS, STEPS, BYTES = 10_000, 1000, 4 * 1000 * (25 + 3 * 5)  # of a job's prompts, read at least once a step


def rows() -> list[Row]:
    if not torch.cuda.is_available():
        print("gpu: skipped, PyTorch finds no CUDA device")
        return []
    device, width = torch.device("cuda"), 2000
    given = pack(MEMFORMER, width)
    step, job, state, key = training(given, device)
    run = program(step, job, state, key, 10**6)
    run(0, 20)
    torch.cuda.synchronize()
    begin = time.perf_counter()
    run(20, 100)
    torch.cuda.synchronize()
    each = (time.perf_counter() - begin) / 100 / width
    total = each * JOBS * STEPS
    share = BYTES / each / 1e12
    name = torch.cuda.get_device_name()
    note = f"{name}: {share:.2f} TB/s of prompts read once a step; scaled from {width} jobs, 100 steps"
    return [Row("10,000 jobs x 1,000 steps x 1,000 prompts", "s", None, total, None, None, None, 10, note)]
