"""The program of a job as text: the C++ of its training or test step, and the counts behind the choice of its form."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..compiler.census import census
from ..compiler.device import kernel
from ..compiler.ir import NotLowerable
from ..compiler.known import shapes
from ..compiler.lower import Counts, Form, lowering
from ..compiler.select import MEMBERS, SEEDS, draws_of, eager_seconds, native_seconds, pays, quickest, seconds
from ..compiler.step import Step, Tensors
from ..errors import UserError
from ..spec.job import Job
from .closed_form import fit
from .evaluate import CHUNK, calls, testing
from .pack import Pack, WorkOrder
from .training_step import initial, training

CPU = torch.device("cpu")
FEW = 2048  # prompts that a bound is fitted to, where only its program is asked for


@dataclass(frozen=True)
class Listing:
    """A program: its C++ with the model's lines beside, how it runs if nobody says otherwise, and why."""

    source: str
    choice: str  # eager, looped or unrolled
    counts: Counts
    calls: int
    cases: dict[str, float]  # nominal seconds of a case's jobs: as written, and as machine code from its trace on
    forms: dict[Form, float]  # nominal seconds of a small pack, by form, once traced

    @property
    def why(self) -> str:
        """The counts and costs in words, two lines."""
        counts = self.counts
        cases, forms = (", ".join(f"{name} {x:.3g} s" for name, x in one.items()) for one in (self.cases, self.forms))
        size = "too many" if counts.statements is None else f"{counts.statements:,}"
        return (
            f"{counts.operations:,} operations on tensors; {counts.numbers:,} numbers and {counts.variates:,} variates "
            f"for each prompt; {size} statements unrolled; {self.calls:,} calls.\n"
            f"{SEEDS} jobs would take: {cases}; {MEMBERS} jobs, once traced: {forms}. Chosen: {self.choice}."
        )


def listing(job: Job, *, test: bool, form: Form | None = None, on_gpu: bool = False) -> Listing:
    """The program of a job's training step, or of its test step, in a form or in the one that `auto` takes.

    on_gpu: its CUDA kernel instead.

    Raises UserError where it has none.
    """
    order = WorkOrder(Pack((job,)))
    step, own, state, times = _tested(order) if test else _trained(order)
    try:
        rough, draws = census(step, own, state), draws_of(step, state, times)
        lowered = lowering(step, shapes(own, 1), shapes(state, 2))
        found = lowered.counts
    except NotLowerable as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"runs through torch.compile or eagerly, not as machine code: {reason}") from error
    cases = {"eager": eager_seconds(rough, step, times, draws), "compiled": native_seconds(rough, step, times)}
    best = quickest(found, step, times)
    if on_gpu:
        source = kernel(lowered, form or "unrolled", lines=True).source
    else:
        source = lowered.lowered(form or best, lines=True).source
    choice = best if pays(rough, step, times, draws) else "eager"
    return Listing(source, choice, found, times, cases, seconds(found, step, times))


def _trained(order: WorkOrder) -> tuple[Step, Tensors, Tensors, int]:
    step, job, state, _ = training(order, CPU)
    return step, job, state, order.first.protocol.steps


def _tested(order: WorkOrder) -> tuple[Step, Tensors, Tensors, int]:
    params = fit(order, CPU, FEW).params if order.first.solver.fits else {}
    if order.first.solver.trains:
        params = {name: p[0] for name, p in initial(order, CPU).items()}
    count = min(CHUNK, order.first.protocol.test_prompts)
    step, job, _ = testing(order, params, [order.first.task], "test", count, CPU)
    return step, job, {}, calls(order.first)
