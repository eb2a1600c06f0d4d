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
import naive
import torch
from step import CPU, GD, LFOM, MEMFORMER
from step import naive as as_notebooks
from step import pack as fixed

from lfombench.harness import Job
from lfombench.harness.compiler import nvrtc
from lfombench.harness.compiler.device import kernel
from lfombench.harness.compiler.ir import needed
from lfombench.harness.compiler.known import shapes
from lfombench.harness.compiler.native import lowering_of
from lfombench.harness.compiler.on_device import OnDevice
from lfombench.harness.compiler.registers import Registers
from lfombench.harness.compiler.select import program
from lfombench.harness.compiler.step import Step, Tensors
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
        facts.append(f"multiply-add peak measured: {flops / 1e12:.1f} TFLOP/s in float32; copies: {bandwidth / 1e12:.2f} TB/s")
    page.add(f"**{here.name}.** {'; '.join(facts)}.")


def peak(here: Device) -> tuple[float, float]:
    """Operations a second of independent multiply-adds in registers; bytes a second, read and written, of a copy."""
    from cuda.bindings import driver

    source = """extern "C" __global__ void run(float* out, int n) {
    float a[16]; for (int i = 0; i < 16; i++) a[i] = threadIdx.x + i;
    for (int k = 0; k < n; k++) for (int i = 0; i < 16; i++) a[i] = a[i] * 0.999f + 0.001f;
    float s = 0; for (int i = 0; i < 16; i++) s += a[i]; out[blockIdx.x * 256 + threadIdx.x] = s; }"""
    code, _ = nvrtc.compile(source, (here.driver.properties.major, here.driver.properties.minor))
    _, module = driver.cuModuleLoadData(code)
    _, function = driver.cuModuleGetFunction(module, b"run")
    blocks, n = 8 * here.driver.properties.multi_processor_count, 20_000
    out = torch.empty(blocks * 256, device=here.at)
    import ctypes

    values = [ctypes.c_void_p(out.data_ptr()), ctypes.c_int(n)]
    pointers = (ctypes.c_void_p * 2)(*(ctypes.addressof(x) for x in values))
    stream = torch.cuda.current_stream().cuda_stream

    def run() -> None:
        driver.cuLaunchKernel(function, blocks, 1, 1, 256, 1, 1, 0, stream, ctypes.addressof(pointers), 0)

    flops = 2.0 * 16 * n * 256 * blocks / seconds(here, run)
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


def tests(page: Any, here: Device) -> None:
    """The tests that are marked gpu."""
    if here.dry:
        page.add("Tests marked gpu: not run, there is no device.")
        return
    file = Path(__file__).resolve().parent.parent / "tests" / "device" / "test_gpu.py"
    command = [sys.executable, "-m", "pytest", "--noconftest", "-q", "-m", "gpu", "-p", "no:cacheprovider", str(file)]
    command += ["-n", "8"] if importlib.util.find_spec("xdist") else []
    run = subprocess.run(command, capture_output=True, text=True, cwd=file.parent.parent.parent)
    lines = run.stdout.strip().splitlines()
    page.add(f"Tests marked gpu: {lines[-1] if lines else run.stderr[-500:]}")
    if run.returncode:
        page.add("```\n" + "\n".join(lines[-60:]) + "\n```")


def fresh(d: int) -> Callable[[int], WorkOrder]:
    return lambda jobs: many(engines.order(d, True), jobs)


def same(d: int) -> Callable[[int], WorkOrder]:
    return lambda jobs: many(engines.order(d, False), jobs)


def many(of: WorkOrder, jobs: int) -> WorkOrder:
    """So many jobs like the first one."""
    first = of.first
    seeds = (Job.of(task=first.task, solver=first.solver, protocol=first.protocol, seed=s) for s in range(jobs))
    return WorkOrder(Pack(tuple(seeds)))


CASES: dict[str, tuple[Callable[[int], WorkOrder], int, float]] = {  # pack, its width, steps that are timed
    "Memformer, d = 5": (lambda jobs: fixed(MEMFORMER, jobs), WIDE, 100),
    "the same, fresh prompts": (fresh(5), WIDE, 100),
    "GD++, d = 5": (lambda jobs: fixed(GD, jobs), WIDE, 40),
    "LFOM memory, a gate per token, d = 5": (lambda jobs: fixed(LFOM, jobs), WIDE, 40),
    "a mixture of three GD++, d = 5": (lambda jobs: mixture.pack(jobs, 1000), WIDE, 20),
    "Memformer, d = 10": (lambda jobs: many(sized(10), jobs), 2640, 20),
    "Memformer, d = 20": (same(20), 528, 10),
    "Memformer, d = 32": (lambda jobs: many(sized(32), jobs), 264, 4),
}


def sized(d: int) -> WorkOrder:
    engines.SIZES.setdefault(d, (2 * d, 1000, 1))
    return engines.order(d, False)


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


def prepared(here: Device, order: Callable[[int], WorkOrder]) -> Prepared:
    step, job, state, key = training(order(2 if here.dry else 64), here.at)
    lowered = kernel(lowering_of(step, shapes(job, 1), shapes(state, 2)), "unrolled")
    return Prepared(step, job, state, key, lowered)


