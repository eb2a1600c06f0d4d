"""Machine code against PyTorch: operation by operation, then whole trainings and tests of everything that ships."""

from __future__ import annotations

import logging
import subprocess
import sys
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import pytest
import torch

from lfombench.harness import PROTOCOLS, Job
from lfombench.harness.compiler import cpp, lower
from lfombench.harness.compiler.cpp import Native, NoCompiler
from lfombench.harness.compiler.inductor import Inductor
from lfombench.harness.compiler.ir import NotLowerable
from lfombench.harness.compiler.select import program
from lfombench.harness.compiler.step import Eager, Step
from lfombench.harness.compiler.streams import keys
from lfombench.harness.training import evaluate, train
from lfombench.harness.training.closed_form import fit
from lfombench.harness.training.pack import WorkOrder
from lfombench.harness.training.training_step import initial, training
from lfombench.solvers import (
    Bayes,
    BestKrylov,
    BestLfom,
    Chebyshev,
    ConjugateGradient,
    GdPlusPlus,
    GradientDescent,
    HeavyBall,
    LBfgs,
    Lfom,
    LinearTransformer,
    Memformer,
    Method,
    Nesterov,
    Newton,
    Ridge,
    SoftmaxTransformer,
)
from lfombench.tasks import CATALOG, LinearRegression
from tests.builders import order

CPU = torch.device("cpu")
TASK = LinearRegression(d=3, n=6, spectrum=(1.0, 0.5, 2.0), noise=0.1)


def pack(solver, jobs=2, task=TASK, **protocol) -> WorkOrder:
    options = {"steps": 12, "batch": 20, "test_prompts": 70, "validation_prompts": 33, "learning_rates": (0.01, 0.1)}
    chosen = replace(PROTOCOLS["rigorous"], **(options | protocol))
    return order(tuple(Job.of(task=task, solver=solver, protocol=chosen, seed=seed) for seed in range(jobs)))


def both(given: WorkOrder, first: int, count: int, form: str = "unrolled"):
    """Records and state after some steps, by machine code and eagerly."""
    found = []
    for engine in (form, "eager"):
        step, job, state, key = training(given, CPU)
        found.append((program(step, job, state, key, count, engine)(first, count), state))
    return found


TRAINED = [
    *(LinearTransformer(depth=2, preconditioner=p) for p in ("scalar", "diagonal", "full")),
    *(Memformer(depth=2, memory="cgd", preconditioner=p) for p in ("scalar", "full")),
]
VARIANTS: list[dict[str, Any]] = [
    {},
    {"renew": 3, "clip": 0.01},
    {"renew": None, "schedule": "constant"},
    {"draw": "examples", "query": "sampled"},
]
# What draws prompts, the schedule and clipping know no solver, and no solver them: each meets two of the others.
PAIRS = [(solver, VARIANTS[k % 4]) for i, solver in enumerate(TRAINED) for k in (i, i + 1)]


@pytest.mark.parametrize(("form", "batch"), [("unrolled", 3), ("looped", 45)])
@pytest.mark.parametrize(("solver", "protocol"), PAIRS, ids=repr)
def test_training_is_what_is_written(solver, protocol, form, batch):
    (ours, state), (theirs, expected) = both(pack(solver, batch=batch, **protocol), 0, 8, form)
    for name in ("loss", "norm"):
        assert torch.allclose(ours[name], theirs[name], rtol=1e-4), name
    for name, x in expected.items():
        if name.startswith("p."):
            assert torch.allclose(state[name], x, rtol=1e-3, atol=1e-4), name
    assert torch.equal(state["alive"], expected["alive"])


@pytest.mark.parametrize(("form", "batch"), [("unrolled", 16), ("looped", 32)])
def test_training_on_batches_that_fill_up(form, batch):
    test_training_is_what_is_written(LinearTransformer(depth=2, preconditioner="full"), {}, form, batch)


