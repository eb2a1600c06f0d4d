"""What a training step's time goes to: its parts, each as a program of its own, beside the whole step."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from lfombench.tasks import Prompts, Random

from ..compiler.select import program
from ..compiler.step import Draw, Step, Tensors, Update, in_group
from . import adam
from .evaluate import errors, last
from .pack import WorkOrder, with_floats
from .training_step import training

FRESH = 50  # steps that are timed where each draws its own prompts; else as many as training takes between two draws

SHARE = 0.2  # of a process's time, that its probes may take


class Budget:
    """What a process has spent on probes since it began: the first is always allowed."""

    def __init__(self) -> None:
        self.begin, self.spent, self.longest = time.perf_counter(), 0.0, 0.0

    def allows(self) -> bool:
        """Whether another probe would keep within the budget, were it as long as the longest so far."""
        return self.spent == 0.0 or self.spent + self.longest <= SHARE * (time.perf_counter() - self.begin)

    def spend(self, seconds: float) -> None:
        """Note how long a probe took."""
        self.spent += seconds
        self.longest = max(self.longest, seconds)


budget = Budget()


def parts(order: WorkOrder, device: torch.device) -> list[float]:
    """Shares of a training step that go to drawing, forward, backward and optimiser.

    The first two are programs of so much of a step, the last one of it alone; backward is what is left of the whole.
    """
    whole, whole_job, state, key = training(order, device)
    first = order.first

    def nothing(job: Tensors, random: Random, count: int) -> Any:  # for the optimiser, which needs no prompts
        return None

    def drawn(job: Tensors, state: Tensors, batch: Prompts, t: Tensor) -> tuple[Tensors, Tensors]:
        fields = [batch.tokens] if batch.tokens is not None else vars(batch.problem).values()
        tensors = [x for x in fields if isinstance(x, Tensor)]
        total = sum(x.reshape(len(x), -1, x.shape[-1]).sum((1, 2)) for x in (*tensors, batch.w_star))
        return {}, {"total": total + torch.zeros_like(state["rate"])}

    def forward(job: Tensors, state: Tensors, batch: Prompts, t: Tensor) -> tuple[Tensors, Tensors]:
        solver = with_floats(first.solver, in_group("solver", job) | in_group("tried", state))
        params = {name: p.to(batch.w_star.dtype) for name, p in in_group("p", state).items()}
        return {}, {"loss": last(errors(solver, params, batch)).sum(-1)}

    def optimiser(job: Tensors, state: Tensors, batch: Any, t: Tensor) -> tuple[Tensors, Tensors]:
        return adam.update(first.protocol, state, state["rate"], in_group("p", state), t)

    def seconds(step: Step, job: Tensors, state: Tensors) -> float:
        run = program(step, job, state, key, first.protocol.steps, order.engine)
        run(0, 2)
        ended(device)
        begin = time.perf_counter()
        run(2, FRESH if whole.renew else order.stride)
        ended(device)
        return time.perf_counter() - begin

    def part(update: Update, draw: Draw = whole.draw) -> Step:
        identity = whole.identity and f"{update.__name__} of {whole.identity}"
        return replace(whole, draw=draw, update=update, name=(update.__name__, whole.name), identity=identity)

    of_task = {name: x for name, x in whole_job.items() if name == "frame" or name.startswith("task.")}
    draw = seconds(part(drawn), of_task, {"rate": state["rate"]})  # the same program whatever the solver
    to_loss = max(seconds(part(forward), whole_job, state) - draw, 0.0)
    adapt = seconds(part(optimiser, nothing), whole_job, state)
    total = seconds(whole, whole_job, state)
    shares = [draw, to_loss, max(total - draw - to_loss - adapt, 0.0), adapt]
    return [x / sum(shares) for x in shares]


def ended(device: torch.device) -> None:
    """Return when a device has done what this thread asked of it, which a call of a program does not wait for."""
    if device.type == "cuda":
        torch.cuda.current_stream(device).synchronize()
