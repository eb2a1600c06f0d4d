"""Kernels against machine code of the CPU, by an emulated device: what they mean, and what their bits depend on."""

from __future__ import annotations

import ctypes
import itertools
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from lfombench.harness.compiler import cache, cpp, device, on_device, tile
from lfombench.harness.compiler import kernel as kernels
from lfombench.harness.compiler.cuda import Cuda
from lfombench.harness.compiler.device import kernel
from lfombench.harness.compiler.ir import MEMBER, PROMPT, Expr, Memory
from lfombench.harness.compiler.known import shapes
from lfombench.harness.compiler.lower import Form
from lfombench.harness.compiler.native import lowering_of
from lfombench.harness.compiler.on_device import Driver, OnDevice
from lfombench.harness.compiler.products import MOST, Products, products_of
from lfombench.harness.compiler.registers import Registers
from lfombench.harness.compiler.select import program
from lfombench.harness.compiler.step import Step, Tensors
from lfombench.harness.compiler.streams import keys
from lfombench.harness.spec.job import Job
from lfombench.harness.spec.labels import label
from lfombench.harness.training.training_step import training
from lfombench.solvers import Memformer
from tests.builders import order as pack_of
from tests.device.emulated import HEADER, START, THREADS, Emulated, Function
from tests.device.steps import LEARNED, PROMPTS, TASK, TESTED, Given, step_of_test, trained
from tests.operations import EDGES, at_edges, tensors, update
from tests.programs import CPU, pack

FORMS: list[Form] = ["unrolled", "looped"]
ORDERS = (0, 1, 7)  # of threads: forwards, backwards and by chance
MEMORY = Memformer(depth=2, memory="cgd", preconditioner="full")


@pytest.fixture(autouse=True)
def quickly_and_in_memory_of_nan(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Compile without optimisation, which takes longer than what is compiled; and fill scratch memory and records with
    nan before a kernel runs, as the emulation does with shared memory.
    """
    monkeypatch.setattr(cpp, "FLAGS", (*cpp.FLAGS, "-O0"))
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def by_kernel(given: Given, form: Form, driver: Driver, calls: Sequence[int], first: int = 0) -> Tensors:
    """Records of all calls, one after the other, and the state after them."""
    return _after(OnDevice(*given, form, driver), given, calls, first)


def by_cpu(given: Given, form: Form, calls: Sequence[int], first: int = 0) -> Tensors:
    """The same by the CPU's machine code."""
    return _after(program(*given, sum(calls), form), given, calls, first)


def _after(run: Any, given: Given, calls: Sequence[int], first: int) -> Tensors:
    step, _, state, _ = given
    records = []
    for count in calls:
        records.append(run(first, count))
        first += count
    found = {name: torch.cat([one[name] for one in records]) for name in records[0]}
    found = {name: x[..., : step.prompts] if name == "error" else x for name, x in found.items()}
    return found | {f"state {name}": x for name, x in state.items()}


def assert_same_bits(ours: Tensors, theirs: Tensors, members: Any = ...) -> None:
    assert ours.keys() == theirs.keys()
    for name, x in ours.items():
        one, other = x[members], theirs[name][members]
        assert torch.equal(one.isnan(), other.isnan()), name
        assert torch.equal(one.nan_to_num(), other.nan_to_num()), name


def assert_close(ours: Tensors, theirs: Tensors, tolerance: float = 1e-3) -> None:
    """Of every tensor: the same numbers that are none, and others alike, given how large they are on average."""
    assert ours.keys() == theirs.keys()
    for name, expected in theirs.items():
        finite = expected.isfinite()
        assert torch.equal(ours[name].isfinite(), finite), name
        expected = expected[finite].double()
        wrong = (ours[name][finite].double() - expected).abs()
        bound = tolerance * (expected.abs() + expected.abs().mean())
        assert torch.all(wrong <= bound), f"{name} is wrong by {wrong.max():.1e}, of {expected.abs().mean():.1e}"


def differ(ours: Tensors, theirs: Tensors) -> bool:
    return any(not torch.equal(x.nan_to_num(7.0), theirs[name].nan_to_num(7.0)) for name, x in ours.items())


# Operations.


def operations(dtype: torch.dtype, renew: int | None) -> Callable[[], Given]:
    """A step of all operations and their gradients, of three jobs."""
    step = Step(lambda job, random, n: random.normal(4, n), update, PROMPTS, renew, dtype)
    names = keys([("x", i) for i in range(3)], CPU)
    return lambda: (step, *tensors(dtype), names)


@pytest.mark.parametrize("renew", [1, 2, None])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("form", FORMS)
def test_operations_and_their_gradients(form, dtype, renew):
    """Every rule, forward and backward, all in one kernel, whichever thread is first."""
    given = operations(dtype, renew)
    found = [by_kernel(given(), form, Emulated(2, order), [3]) for order in ORDERS]
    assert_close(found[0], by_cpu(given(), form, [3]), 2e-5 if dtype == torch.float32 else 1e-10)
    for other in found[1:]:
        assert_same_bits(found[0], other)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("form", FORMS)
def test_functions_where_they_are_easily_wrong(form, dtype):
    step = Step(lambda job, random, n: random.uniform(1, n), at_edges, PROMPTS, None, dtype)
    given: Given = (step, {"x": torch.tensor([EDGES], dtype=dtype)}, {}, keys([("x",)], CPU))
    found = by_kernel(given, form, Emulated(), [1])["value"][..., :PROMPTS]
    expected = program(*given, 1, "eager")(0, 1)["value"]
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0.0, equal_nan=True)