@pytest.mark.parametrize("form", ["unrolled", "looped"])
@pytest.mark.parametrize(
    ("solver", "rotation"),
    [
        (ConjugateGradient(depth=3), "none"),
        (GradientDescent(depth=3, step=0.2), "per_seed"),
        (Memformer(depth=2, memory="cgd", preconditioner="diagonal"), "per_prompt"),
        (BestLfom(depth=2, preconditioner="identity"), "per_seed"),
        (BestLfom(depth=2, preconditioner="covariance"), "per_prompt"),
    ],
    ids=repr,
)
def test_every_shipped_method_is_tested_by_machine_code(solver, rotation, form):
    given = pack(solver, task=replace(TASK, rotation=rotation))
    params = fit(given, CPU).params if solver.family == "bound" else {}
    if solver.family == "learned":
        params = {name: p[0] for name, p in initial(given, CPU).items()}
    expected = evaluate.test(given, params, None, CPU)
    found = evaluate.test(replace(given, engine=form), params, None, CPU)
    assert found.shape == expected.shape == (2, solver.depth + 1, 70)
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-7)


TASKS: list[Any] = list(CATALOG.values())
NEW = [
    Lfom(depth=3, coefficients="diagonal"),
    HeavyBall(depth=3, step="tuned", momentum="per_layer"),
    Chebyshev(depth=3, interval="tuned", preconditioner="covariance"),
    LinearTransformer(depth=3, preconditioner="diagonal", looped=True, heads=2),
    Memformer(depth=2, memory="lfom", preconditioner="full", gate="diagonal", free=True),
    Memformer(depth=2, memory="lfom", preconditioner="full", gate="token"),
    GdPlusPlus(depth=2, memory="lfom"),
    SoftmaxTransformer(depth=2),
]


@pytest.mark.parametrize("form", ["unrolled", "looped"])
@pytest.mark.parametrize("solver", NEW, ids=repr)
def test_every_kind_of_memory_is_trained_by_machine_code(solver, form):
    (ours, state), (theirs, expected) = both(pack(solver, batch=16), 0, 8, form)
    assert torch.allclose(ours["loss"], theirs["loss"], rtol=1e-4)
    for name, x in expected.items():
        if name.startswith("p."):
            assert torch.allclose(state[name], x, rtol=1e-3, atol=1e-4), name


@pytest.mark.parametrize(
    ("solver", "task"),
    [
        *(
            (solver, TASK)
            for solver in (
                BestKrylov(depth=2, preconditioner="covariance"),
                Bayes(depth=2),
                Ridge(depth=2, penalty=0.1),
                LBfgs(depth=3, memory=2),
                Chebyshev(depth=3, interval="theory"),
                Nesterov(depth=3, step="theory", momentum=0.5),
                ConjugateGradient(depth=3, preconditioner="jacobi"),
            )
        ),
        *((Newton(depth=2), replace(task, d=3, n=6, spectrum=None)) for task in TASKS),
    ],
    ids=repr,
)
def test_every_bound_and_task_is_tested_by_machine_code(solver, task):
    given = pack(solver, task=task)
    expected = evaluate.test(given, {}, None, CPU)
    found = evaluate.test(replace(given, engine="looped"), {}, None, CPU)
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("form", ["unrolled", "looped"])
def test_a_member_does_not_depend_on_its_neighbours_to_the_bit(form):
    """Alone, beside others, in another order, in one call or several: the same bits, training and test."""
    solver = Memformer(depth=3, memory="cgd", preconditioner="full")
    given = pack(solver, jobs=5)

    def trained(jobs, cuts=(12,)):
        step, job, state, key = training(order(jobs), CPU)
        advance, first = program(step, job, state, key, 12, form), 0
        for count in cuts:
            advance(first, count)
            first += count
        return {name: x for name, x in state.items() if name[0] == "p"}

    together = trained(given.jobs)
    turned = trained(given.jobs[::-1], cuts=(5, 7))
    for j, one in enumerate(given.jobs):
        alone = trained((one,))
        for name, x in together.items():
            assert torch.equal(alone[name][:, 0], x[:, j])
            assert torch.equal(turned[name][:, 4 - j], x[:, j])