def arithmetic(of: Prepared) -> float | None:
    """Additions, multiplications and the like of a prompt and step, where they are in registers."""
    builder = Registers(of.step.prompts, 50_000)
    lowering_of(of.step, shapes(of.job, 1), shapes(of.state, 2)).built(builder)
    terms = [term for places in builder.sums.values() for _, term in places.values()]
    operations = [e for e in needed(terms) if e.op in ("+", "-", "*", "/", "call") and e.level & 4]
    if of.step.renew is None:
        operations = [e for e in operations if e.level & 2]
    return len(operations) + len(terms)


def timed(here: Device, of: Prepared, width: int, steps: int) -> float:
    """Seconds of a member's step."""
    run = OnDevice(*of.members(width), "unrolled", here.driver)
    run(0, 1)
    first = 1

    def further() -> None:
        nonlocal first
        run(first, steps)
        first += steps

    return seconds(here, further, 1 if here.dry else 3) / steps / width


def steps(page: Any, here: Device) -> None:
    """Every case's kernel and speed; then the first of them by width."""
    begin = time.perf_counter()
    cases = {name: prepared(here, order) for name, (order, _, _) in list(CASES.items())[: 2 if here.dry else None]}
    traced = time.perf_counter() - begin
    if not here.dry:
        capability = here.driver.properties.major, here.driver.properties.minor

        def compiled(of: Prepared) -> float:
            begin = time.perf_counter()
            nvrtc.compile(of.lowered.source, capability)
            return time.perf_counter() - begin

        with ThreadPoolExecutor(8) as pool:
            for of, took in zip(cases.values(), pool.map(compiled, cases.values()), strict=True):
                of.compiled = took
    page.add(f"Traced one after the other in {traced:.1f} s, compiled side by side in "
             f"{time.perf_counter() - begin - traced:.1f} s. 10,000 jobs x 1,000 steps x 1,000 prompts, scaled from the steps timed:")
    flops = None if here.dry else peak(here)[0]
    rows = []
    for name, of in cases.items():
        _, width, count = CASES[name]
        try:
            each = timed(here, of, 2 if here.dry else width, 1 if here.dry else int(count))
        except Exception as error:
            rows.append([name, f"failed: {str(error)[:200]}", *[""] * 6])
            continue
        function = here.driver.load(of.lowered.source, of.lowered.layout)
        figures, layout = getattr(function, "figures", None), of.lowered.layout
        count_of = arithmetic(of)
        share = "" if flops is None else f"{100 * count_of * of.step.prompts / each / flops:.0f} %"
        rows.append([
            name, f"{WORK * each:.2f}", share, str(layout.threads), str(getattr(function, "resident", "")),
            f"{figures.registers}" if figures else "", f"{figures.spilled}" if figures else "", f"{layout.shared / 1024:.0f}", f"{of.compiled:.1f}",
        ])
    page.table(["4 layers, 1,000 prompts", "s", "of the peak", "threads", "blocks at once", "registers", "bytes spilled", "KiB shared", "compiled in s"], rows)
    of = next(iter(cases.values()))
    widths = (1, 2) if here.dry else (1, 16, 256, 1024, 4096, 16384)
    times = [(width, timed(here, of, width, 1 if here.dry else 100)) for width in widths]
    page.table(["jobs in the pack", "µs a step of the pack", "ns a step and job"], [[f"{w:,}", f"{1e6 * t * w:.1f}", f"{1e9 * t:.1f}"] for w, t in times])


def rivals(page: Any, here: Device) -> None:
    """The same steps by one core, by torch.compile with CUDA graphs, and one model at a time."""
    rows = []
    for name, order, width in (("fixed batch", lambda n: fixed(MEMFORMER, n), 2000), ("fresh prompts", fresh(5), 2000)):
        each = timed(here, prepared(here, order), 2 if here.dry else WIDE, 1 if here.dry else 100)
        torch.set_num_threads(1)
        step, job, state, key = training(order(16), CPU)
        core = program(step, job, state, key, 10**6)
        core(0, 1)
        one = seconds(Device(CPU, None, True), lambda: core(1, 20)) / 20 / 16
        row = [name, f"{1e6 * each:.3f}", f"{1e6 * one:.1f} ({one / each:.0f}x)"]
        if here.dry:
            rows.append([*row, "", ""])
            continue
        step, job, state, key = training(order(width), here.at)
        begin = time.perf_counter()
        graphs = program(step, job, state, key, 10**6, "inductor")
        graphs(0, 20)
        here.sync()
        ready = time.perf_counter() - begin
        theirs = seconds(here, lambda: graphs(20, 100)) / 100 / width
        row.append(f"{1e6 * theirs:.2f} ({theirs / each:.1f}x), ready after {ready:.0f} s")
        model, Z, target, root = as_notebooks(order(1))
        again = root.to(here.at) if name == "fresh prompts" else None
        with torch.device(here.at):
            model.to(here.at)
            naive.train(model, Z.to(here.at), target.to(here.at), 5, 0.01, again)
            alone = seconds(here, lambda: naive.train(model, Z.to(here.at), target.to(here.at), 20, 0.01, again)) / 20
        row.append(f"{1e6 * alone:,.0f} ({alone / each:,.0f}x)")
        rows.append(row)
    page.table(["Memformer, d = 5: µs a step and job", "kernel", "one core of ours", "torch.compile, CUDA graphs", "notebook, one model"], rows)