@pytest.mark.parametrize("renew", [1, 3, None])
@pytest.mark.parametrize("form", FORMS)
def test_a_step_without_state_draws_what_its_number_says(form, renew):
    """As a test is, which is one step; here of several, and not from the first on."""

    def update(job, state, batch, t):
        return {}, {"value": batch.sum((1, 2)).unsqueeze(0)}

    step = Step(lambda job, random, n: random.normal(4, n), update, PROMPTS, renew, torch.float32)
    given: Given = (step, {}, {}, keys([("x", 0)], CPU))
    for first in (0, 1):
        assert_close(by_kernel(given, form, Emulated(), [4], first), by_cpu(given, form, [4], first))


# Solvers.


def assert_as_by_cpu(given: Callable[[], Given], form: Form, steps: int) -> None:
    """On some blocks and in some order of threads, and in another order the same bits."""
    one, other = (by_kernel(given(), form, Emulated(2, order), [steps]) for order in (0, 1))
    assert_close(one, by_cpu(given(), "looped", [steps]))
    assert_same_bits(one, other)


def in_forms(solvers: Sequence[Any], some: int) -> Any:
    """All of them in the unrolled form, and some in the other."""
    return pytest.mark.parametrize(
        ("form", "solver"),
        [pytest.param("unrolled", s, id=label(s)) for s in solvers]
        + [pytest.param("looped", s, id=f"looped {label(s)}") for s in solvers[::some]],
    )


@in_forms(LEARNED, 7)
def test_training_as_by_the_cpu(solver, form):
    assert_as_by_cpu(trained(solver), form, 3)


@in_forms(TESTED, 5)
def test_tests_as_by_the_cpu(solver, form):
    assert_as_by_cpu(step_of_test(solver), form, 1)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("prompts", "renew"), [(1, 1), (32, 3), (256, 1), (300, 1), (300, 3)])
def test_prompts_of_any_number(prompts, form, renew):
    """A single one, a full warp, a full block, and a tile more than one."""
    assert_as_by_cpu(trained(MEMORY, batch=prompts, renew=renew), form, 2)


# What memory there is.


def small(**limits: int) -> Any:
    """A name of less room than usual."""
    return pytest.param(limits, id=", ".join(f"{name}={n}" for name, n in limits.items()))


def source_of(given: Given, form: Form) -> str:
    step, job, state, _ = given
    return kernel(lowering_of(step, shapes(job, 1), shapes(state, 2)), form).source


def anonymous(given: Given) -> Given:
    """The same step, of which nothing is known."""
    step, *tensors = given
    return replace(step, name=object(), identity=None), *tensors


@pytest.mark.parametrize("limits", [small(SHARED=6000), small(REGISTERS=0), small(ROWS=0)])
def test_numbers_that_have_no_room_are_elsewhere(limits, monkeypatch):
    """Members in scratch memory, sums of products in memory after each tile, and sums by each thread."""
    make = trained(MEMORY, renew=3, batch=300)
    usual = source_of(make(), "unrolled")
    for name, n in limits.items():
        monkeypatch.setattr(kernels if name == "SHARED" else tile, name, n)
    assert source_of(make(), "unrolled") != usual
    step, *_ = anonymous(make())
    assert_as_by_cpu(lambda: (step, *make()[1:]), "unrolled", 3)