OPERATIONS = {
    "arithmetic": lambda x, y: x + 2 * y - x / (y * y + 1) - 3,
    "alpha": lambda x, y: torch.sub(x, y, alpha=2),
    "powers": lambda x, y: (
        x**2 + x.square() * y + y.abs() ** 0.5 + x**3 + (1 + y * y).rsqrt() + (1 + x * x).reciprocal()
    ),
    "functions": lambda x, y: x.exp() + (1 + y * y).log() + (x * x).sqrt() + x.sin() * y.cos() + y.tanh() + x.sigmoid(),
    "signs": lambda x, y: x.abs() * y.sign() + torch.relu(x) + torch.maximum(x, y) - torch.minimum(x, y),
    "choice": lambda x, y: torch.where((x > y) & (x < 1) | ~(y >= 0), x, y * 2),
    "scalar choice": lambda x, y: torch.where(x == y, 0.0, x / (y + 4)),
    "matrix": lambda x, y: (x.unsqueeze(1) * y.unsqueeze(2)).sum(1),
    "views": lambda x, y: torch.cat([x[:, 1:], x[:, :1]], 1) + y.unsqueeze(1).expand(-1, 2, -1, -1)[:, 1],
    "reshape": lambda x, y: x.unflatten(1, (2, 2)).transpose(1, 2).flatten(1, 2) * y,
    "stack": lambda x, y: torch.stack([x[:, 0], y[:, 1], x[:, 2], y[:, 3]], 1),
    "constants": lambda x, y: x * torch.eye(4, dtype=x.dtype)[:, :1] + torch.ones_like(y) - torch.zeros_like(y),
    "places": lambda x, y: x[:, torch.tensor([3, 1, 0, -4])] + y.select(1, 2).unsqueeze(1),
    "uneven views": lambda x, y: (x.unsqueeze(1) * y.unsqueeze(2)).flatten(1, 2)[:, 1:13].unflatten(1, (3, 4)).sum(1),
    "overwritten": lambda x, y: torch.select_scatter(x, y[:, 1], 1, 2) + torch.slice_scatter(y, x[:, :2], 1, 1, 3),
    "einsum": lambda x, y: torch.einsum("jip,jkp,jkp->jip", x, y, y),
    "mean": lambda x, y: x - x.mean(1, keepdim=True) + y.norm(dim=1, keepdim=True),
    "in place": lambda x, y: x.clone().mul_(2).add_(y),
    "types": lambda x, y: x.float().to(x.dtype) + (y > 0).to(x.dtype),
}


@pytest.mark.parametrize(
    ("form", "dtype"), [("unrolled", torch.float64), ("looped", torch.float32), ("looped", torch.float64)]
)
def test_operations_and_their_gradients(dtype, form):
    """Every rule, forward and backward, all in one program, on a batch that does not fill its last eight."""

    def update(job, state, batch, t):
        changes, records = {}, {}
        for name, operation in OPERATIONS.items():

            def total(scale, operation=operation):
                value = operation(scale[0, :, :, None] * batch, batch + job["shift"][:, :, None])
                return value.sum(), value

            gradient, value = torch.func.grad(total, has_aux=True)(state[name])
            changes[name] = state[name] - 0.01 * gradient
            records[name] = value.sum((1, 2)).unsqueeze(0)
        return changes, records

    found = []
    for engine in (form, "eager"):
        step = Step(lambda job, random, n: random.normal(4, n), update, 13, 1, dtype)
        state = {name: torch.linspace(0.5, 1.5, 12, dtype=dtype).view(1, 3, 4) for name in OPERATIONS}
        job = {"shift": torch.linspace(-1, 1, 12, dtype=dtype).view(3, 4)}
        records = program(step, job, state, keys([("x", i) for i in range(3)], CPU), 3, engine)(0, 3)
        found.append((records, state))
    for part, (ours, theirs) in {"value": (found[0][0], found[1][0]), "gradient": (found[0][1], found[1][1])}.items():
        for name in OPERATIONS:
            assert torch.allclose(ours[name], theirs[name], rtol=2e-5, atol=1e-4), f"{part} of {name}"


