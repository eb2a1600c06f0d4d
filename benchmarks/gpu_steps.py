"""Training steps on a device: what the kernels consist of, how fast they are, and against what."""

from __future__ import annotations

import importlib.util
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import engines
import mixture
import torch
from step import CPU, GD, LFOM, MEMFORMER
from step import pack as fixed

from lfombench.harness import Job
from lfombench.harness.compiler import nvrtc
from lfombench.harness.compiler.cuda import Cuda
from lfombench.harness.compiler.device import REGISTERS_LIMIT, KernelLayout, kernel
from lfombench.harness.compiler.ir import needed
from lfombench.harness.compiler.known import shapes
from lfombench.harness.compiler.native import lowering_of
from lfombench.harness.compiler.on_device import OnDevice, Program, arguments
from lfombench.harness.compiler.registers import Registers
from lfombench.harness.compiler.step import Step, Tensors
from lfombench.harness.compiler.unrolled import TooLong
from lfombench.harness.training.pack import Pack, WorkOrder
from lfombench.harness.training.training_step import training

WIDE = 7920  # members of most rows: ten blocks for each place of an H200
WORK = 1e7  # member-steps of the unit: 10,000 jobs, 1,000 steps


@dataclass(frozen=True)
class Device:
    """Where kernels run, and what loads them."""

    at: torch.device
    driver: Any
    dry: bool

    def sync(self) -> None:
        """Wait until all that was started has ended."""
        if not self.dry:
            torch.cuda.synchronize()

    @property
    def name(self) -> str:
        """Its name."""
        return "the host, played" if self.dry else torch.cuda.get_device_name()


def device(*, dry: bool) -> Device:
    """The first GPU, or the host that plays one."""
    if dry:
        from tests.device.emulated import Emulated

        return Device(CPU, Emulated(2), dry)
    from lfombench.harness.compiler.driver import Cuda

    return Device(torch.device("cuda", 0), Cuda(0), dry)


def machine(page: Any, here: Device) -> None:
    """What this is, and what it can do at best."""
    facts = [f"Python {platform.python_version()}", f"PyTorch {torch.__version__}", f"NVRTC {nvrtc.version()}"]
    if not here.dry:
        p = here.driver.properties
        asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        facts.append(f"driver {subprocess.run(asked, capture_output=True, text=True).stdout.strip()}")
        facts.append(f"{p.multi_processor_count} multiprocessors, {p.total_memory / 2**30:.0f} GiB")
        flops, bandwidth = peak(here)
        facts.append(
            f"multiply-add peak measured: {flops / 1e12:.1f} TFLOP/s in float32; copies: {bandwidth / 1e12:.2f} TB/s"
        )
    page.add(f"**{here.name}.** {'; '.join(facts)}.")


def peak(here: Device) -> tuple[float, float]:
    """Operations a second of independent multiply-adds in registers; bytes a second, read and written, of a copy."""
    source = """struct Arguments { char* tensors[1]; long long numbers[5]; };
    extern "C" __global__ void run(const Arguments given) {
    float a[16]; for (int i = 0; i < 16; i++) a[i] = threadIdx.x + i;
    for (int k = 0; k < given.numbers[0]; k++) for (int i = 0; i < 16; i++) a[i] = a[i] * 0.999f + 0.001f;
    float s = 0; for (int i = 0; i < 16; i++) s += a[i];
    ((float*)given.tensors[0])[blockIdx.x * 256 + threadIdx.x] = s; }"""
    function = here.driver.load(source, KernelLayout({}, 0, 0, 256, 0))
    n, out = 20_000, torch.empty(function.blocks * 256, device=here.at)
    given = arguments(1)()
    given.tensors[:], given.numbers[:] = [out.data_ptr()], [n, 0, 0, 0, 0]
    flops = 2.0 * 16 * n * 256 * function.blocks / seconds(here, lambda: function.launch(function.blocks, given))
    a, b = (torch.empty(1 << 30, dtype=torch.uint8, device=here.at) for _ in range(2))
    return flops, 2.0 * a.numel() / seconds(here, lambda: a.copy_(b))


def seconds(here: Device, run: Callable[[], object], rounds: int = 3) -> float:
    """The median of some rounds, after one that is not counted."""
    times = []
    for _ in range(rounds + 1):
        here.sync()
        begin = time.perf_counter()
        run()
        here.sync()
        times.append(time.perf_counter() - begin)
    return statistics.median(times[1:])


class Tests:
    """The tests that are marked gpu, in processes beside this one, as they compile much."""

    def __init__(self, here: Device) -> None:
        root = Path(__file__).resolve().parent.parent
        command = [sys.executable, "-m", "pytest", "--noconftest", "-q", "-m", "gpu", "-p", "no:cacheprovider"]
        command += ["-p", "no:benchmark", "tests/device/test_gpu.py"]
        command += ["-n", "8"] if importlib.util.find_spec("xdist") else []
        self.process = None if here.dry else subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root)

    def end(self, page: Any) -> None:
        """Wait for them, and report."""
        if self.process is None:
            page.add("Tests marked gpu: not run, there is no device.")
            return
        lines = self.process.communicate()[0].strip().splitlines()
        page.add(f"Tests marked gpu: {lines[-1] if lines else 'no output'}.")
        if self.process.returncode:
            page.add("```\n" + "\n".join(line[:300] for line in lines[-150:]) + "\n```")


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


def arithmetic(of: Prepared) -> float | None:
    """Additions, multiplications and the like of a prompt and step, where they are in registers."""
    builder = Registers(of.step.prompts, 20_000)
    try:
        lowering_of(of.step, shapes(of.job, 1), shapes(of.state, 2)).built(builder)
    except TooLong:
        return None
    terms = [term for places in builder.sums.values() for _, term in places.values()]
    operations = [e for e in needed(terms) if e.op in ("+", "-", "*", "/", "call") and e.level & 4]
    if of.step.renew is None:
        operations = [e for e in operations if e.level & 2]
    return len(operations) + len(terms)


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
    flops = None if here.dry else peak(here)[0]
    rows = []
    for name, of in cases.items():
        case = chosen[name]
        try:
            each = timed(here, of, 2 if here.dry else case.width, 1 if here.dry else case.steps)
            rows.append(row(here, name, of, each, flops))
        except Exception as error:
            rows.append([name, f"failed: {str(error)[:300]}", *[""] * 7])
        say(rows[-1])
    page.add(
        "10,000 jobs x 1,000 steps x 1,000 prompts, 4 layers, scaled from fewer; "
        f"{Cuda.resident} blocks at once where not said:"
    )
    names = [
        "seconds",
        "of the peak",
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


def row(here: Device, name: str, of: Prepared, each: float, flops: float | None) -> list[str]:
    """A case's line: the time of the unit of work, the share of the arithmetic peak, and the compiler's figures."""
    function, layout = here.driver.load(of.lowered.source, of.lowered.layout), of.lowered.layout
    figures, operations = getattr(function, "figures", None), arithmetic(of)
    share = f"{100 * operations * of.step.prompts / each / flops:.0f} %" if flops and operations else ""
    found = [f"{figures.registers}", f"{figures.spilled}"] if figures else ["", ""]
    blocks = str(getattr(function, "resident", ""))
    ends = [f"{layout.shared / 1024:.0f}", f"{of.compiled:.1f}"]
    return [name, f"{WORK * each:.3g}", share, str(layout.threads), blocks, *found, *ends]


def say(line: list[str]) -> None:
    print("   ", " | ".join(line), flush=True)