def test_a_kernel_that_no_device_has_the_shared_memory_for_is_looped(monkeypatch):
    """As where each thread has thousands of sums over prompts, which pass through it."""
    make = trained(MEMORY)
    assert source_of(make(), "unrolled") != source_of(make(), "looped")
    monkeypatch.setattr(device, "LARGEST", 1000)
    assert source_of(make(), "unrolled") == source_of(make(), "looped")


@pytest.mark.parametrize("form", FORMS)
def test_a_looped_and_an_unrolled_kernel_without_shared_memory(form, monkeypatch):
    make = trained(MEMORY)
    expected = by_kernel(make(), form, Emulated(2, 1), [3])
    monkeypatch.setattr(kernels, "SHARED", 0)
    assert_same_bits(by_kernel(anonymous(make()), form, Emulated(2, 1), [3]), expected)


# What a member's bits depend on.


def of_member(found: Tensors, trial: int, job: int) -> Tensors:
    """One member's part of the records, `steps trials jobs ...`, and of the state, `trials jobs ...`."""
    return {name: x[trial, job] if name.startswith("state") else x[:, trial, job] for name, x in found.items()}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("renew", [1, 3])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_member_that_is_not_a_number_harms_no_other(value, renew, form):
    """It is the first that a block takes, and the others follow in the same memory."""
    make = trained(MEMORY, renew=renew)
    healthy = by_kernel(make(), form, Emulated(1), [4])
    given = make()
    given[2]["p.A"][0, 0].flatten()[0] = value
    found = by_kernel(given, form, Emulated(1), [4])
    assert not found["loss"][:, 0, 0].isfinite().any()
    for trial, job in [(0, 1), (1, 0), (1, 1)]:
        assert_same_bits(of_member(found, trial, job), of_member(healthy, trial, job))
        assert of_member(found, trial, job)["loss"].isfinite().all()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["training", "test"])
def test_bits_do_not_depend_on_the_number_of_blocks(kind, form):
    make, steps = (trained(MEMORY), 4) if kind == "training" else (step_of_test(MEMORY), 1)
    found = [by_kernel(make(), form, Emulated(blocks), [steps]) for blocks in (1, 3, 16)]
    for other in found[1:]:
        assert_same_bits(found[0], other)


@pytest.mark.parametrize("form", FORMS)
def test_bits_do_not_depend_on_a_packs_other_members(form):
    jobs = pack(MEMORY, jobs=3, task=TASK, batch=PROMPTS).jobs

    def run(chosen: Sequence[Job]) -> Tensors:
        return by_kernel(training(pack_of(chosen), CPU), form, Emulated(2), [4])

    together, turned = run(jobs), run(jobs[::-1])
    for j, job in enumerate(jobs):
        alone = run([job])
        for trial in (0, 1):
            assert_same_bits(of_member(alone, trial, 0), of_member(together, trial, j))
            assert_same_bits(of_member(turned, trial, 2 - j), of_member(together, trial, j))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("renew", [1, 3, None])
def test_bits_do_not_depend_on_how_steps_are_cut_into_calls_and_launches(renew, form, monkeypatch):
    make = trained(MEMORY, renew=renew)
    together = by_kernel(make(), form, Emulated(2), [7])
    assert_same_bits(by_kernel(make(), form, Emulated(2), [5, 2]), together)
    assert_same_bits(by_kernel(make(), form, Emulated(2), [1] * 7), together)
    monkeypatch.setattr(on_device, "LAUNCH", 2)
    started: list[int] = []
    monkeypatch.setattr(Function, "launch", _noting(started, Function.launch))
    assert_same_bits(by_kernel(make(), form, Emulated(2), [7]), together)
    assert started == [2, 2, 2, 1]


def _noting(started: list[int], launch: Callable[..., None]) -> Callable[..., None]:
    """A launch that notes how many steps it is asked for."""

    def noted(self: Function, grid: int, arguments: ctypes.Structure) -> None:
        started.append(arguments.numbers[3])
        launch(self, grid, arguments)

    return noted