def test_what_cannot_be_lowered_says_so_and_runs_eagerly(caplog):
    def update(job, state, batch, t):
        return {}, {"value": torch.linalg.det(torch.einsum("jip,jkp->jik", batch, batch)).unsqueeze(0)}

    step = Step(lambda job, random, n: random.normal(4, n), update, 16, 1, torch.float64)
    key = keys([("x",)], CPU)
    with pytest.raises(NotLowerable, match=r"the operation aten\._linalg_det"):
        Native(step, {}, {}, key)
    with caplog.at_level(logging.WARNING):
        run = program(step, {}, {}, key, calls=1100)  # enough for machine code to pay, not for torch.compile
    found = run(0, 2)["value"]
    assert found.shape == (2, 1, 1)
    assert "runs eagerly, not compiled: the operation aten._linalg_det" in caplog.text


def test_packs_of_one_program_are_traced_once_and_a_class_defined_anew_is_another():
    """As in a notebook, where a cell with a solver is run again after a change of its equations."""
    runs: list[float] = []

    def descent(factor):
        @dataclass(frozen=True, kw_only=True)
        class Descent(Method):
            family: ClassVar[Literal["learned"]] = "learned"

            def init(self, d, n, normal):
                return {"rate": normal(self.depth)}

            def iterates(self, params, problem):
                w = problem.start()
                runs.append(factor)
                yield w
                for l in range(self.depth):
                    w = w - factor * params["rate"][..., l, None, None] * problem.gradient(w)
                    yield w

        return Descent(depth=2)

    def loss(solver, jobs):
        step, job, state, key = training(pack(solver, jobs), CPU)
        runs.clear()  # its contract was checked
        return Native(step, job, state, key)(0, 1)["loss"]

    first = descent(1.0)
    once = loss(first, 2)
    assert runs
    assert torch.equal(loss(first, 3)[..., :2], once)
    assert not runs
    again = loss(descent(3.0), 2)
    assert set(runs) == {3.0}
    assert not torch.equal(again, once)


def test_a_step_too_large_to_write_out_runs_as_loops():
    """Of a size where a line would have millions of operations: the same numbers, with code that does not grow."""
    small, large = (
        pack(LinearTransformer(depth=2, preconditioner="full"), task=LinearRegression(d=d, n=40), batch=16)
        for d in (16, 32)
    )
    lengths = []
    for given in (small, large):
        step, job, state, _ = training(given, CPU)
        lengths.append(lower.lower(step, cpp.shapes(job, 1), cpp.shapes(state, 2)).source.count("\n"))
    assert lengths[1] <= 1.1 * lengths[0]
    (ours, state), (theirs, expected) = both(large, 0, 3)
    assert torch.allclose(ours["loss"], theirs["loss"], rtol=1e-4)
    assert torch.allclose(state["p.A"], expected["p.A"], rtol=1e-3, atol=1e-4)


def test_without_a_compiler_the_numbers_are_the_same(monkeypatch, caplog):
    given = pack(LinearTransformer(depth=1, preconditioner="scalar"), batch=1999)
    expected = train.run(replace(given, engine="eager"), CPU)[0].losses
    monkeypatch.setenv("PATH", "")
    with caplog.at_level(logging.WARNING):
        assert torch.equal(train.run(given, CPU)[0].losses, expected)
    assert "no C++ compiler (g++ or clang++) on the path" in caplog.text


