"""The program of a job as text: the C++ of its training or test step, and the counts behind the choice of its form."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..compiler.ir import NotLowerable
from ..compiler.lower import Counts, Form, Lowering, lowering
from ..compiler.native import shapes
from ..compiler.select import MEMBERS, SEEDS, cheapest, draws_of, seconds
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
    seconds: dict[str, float]  # by form, of a single job on the nominal machine

    @property
    def why(self) -> str:
        """The counts and costs in words, two lines."""
        counts, costs = self.counts, ", ".join(f"{name} {x:.3g} s" for name, x in self.seconds.items())
        size = "too many" if counts.statements is None else f"{counts.statements:,}"
        return (
            f"{counts.operations:,} operations on tensors; {counts.numbers:,} numbers and {counts.variates:,} variates "
            f"for each prompt; {size} statements unrolled; {self.calls:,} calls.\n"
            f"A single job would take: {costs}. Chosen, for {SEEDS} jobs and then {MEMBERS}: {self.choice}."
        )


def listing(job: Job, *, test: bool, form: Form | None = None) -> Listing:
    """The program of a job's training step, or of its test step, in a form or in the one that `auto` takes.

    Raises UserError where it has none.
    """
    order = WorkOrder(Pack((job,)))
    step, own, state, times = _tested(order) if test else _trained(order)
    try:
        return _listing(lowering(step, shapes(own, 1), shapes(state, 2)), state, times, form)
    except NotLowerable as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"runs through torch.compile or eagerly, not as machine code: {reason}") from error


def _listing(lowered: Lowering, state: Tensors, times: int, form: Form | None) -> Listing:
    step = lowered.step
    draws = draws_of(step, state, times)
    choice = cheapest(lowered.counts, step, times, draws)
    shown = form or ("looped" if choice == "eager" else choice)
    costs = seconds(lowered.counts, step, times, draws, 1)
    source = lowered.lowered(shown, lines=True).source
    return Listing(source, choice, lowered.counts, times, dict(costs.items()))


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