@pytest.mark.parametrize("form", FORMS)
def test_prompts_from_some_number_on_are_those_of_a_longer_test(form):
    """The second half of 64 prompts, by themselves: to rounding, as they are summed up with nothing."""
    whole = by_kernel(step_of_test(MEMORY, 64)(), form, Emulated(2), [1])
    half = OnDevice(*step_of_test(MEMORY, 32)(), form, Emulated(2))(0, 1, 32)
    assert torch.equal(half["error"], whole["error"][..., 32:])


# What the emulation finds.


def changed(given: Given, form: Form, driver: Driver, change: Callable[[str], str], steps: int = 2) -> Tensors:
    """Records and state by a kernel whose source was changed."""
    step, job, state, _ = given
    lowered = kernel(lowering_of(step, shapes(job, 1), shapes(state, 2)), form)
    run = OnDevice(*given, form, driver)
    run.program = on_device.Program(driver.load(change(lowered.source), lowered.layout), lowered.layout)
    return _after(run, given, [steps], 0)


def without_barrier(source: str, before: str) -> str:
    """A source without the barrier that stands before some text."""
    at = source.index(before)
    head, barrier, between = source[:at].rpartition("__syncthreads();")
    assert barrier
    assert not between.strip()
    return head + source[at:]


@pytest.mark.parametrize(
    ("form", "before"),
    [
        ("unrolled", "const int here"),  # between the rows of vectors and their products
        ("unrolled", "}\nShared<"),  # between products of a tile and the rows of the next
        (
            "unrolled",
            "#pragma unroll 1\n  for (int i = thread; i < n; i += W) {\n    T sum = partial",
        ),  # between sums of warps and theirs
        ("unrolled", "for (int64_t t = first"),  # between what is known from the start and the steps
        ("looped", "{\nconst int here"),  # between a tile and its sums
        ("looped", "}\nf"),  # between sums and what is made of them
    ],
)
def test_where_a_barrier_is_missing_another_order_of_threads_gives_other_numbers(before, form):
    """So that a race does not go unseen; with all barriers the numbers are those of every other test."""
    make = trained(MEMORY, batch=300)
    whole = changed(make(), form, Emulated(1), lambda source: source)
    assert_same_bits(whole, by_kernel(make(), form, Emulated(1), [2]))
    found = [changed(make(), form, Emulated(1, o), lambda source: without_barrier(source, before)) for o in ORDERS]
    assert any(differ(found[0], other) for other in found[1:])


@pytest.mark.parametrize(
    ("form", "right", "wrong"),
    [
        ("looped", "for (int n = 16; n; n /= 2) x +=", "for (int n = 8; n; n /= 2) x +="),
        ("unrolled", "x[i] = kept + __shfl_xor_sync(0xffffffffu, given, n)", "x[i] = kept"),
        ("unrolled", "if (k < prompts) {", "{"),
        ("looped", "prompts - start < W ? prompts - start : W", "W"),
        ("looped", "(uint32_t)(begin + k)", "(uint32_t)(begin + k + 1)"),
    ],
)
def test_a_kernel_that_is_wrong_is_found_to_be(form, right, wrong):
    make = trained(MEMORY)

    def mistaken(source: str) -> str:
        assert right in source
        return source.replace(right, wrong)

    found = changed(make(), form, Emulated(), mistaken)
    with pytest.raises(AssertionError, match=r"is wrong by|norm"):
        assert_close(found, by_cpu(make(), form, [2]))


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("if (thread < 5) __syncthreads();", "a barrier that only 5 of 64 threads reach"),
        ("if (thread < 5) __shfl_xor_sync(0xffffffffu, 1.0f, 1);", "an exchange that only 5 lanes of a warp take part"),
        ("if (thread != 40) warp_total(1.0f);", "an exchange that only 31 lanes of a warp take part"),
    ],
)
def test_threads_that_do_not_come_along_end_the_process(lines, said):
    """In a process of its own. Where all of them do, it ends well."""
    for body, code in ((lines, -signal.SIGABRT), ("__syncthreads(); warp_total(1.0f);", 0)):
        source = HEADER.read_text() + Cuda(block=64).kernel("", 1, [body]) + START
        library = cache.folder() / cpp.compile(source, THREADS.read_text())
        start = f"ctypes.CDLL({str(library)!r}).start(ctypes.create_string_buffer(48), 1, 64, 0)"
        ended = subprocess.run([sys.executable, "-c", f"import ctypes; {start}"], capture_output=True, text=True)
        assert ended.returncode == code, ended.stderr
        assert (said in ended.stderr) == (code != 0)


