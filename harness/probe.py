"""What a training step's time goes to: its parts, each as a program of its own, beside the whole step."""

from __future__ import annotations

import time
from dataclasses import replace

import torch
from torch import Tensor

from lfombench.tasks import Prompts

from . import adam
from .engine import training
from .evaluate import errors, last
from .pack import Pack, having
from .program import program
from .step import Tensors, Update, under

STEPS = 50


def parts(pack: Pack, device: torch.device) -> list[float]:
    """Shares of a training step that go to drawing, forward, backward and optimiser.

    The first two are programs of so much of a step, the last one of it alone; backward is what is left of the whole.
    """
    whole, given, state, key = training(pack, device)

    def drawn(job: Tensors, state: Tensors, batch: Prompts, t: Tensor) -> tuple[Tensors, Tensors]:
        given = [batch.problem.G, batch.problem.b] if batch.tokens is None else [batch.tokens]
        total = sum(x.reshape(len(x), -1, x.shape[-1]).sum((1, 2)) for x in (*given, batch.w_star))
        return {}, {"total": total + torch.zeros_like(state["rate"])}

    def forward(job: Tensors, state: Tensors, batch: Prompts, t: Tensor) -> tuple[Tensors, Tensors]:
        solver = having(pack.first.solver, under("solver", job))
        params = {name: p.to(batch.w_star.dtype) for name, p in under("p", state).items()}
        return {}, {"loss": last(errors(solver, params, batch)).sum(-1)}

    def optimiser(job: Tensors, state: Tensors, batch: Prompts, t: Tensor) -> tuple[Tensors, Tensors]:
        return adam.update(pack.first.protocol, job, state, state["rate"], under("p", state), t)

    def seconds(update: Update) -> float:
        step = replace(whole, update=update, name=(update.__name__, whole.name))
        run = program(step, given, state, key, pack.first.protocol.steps, as_written=pack.as_written)
        run(0, 2)
        begin = time.perf_counter()
        run(2, STEPS)
        return time.perf_counter() - begin

    draw, to_loss, adapt, total = (seconds(update) for update in (drawn, forward, optimiser, whole.update))
    to_loss = max(to_loss - draw, 0.0)
    each = [draw, to_loss, max(total - draw - to_loss - adapt, 0.0), adapt]
    return [x / sum(each) for x in each]
