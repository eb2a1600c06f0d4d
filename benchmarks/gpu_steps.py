"""Training steps on a device: what the kernels consist of, how fast they are, and against what."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import engines
import mixture
import torch
from gpu_machine import Device, peak, seconds
from step import GD, LFOM, MEMFORMER
from step import pack as fixed

from lfombench.harness import Job
from lfombench.harness.compiler import nvrtc
from lfombench.harness.compiler.cuda import Cuda
from lfombench.harness.compiler.device import REGISTERS_LIMIT, kernel
from lfombench.harness.compiler.ir import MEMBER, PROMPT, needed
from lfombench.harness.compiler.known import shapes
from lfombench.harness.compiler.native import lowering_of
from lfombench.harness.compiler.on_device import OnDevice, Program
from lfombench.harness.compiler.registers import Registers
from lfombench.harness.compiler.step import Step, Tensors
from lfombench.harness.compiler.tile import Tile
from lfombench.harness.compiler.unrolled import TooLong
from lfombench.harness.training.pack import Pack, WorkOrder
from lfombench.harness.training.training_step import training

WIDE = 7920  # members of most rows: ten blocks for each place of an H200
WORK = 1e7  # member-steps of the unit: 10,000 jobs, 1,000 steps


def many(of: WorkOrder, jobs: int) -> WorkOrder:
    """So many jobs like the first one."""
    first = of.first
    seeds = (Job.of(task=first.task, solver=first.solver, protocol=first.protocol, seed=s) for s in range(jobs))
    return WorkOrder(Pack(tuple(seeds)))


@dataclass(frozen=True)
class Case:
    """A kind of step: its pack, how wide it is timed and for how many steps; how its kernel is made."""

    order: Callable[[int], WorkOrder]
    width: int = WIDE
    steps: int = 40
    resident: int | None = None  # blocks at once that are asked for, if not as usual
    limit: int = REGISTERS_LIMIT


def with_others(name: str, case: Case, *resident: int) -> dict[str, Case]:
    """The case, and the same with other numbers of blocks at once."""
    return {name: case} | {f"{name}: {n} blocks": replace(case, resident=n) for n in resident}


CASES: dict[str, Case] = {
    **with_others("Memformer, d = 5", Case(lambda jobs: fixed(MEMFORMER, jobs), steps=100), 3, 4),
    **with_others(
        "Memformer, d = 5, fresh prompts", Case(lambda jobs: many(engines.order(5, True), jobs), steps=100), 3, 4
    ),
    "Memformer, d = 5, 128 prompts": Case(lambda jobs: many(sized(5, 128), jobs), steps=100),
    "Memformer, d = 5, 256 fresh prompts": Case(lambda jobs: many(sized(5, 256, fresh=True), jobs), steps=100),
    **with_others("GD++, d = 5", Case(lambda jobs: fixed(GD, jobs)), 3),
    **with_others("LFOM memory, a gate per token, d = 5", Case(lambda jobs: fixed(LFOM, jobs)), 3),
    **with_others("a mixture of three GD++, d = 5", Case(lambda jobs: mixture.pack(jobs, 1000), steps=20), 3),
    **with_others("Memformer, d = 10", Case(lambda jobs: many(sized(10), jobs), 2640, 20), 3),
    "Memformer, d = 20, in loops": Case(lambda jobs: many(sized(20), jobs), 528, 6),
    "Memformer, d = 20, fresh, in registers": Case(
        lambda jobs: many(engines.order(20, True), jobs), 528, 6, 2, 100_000
    ),
    "Memformer, d = 32, in loops": Case(lambda jobs: many(sized(32), jobs), 264, 3),
}


def sized(d: int, prompts: int = 1000, *, fresh: bool = False) -> WorkOrder:
    """A pack of the Memformer in R^d, on so many prompts."""
    engines.SIZES.setdefault(d, (2 * d, 1000, 1))
    of = engines.order(d, fresh)
    job = of.first
    return WorkOrder(Pack((job.changed(protocol=replace(job.protocol, batch=prompts)),)))


@dataclass
class Prepared:
    """A step and the tensors of a few members, and its kernel."""

    step: Step
    job: Tensors
    state: Tensors
    key: torch.Tensor
    lowered: Any
    compiled: float = 0.0

    def members(self, count: int) -> tuple[Step, Tensors, Tensors, torch.Tensor]:
        """The tensors of so many members: those of the few, again and again."""
        times = -(-count // len(self.key))

        def more(x: torch.Tensor, axis: int) -> torch.Tensor:
            repeats = [times if i == axis else 1 for i in range(x.ndim)]
            return x.repeat(repeats).narrow(axis, 0, count).contiguous()

        job = {name: more(x, 0) for name, x in self.job.items()}
        state = {name: more(x, 1) for name, x in self.state.items()}
        return self.step, job, state, more(self.key, 0)


def prepared(here: Device, case: Case) -> Prepared:
    step, job, state, key = training(case.order(2 if here.dry else 64), here.at)
    target = Cuda(resident=case.resident) if case.resident else None
    lowered = kernel(lowering_of(step, shapes(job, 1), shapes(state, 2)), "unrolled", target, limit=case.limit)
    return Prepared(step, job, state, key, lowered)


def work(of: Prepared) -> tuple[int, int] | None:
    """Additions, multiplications and the like of a prompt and step, and the bytes that it reads of what is kept of
    prompts from step to step; None where these are not in registers.
    """
    builder = Registers(of.step.prompts, 20_000)
    try:
        lowering_of(of.step, shapes(of.job, 1), shapes(of.state, 2)).built(builder)
    except TooLong:
        return None
    tile = Tile(builder, Cuda.of(of.step.prompts, "unrolled"), fused=of.step.renew == 1)
    operations = [e for e in needed(tile.terms) if e.op in ("+", "-", "*", "/", "call") and e.level & PROMPT]
    if of.step.renew is None:
        operations = [e for e in operations if e.level & MEMBER]
    return len(operations) + len(tile.terms), tile.size(1)


def timed(here: Device, of: Prepared, width: int, steps: int) -> float:
    """Seconds of a member's step."""
    run = OnDevice.__new__(OnDevice)
    run.step, run.job, run.state, run.key = of.members(width)
    run.program = Program(here.driver.load(of.lowered.source, of.lowered.layout), of.lowered.layout)
    run(0, 1)
    first = 1

    def further() -> None:
        nonlocal first
        run(first, steps)
        first += steps

    return seconds(here, further, 1 if here.dry else 3) / steps / width