# Products.


class Vectors:
    """Vectors of numbers that each prompt has."""

    def __init__(self) -> None:
        self.built, self.drawn = Registers(8, 10_000), itertools.count()

    def vector(self, size: int) -> list[Expr]:
        numbers = [next(self.drawn) for _ in range(size)]
        variates = [self.built.expr("variate", (), "float", detail=("normals", n, 0), level=PROMPT) for n in numbers]
        return [self.built.call("f_exp", variate) for variate in variates]

    def grid(self, left: Sequence[Expr], right: Sequence[Expr]) -> list[Expr]:
        return [self.built.binary("*", a, b) for a in left for b in right]


def assert_complete(found: Sequence[Products], terms: Sequence[Expr]) -> None:
    """Each term is one of the products, at its place, and none is there twice."""
    places = [place for one in found for place in one.places]
    assert sorted(places) == list(range(len(terms)))
    for one in found:
        assert len(one.places) == len(one.left) * len(one.right) <= MOST
        for place, (a, b) in zip(one.places, itertools.product(one.left, one.right), strict=True):
            assert set(terms[place].args) == {a, b}


@pytest.mark.parametrize(
    ("p", "q", "parts"),
    [(3, 3, 1), (9, 1, 1), (1, 9, 1), (4, 7, 1), (8, 8, 1), (12, 12, 3), (2, 40, 2), (40, 2, 2), (1, 100, 4)],
)
def test_all_products_of_two_vectors_are_found_and_divided(p, q, parts):
    vectors = Vectors()
    terms = vectors.grid(vectors.vector(p), vectors.vector(q))
    for order in (terms, terms[::-1]):
        found = list(products_of(enumerate(order)))
        assert_complete(found, order)
        assert len(found) in (parts, parts + 1)


def test_pairs_of_vectors_are_told_apart_and_those_with_a_vector_in_common_are_one():
    vectors = Vectors()
    a, b, c, d, e = (vectors.vector(3) for _ in range(5))
    terms = [*vectors.grid(a, b), *vectors.grid(d, c), *vectors.grid(c, e)]
    found = list(products_of(enumerate(terms)))
    assert_complete(found, terms)
    assert sorted(sorted(one.shape) for one in found) == [[3, 3], [3, 6]]


def _incomplete(vectors: Vectors) -> list[Expr]:
    return vectors.grid(vectors.vector(4), vectors.vector(4))[:-1]


def _squares(vectors: Vectors) -> list[Expr]:
    return [vectors.built.binary("*", a, a) for a in vectors.vector(12)]


def _symmetric(vectors: Vectors) -> list[Expr]:
    a = vectors.vector(5)
    return vectors.grid(a, a)


def _triangle(vectors: Vectors) -> list[Expr]:
    a, b, c = (vectors.vector(3) for _ in range(3))
    return [*vectors.grid(a, b), *vectors.grid(b, c), *vectors.grid(a, c)]


def _too_small(vectors: Vectors) -> list[Expr]:
    return [term for _ in range(9) for term in vectors.grid(vectors.vector(2), vectors.vector(4))]


def _sums(vectors: Vectors) -> list[Expr]:
    return [vectors.built.binary("+", a, b) for a in vectors.vector(4) for b in vectors.vector(4)]


def _of_members(vectors: Vectors) -> list[Expr]:
    memory = Memory("state_0", "float", 4, MEMBER)
    return vectors.grid(vectors.vector(4), [vectors.built.load(memory, i) for i in range(4)])


@pytest.mark.parametrize("make", [_incomplete, _squares, _symmetric, _triangle, _too_small, _sums, _of_members])
def test_other_terms_are_left_alone(make):
    """And do not keep what stands beside them from being found."""
    vectors = Vectors()
    others = make(vectors)
    assert not list(products_of(enumerate(others)))
    grid = vectors.grid(vectors.vector(4), vectors.vector(4))
    found = list(products_of(enumerate([*others, *grid])))
    assert [place - len(others) for one in found for place in one.places] == list(range(16))