def test_a_compiler_that_fails_is_told(monkeypatch, tmp_path):
    broken = tmp_path / "g++"
    broken.write_text("#!/bin/sh\necho out of order >&2; exit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("LFOMBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CXX", str(broken))
    with pytest.raises(NoCompiler, match="out of order"):
        cpp.compiled("int main() {}")
    assert not list((tmp_path / "cache").iterdir())


def test_code_is_compiled_once_for_all_processes(monkeypatch, tmp_path):
    monkeypatch.setenv("LFOMBENCH_CACHE", str(tmp_path))
    source = 'extern "C" void run(void**, const long* n) { *(long*)n = 7; }'
    cpp.compiled(source)
    [library] = tmp_path.iterdir()
    stamp = library.stat().st_mtime_ns
    again = f"from lfombench.harness.compiler.cpp import compiled; compiled({source!r})"
    subprocess.run([sys.executable, "-c", again], check=True)
    assert [path.stat().st_mtime_ns for path in tmp_path.iterdir()] == [stamp]


@pytest.mark.parametrize(
    "solver",
    [
        GdPlusPlus(depth=1),
        LinearTransformer(depth=2, preconditioner="full", tokens=True),
        Memformer(depth=2, memory="cgd", preconditioner="scalar", tokens=True),
    ],
    ids=repr,
)
@pytest.mark.parametrize("form", ["unrolled", "looped"])
def test_token_models_train_as_eager_ones(solver, form):
    (ours, state), (theirs, expected) = both(pack(solver), 0, 5, form)
    assert torch.allclose(ours["loss"], theirs["loss"], rtol=1e-4)
    for name, x in expected.items():
        if name.startswith("p."):
            assert torch.allclose(state[name], x, rtol=1e-3, atol=1e-4), name


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # torch's own
@pytest.mark.parametrize("renew", [1, 3, None])
def test_torch_compile_trains_as_eager_does(renew):
    """The path of a GPU, here on the CPU, without its graphs: several calls, of the same program."""
    task = LinearRegression(d=3, n=12)  # enough degrees of freedom for the quantile
    given = pack(Memformer(depth=1, memory="cgd", preconditioner="full"), task=task, batch=16, renew=renew)
    found = []
    for runner in (Inductor, Eager):
        step, job, state, key = training(given, CPU)
        run = runner(step, job, state, key)
        records = [run(0, 3), run(3, 4)]
        found.append((torch.cat([r["loss"] for r in records]), state["p.A"]))
    for ours, theirs in zip(*found, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no CUDA device")
@pytest.mark.parametrize("renew", [1, 3, None])
def test_a_gpu_trains_as_the_cpu_does(renew):
    """Captured in CUDA graphs, over more than one block of steps, and with a rest."""
    given = pack(Memformer(depth=2, memory="cgd", preconditioner="full"), steps=60, renew=renew)
    found = []
    for runner, device in ((Inductor, torch.device("cuda")), (Eager, CPU)):
        step, job, state, key = training(given, device)
        run = runner(step, job, state, key)
        records = [run(0, 45), run(45, 15)]
        found.append((torch.cat([r["loss"] for r in records]).cpu(), state["p.A"].cpu()))
    for ours, theirs in zip(*found, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-3, atol=1e-5)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_what_nothing_compiles_runs_eagerly(caplog):
    """A solver that branches on a value."""

    def update(job, state, batch, t):
        return {}, {"value": (batch if batch.sum() > 0 else -batch).sum((1, 2)).unsqueeze(0)}

    step = Step(lambda job, random, n: random.normal(4, n), update, 16, 1, torch.float64)
    with caplog.at_level(logging.WARNING):
        run = program(step, {}, {}, keys([("x",)], CPU), calls=11_000)
    assert isinstance(run, Eager)
    assert run(0, 2)["value"].min() > 0
    assert "runs eagerly, not compiled: the trace:" in caplog.text
    assert "; torch.compile:" in caplog.text