def compiled(here: Device, of: Prepared) -> Prepared:
    """With its machine code in the cache."""
    begin = time.perf_counter()
    if not here.dry:
        nvrtc.compile(of.lowered.source, (here.driver.properties.major, here.driver.properties.minor))
    of.compiled = time.perf_counter() - begin
    return of


def steps(page: Any, here: Device, before: Callable[[], None]) -> None:
    """Every case's kernel and speed; then the first of them by width. before: called when all is compiled."""
    begin = time.perf_counter()
    few = [name for name, case in CASES.items() if not case.resident][:3]
    chosen = {name: CASES[name] for name in (few if here.dry else CASES)}
    with ThreadPoolExecutor(12) as pool:
        ahead = {name: pool.submit(compiled, here, prepared(here, case)) for name, case in chosen.items()}
        traced = time.perf_counter() - begin
        cases = {name: future.result() for name, future in ahead.items()}
    took = time.perf_counter() - begin
    page.add(f"{len(cases)} kernels, traced one after the other in {traced:.1f} s, all compiled after {took:.1f} s.")
    before()
    rows = []
    for name, of in cases.items():
        case = chosen[name]
        try:
            each = timed(here, of, 2 if here.dry else case.width, 1 if here.dry else case.steps)
            rows.append(row(here, name, of, each))
        except Exception as error:
            rows.append([name, f"failed: {str(error)[:300]}", *[""] * 8])
        say(rows[-1])
    page.add(
        "10,000 jobs x 1,000 steps x 1,000 prompts, 4 layers, scaled from fewer; "
        f"{Cuda.resident} blocks at once where not said:"
    )
    names = [
        "seconds",
        "of the peak",
        "of the bandwidth",
        "threads",
        "blocks at once",
        "registers",
        "bytes spilled",
        "KiB shared",
        "compiled in s",
    ]
    page.table(["", *names], rows)
    of = next(iter(cases.values()))
    widths = (1, 2) if here.dry else (1, 16, 256, 1024, 4096, 16384)
    times = [(width, timed(here, of, width, 1 if here.dry else 100)) for width in widths]
    lines = [[f"{width:,}", f"{1e6 * x * width:.1f}", f"{1e9 * x:.1f}"] for width, x in times]
    page.table(["Memformer, d = 5: jobs in the pack", "µs a step of the pack", "ns a step and job"], lines)


def row(here: Device, name: str, of: Prepared, each: float) -> list[str]:
    """A case's line: the time of the unit of work, the shares of peak and bandwidth, and the compiler's figures."""
    function, layout = here.driver.load(of.lowered.source, of.lowered.layout), of.lowered.layout
    figures, found, shares = getattr(function, "figures", None), work(of), ["", ""]
    if found and not here.dry:
        shares = [f"{100 * x * of.step.prompts / each / y:.0f} %" for x, y in zip(found, peak(here), strict=True)]
    registers = [f"{figures.registers}", f"{figures.spilled}"] if figures else ["", ""]
    blocks = str(getattr(function, "resident", ""))
    ends = [f"{layout.shared / 1024:.0f}", f"{of.compiled:.1f}"]
    return [name, f"{WORK * each:.3g}", *shares, str(layout.threads), blocks, *registers, *ends]


def say(line: list[str]) -> None:
    print("   ", " | ".join(line), flush=True)
