"""Sweeps and ids: what is one job, what is another, and what cannot be meant."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from lfombench.harness import PROTOCOLS, Job, Sweep, load
from lfombench.harness.errors import SpecError
from lfombench.harness.spec.labels import label
from lfombench.solvers import ConjugateGradient, GradientDescent, LinearTransformer, Memformer
from lfombench.tasks import LinearRegression

GOOD = """\
name: good
protocol: {use: rigorous, steps: 50}
seeds: 2
tasks:
  - linear_regression: {d: 2, n: 3, spectrum: [1, 0.5]}
solvers:
  - conjugate_gradient: {depth: 4}
  - memformer: {memory: cgd, preconditioner: {each: [scalar, full]}, depth: {each: [1, 2]}}
"""


def parse(tmp_path: Path, text: str) -> Sweep:
    path = tmp_path / "sweep.yaml"
    path.write_text(text)
    return load(str(path))


def test_a_sweep_is_the_product_of_its_parts(tmp_path):
    sweep = parse(tmp_path, GOOD)
    jobs = list(sweep.jobs())
    assert len(jobs) == len(sweep) == 2 * (1 + 4)
    assert len({job.id for job in jobs}) == 10
    assert [label(s) for s in sweep.solvers[:2]] == [
        "conjugate_gradient",
        "memformer(memory=cgd, preconditioner=scalar)",
    ]
    assert label(sweep.tasks[0]) == "linear_regression(d=2, n=3, spectrum=[1, 0.5])"
    assert label(sweep.protocols[0]) == "rigorous(steps=50)"


def test_fig1_is_the_papers_figure():
    sweep = load("fig1")
    assert len(sweep) == 2 * 32 * 5
    assert {p.use for p in sweep.protocols} == {"published", "rigorous"}


def test_yaml_and_python_name_the_same_jobs(tmp_path):
    path = tmp_path / "sweep.py"
    path.write_text(
        "from dataclasses import replace\n"
        "from lfombench.harness import PROTOCOLS, Sweep\n"
        "from lfombench.solvers import ConjugateGradient, Memformer\n"
        "from lfombench.tasks import LinearRegression\n"
        "sweep = Sweep(name='good', protocols=[replace(PROTOCOLS['rigorous'], steps=50)], seeds=range(2),\n"
        "    tasks=[LinearRegression(d=2, n=3, spectrum=(1.0, 0.5))],\n"
        "    solvers=[ConjugateGradient(depth=4), *(Memformer(memory='cgd', preconditioner=p, depth=L)\n"
        "        for p in ('scalar', 'full') for L in (1, 2))])\n"
    )
    assert [job.id for job in load(str(path)).jobs()] == [job.id for job in parse(tmp_path, GOOD).jobs()]


@pytest.mark.parametrize(
    ("written", "as_well"),
    [("steps: 50", "steps:   50"), ("spectrum: [1, 0.5]", "spectrum: [1.0, 5e-1]"), ("[1, 0.5]", "[1e0, .5]")],
)
def test_equal_meanings_are_equal_jobs(tmp_path, written, as_well):
    assert [j.id for j in parse(tmp_path, GOOD).jobs()] == [
        j.id for j in parse(tmp_path, GOOD.replace(written, as_well)).jobs()
    ]


def test_an_id_depends_on_everything_that_decides_the_numbers():
    base = Job.of(
        task=LinearRegression(d=2, n=3), solver=ConjugateGradient(depth=2), protocol=PROTOCOLS["rigorous"], seed=0
    )
    others = [
        replace(base, seed=1),
        base.having(solver=ConjugateGradient(depth=3)),
        base.having(solver=GradientDescent(depth=2, step="per_layer")),
        base.having(task=LinearRegression(d=2, n=4)),
        base.having(task=LinearRegression(d=2, n=3, noise=0.1)),
        base.having(protocol=replace(PROTOCOLS["rigorous"], steps=7)),
    ]
    assert len({job.id for job in [base, *others]}) == 7
    assert base.id == "65dfa56baec387eafff5"  # pinned: stores on disk depend on it


ERRORS = [
    ("unknown key at the top", ("seeds: 2", "sedes: 2"), 3, "unknown key 'sedes'", "did you mean 'seeds'?"),
    ("unknown field", ("{d: 2,", "{dd: 2,"), 5, "unknown key 'dd'", "did you mean 'd'?"),
    (
        "unknown solver",
        ("conjugate_gradient:", "conjugate_gradients:"),
        7,
        "unknown solver 'conjugate_gradients'",
        "did you mean 'conjugate_gradient'?",
    ),
    (
        "unknown task",
        ("linear_regression:", "linear_regresion:"),
        5,
        "unknown task",
        "did you mean 'linear_regression'?",
    ),
    ("unknown protocol", ("use: rigorous", "use: rigourous"), 2, "unknown protocol", "did you mean 'rigorous'?"),
    ("misspelt choice", ("memory: cgd", "memory: cdg"), 8, 'memory: got "cdg"', "did you mean 'cgd'?"),
    (
        "misspelt choice in a grid",
        ("[scalar, full]", "[scalar, fulll]"),
        8,
        'preconditioner: got "fulll"',
        "did you mean 'full'?",
    ),
    ("text for a number", ("steps: 50", "steps: many"), 2, 'steps: got "many"', "must be a valid integer"),
    ("quoted number", ("d: 2", "d: '2'"), 5, 'd: got "2"', "must be a valid integer"),
    ("fraction for a whole number", ("depth: 4", "depth: 4.5"), 7, "depth: got 4.5", "integer"),
    ("depth 0", ("depth: 4", "depth: 0"), 7, "depth: got 0", "greater than or equal to 1"),
    ("negative depth", ("depth: 4", "depth: -2"), 7, "depth: got -2", "greater than or equal to 1"),
    ("n of 0", ("n: 3", "n: 0"), 5, "n: got 0", "greater than or equal to 1"),
    ("spectrum of the wrong length", ("[1, 0.5]", "[1, 0.5, 1]"), 5, "spectrum: got 3 numbers", "needs d = 2"),
    ("spectrum with a zero", ("[1, 0.5]", "[1, 0]"), 5, "has zeros", "no Sigma^{-1}"),
    ("empty grid", ("{each: [1, 2]}", "{each: []}"), 8, "a grid needs a list that is not empty", ""),
    ("bare list for a grid", ("{each: [1, 2]}", "[1, 2]"), 8, "got [1, 2]", "for a grid write {each: [...]}"),
    ("mapping that is no grid", ("{each: [1, 2]}", "{every: [1, 2]}"), 8, "can only be a grid", ""),
    ("missing field", ("{memory: cgd, ", "{"), 8, "memory is missing", ""),
    (
        "missing key",
        ("seeds: 2\ntasks:\n  - linear_regression: {d: 2, n: 3, spectrum: [1, 0.5]}\n", ""),
        1,
        "'tasks' is missing",
        "",
    ),
    ("no seeds", ("seeds: 2", "seeds: 0"), 3, "seeds", "number of seeds from 1"),
    ("seeds twice the same", ("seeds: 2", "seeds: [1, 1]"), None, "seeds: 1 is given twice", ""),
    (
        "solver twice",
        ("solvers:", "solvers:\n  - conjugate_gradient: {depth: 4}"),
        8,
        "conjugate_gradient of depth 4 is given twice",
        "first on line 7",
    ),
    ("key twice", ("seeds: 2", "seeds: 2\nseeds: 3"), 4, "'seeds' stands twice", "first on line 3"),
    ("field twice", ("depth: 4", "depth: 4, depth: 5"), 7, "'depth' stands twice", ""),
    (
        "solvers no list",
        ("  - conjugate_gradient: {depth: 4}\n  - memformer:", "  memformer:"),
        7,
        "must be a list of solvers",
        "",
    ),
    (
        "empty tasks",
        ("tasks:\n  - linear_regression: {d: 2, n: 3, spectrum: [1, 0.5]}", "tasks: []"),
        4,
        "not empty",
        "",
    ),
    ("a date", ("seeds: 2", "seeds: 2024-01-01"), 3, "seeds", "number of seeds from 1"),
    ("bytes", ("seeds: 2", "seeds: !!binary aGVsbG8="), 3, "no plain value", "bytes"),
    ("no such number", ("depth: 4", "depth: !!int abc"), 7, "no plain value", ""),
    ("a protocol that is a list", ("use: rigorous", "use: [rigorous]"), 2, "unknown protocol", ""),
    ("an alias in itself", ("seeds: 2", "seeds: &a [*a]"), None, "contains itself", ""),
    ("half a character", ("name: good", 'name: good\nabout: "\\ud800"'), 2, "no plain value", ""),
    ("merge keys", ("seeds: 2", "<<: {}"), 3, "merge keys (<<) are not supported", ""),
    ("too many seeds", ("seeds: 2", "seeds: 1000000000"), 3, "from 1 to 1,000,000", ""),
    ("a seed past 64 bits", ("seeds: 2", "seeds: [9223372036854775808]"), 3, "list of whole numbers", ""),
    ("infinite", ("spectrum: [1, 0.5]", "spectrum: [1, .inf]"), 5, "spectrum: got inf, must be finite", ""),
    ("out of all proportion", ("d: 2,", "d: 999999999999999999999,"), 5, "less than or equal to 10000", ""),
    ("a name that hides", ("name: good", "name: ..."), 1, "no '.' in front", ""),
    ("tests that are no list", ("seeds: 2", "seeds: 2\ntests: 0"), 4, "must be a list of tasks", ""),
    (
        "withheld against a test",
        ("steps: 50}", "withheld: 2}\ntests: [linear_regression: {d: 2, n: 2}]"),
        None,
        "leaves none",
        "n = 2",
    ),
    ("a name from the catalogue", ("linear_regression: {d", "figure_2: {d"), 5, "unknown task 'figure_2'", ""),
    (
        "a task that has no quadratic risk",
        ("linear_regression: {d: 2", "logistic: {d: 2"),
        7,
        "needs a quadratic risk",
        "",
    ),
    ("degrees that are missing", ("n: 3,", "n: 3, covariates: gamma,"), 5, "degrees: gamma covariates need them", ""),
    ("degrees of the sphere", ("n: 3,", "n: 3, covariates: sphere, degrees: 4,"), 5, "sphere covariates have none", ""),
    (
        "a theory that there is not",
        ("conjugate_gradient: {", "gradient_descent: {step: theory, preconditioner: jacobi, "),
        7,
        "no theory",
        "",
    ),
    ("a coefficient that is a word", ("conjugate_gradient: {", "gradient_descent: {step: best, "), 7, "step", "theory"),
    ("a gate that cgd has not", ("memory: cgd,", "memory: cgd, gate: token,"), 8, "memory cgd has numbers alone", ""),
    (
        "an axis that is not there",
        ("seeds: 2", "seeds: 2\naxis: task.tales"),
        4,
        "no task here has a field 'tales'",
        "",
    ),
    ("an axis of nothing", ("seeds: 2", "seeds: 2\naxis: noise"), 4, "allowed: task.FIELD", ""),
    (
        "a split that is no field",
        ("seeds: 2", "seeds: 2\nsplit: 3"),
        4,
        "split: got 3, must be a field or a list of fields",
        "",
    ),
    (
        "a crossover without names",
        ("seeds: 2", "seeds: 2\naxis: task.n\ncrossover: [a, b]"),
        5,
        "no solver is named 'a'",
        "",
    ),
    ("a crossover of one", ("seeds: 2", "seeds: 2\naxis: task.n\ncrossover: [a]"), 5, "is of two named solvers", ""),
    ("a split of nothing", ("seeds: 2", "seeds: 2\nsplit: [task.d, depth]"), 4, "allowed: task.FIELD", ""),
    ("tuning what nobody has", ("steps: 50", "tune: {step: [0.1]}"), 2, "no solver here has a float 'step'", ""),
    ("tuning no values", ("steps: 50", "tune: {beta1: []}"), 2, "tune", "at least 1"),
    (
        "a plateau without cycles",
        ("steps: 50", "cycle: null, halving: null"),
        2,
        "plateau: is judged between cycles",
        "",
    ),
    ("training prompts to test on", ("steps: 50", "test_on: training"), 2, "fixed batch", ""),
    ("own class that does nothing", ("conjugate_gradient:", "'lfombench.solvers:Method':"), 7, "lacks iterates", ""),
    ("not YAML", ("tasks:", "tasks: ]"), 4, "not YAML", ""),
    ("bad name", ("name: good", "name: a/b"), None, "name: got 'a/b'", "100 letters"),
    ("withheld leaves nothing", ("steps: 50", "withheld: 3"), 7, "leaves none", "n = 3"),
    (
        "impossible protocol",
        ("steps: 50", "draw: statistics, query: sampled"),
        2,
        "query: a sampled query needs draw: examples",
        "",
    ),
    ("no learning rate", ("steps: 50", "learning_rates: []"), 2, "learning_rates: got []", "at least 1"),
    (
        "own class that is not there",
        ("conjugate_gradient:", "'no.such:Thing':"),
        7,
        "cannot be imported",
        "No module named",
    ),
    (
        "own class of the wrong kind",
        ("conjugate_gradient:", "'lfombench.tasks:LinearRegression':"),
        7,
        "is not a solver",
        "",
    ),
    (
        "test task of another d",
        ("seeds: 2", "seeds: 2\ntests: [linear_regression: {d: 3, n: 3}]"),
        None,
        "has d = 3",
        "has d = 2",
    ),
]


@pytest.mark.parametrize(("change", "line", "says", "and_says"), [e[1:] for e in ERRORS], ids=[e[0] for e in ERRORS])
def test_bad_input_is_named_with_its_place(tmp_path, change, line, says, and_says):
    assert change[0] in GOOD
    with pytest.raises(SpecError) as caught:
        parse(tmp_path, GOOD.replace(*change))
    message = str(caught.value)
    assert says in message
    assert and_says in message
    if line is not None:
        assert re.search(rf"sweep\.yaml, line {line}\b", message), message


def test_no_such_sweep():
    with pytest.raises(SpecError, match=r"no sweep 'figg1'.*did you mean 'fig1'\?"):
        load("figg1")


def test_python_callers_get_the_same_strictness():
    with pytest.raises(SpecError, match="depth: got 0"):
        Job.of(
            task=LinearRegression(d=2, n=3), solver=ConjugateGradient(depth=0), protocol=PROTOCOLS["rigorous"], seed=0
        )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("sweep = 3", "defines no `sweep`"),
        ("1 / 0", "cannot be run: ZeroDivisionError: division by zero"),
        ("def", "cannot be run: SyntaxError"),
        ("from lfombench.harness import Sweep\nsweep = Sweep(name='x', tasks=[], solvers=[])", "tasks: none given"),
    ],
)
def test_a_python_sweep_that_cannot_be_meant(tmp_path, text, says):
    (tmp_path / "sweep.py").write_text(text)
    with pytest.raises(SpecError, match=re.escape(says)):
        load(str(tmp_path / "sweep.py"))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"tasks": [LinearRegression(d=2, n=3, spectrum=(1.0,))]}, "tasks: spectrum: got 1 numbers, needs d = 2"),
        ({"solvers": [ConjugateGradient(depth=0)]}, "depth: got 0"),
        ({"protocols": [replace(PROTOCOLS["published"], withheld=3)]}, "conjugate_gradient of depth 1 on"),
        ({"tests": [LinearRegression(d=3, n=3)]}, "has d = 3"),
        ({"seeds": [1, 1]}, "seeds: 1 is given twice"),
        ({"seeds": 3}, "must be a list of seeds, such as range(3)"),
        ({"protocols": ["rigorous"]}, "must be a Protocol, such as PROTOCOLS['rigorous']"),
        ({"solvers": [{"conjugate_gradient": {"depth": 1}}]}, "must be a Solver"),
    ],
)
def test_a_sweep_made_in_python_is_checked_as_a_whole(changes, says):
    parts = {"name": "x", "tasks": [LinearRegression(d=2, n=3)], "solvers": [ConjugateGradient(depth=1)]}
    with pytest.raises(SpecError, match=re.escape(says)):
        Sweep(**(parts | changes))


def test_labels_leave_depth_out():
    assert (
        label(Memformer(depth=3, memory="cgd", preconditioner="full")) == "memformer(memory=cgd, preconditioner=full)"
    )
    assert label(GradientDescent(depth=3, step="theory")) == "gradient_descent(step=theory)"
    assert label(GradientDescent(depth=3, step=0.25)) == "gradient_descent(step=0.25)"


TOKENS = """\
name: tokens
protocol: rigorous
tasks: [figure_1]
tests: [figure_1: {n: 40}]
solvers:
  - memformer: {memory: lfom, preconditioner: full, gate: token, depth: 2}
  - linear_transformer: {preconditioner: full, depth: 2}
"""


def test_gates_per_token_are_not_tested_at_another_n(tmp_path):
    with pytest.raises(SpecError, match=r"line 6.*each of n = 20 examples.*n=40.*say skip: true"):
        parse(tmp_path, TOKENS)


def test_what_makes_no_sense_is_skipped_where_the_sweep_says_so(tmp_path):
    sweep = parse(tmp_path, TOKENS + "skip: true\n")
    assert [label(job.solver) for job in sweep.jobs()] == ["linear_transformer(preconditioner=full)"]
    [skipped] = sweep.skipped
    assert "each of n = 20 examples" in skipped.reason
    with pytest.raises(SpecError, match="no combination is possible"):
        parse(tmp_path, TOKENS.replace("  - linear_transformer: {preconditioner: full, depth: 2}\n", "skip: true\n"))


@pytest.mark.parametrize(
    ("task", "solver", "protocol", "says"),
    [
        ("logistic", "best_lfom: {preconditioner: identity, depth: 2}", "rigorous", "needs a quadratic risk"),
        ("logistic", "heavy_ball: {step: theory, momentum: 0.5, depth: 2}", "rigorous", "where the spectrum ends"),
        ("relu_teacher", "best_krylov: {preconditioner: identity, depth: 2}", "rigorous", "linear in x"),
        ("relu_teacher", "bayes: {depth: 2}", "rigorous", "teacher's covariance"),
        (
            "figure_1: {spectrum: [1, 1, 0, 0.25, 1], weights: isotropic}",
            "best_lfom: {preconditioner: covariance, depth: 2}",
            "rigorous",
            "needs Sigma^{-1}",
        ),
        ("sphere", "newton: {depth: 2}", "{use: rigorous, draw: statistics}", "draw: shortest does it"),
    ],
)
def test_a_task_that_lacks_what_is_needed_is_refused_with_the_reason(tmp_path, task, solver, protocol, says):
    text = f"name: made\nprotocol: {protocol}\ntasks:\n  - {task}\nsolvers:\n  - {solver}\n"
    with pytest.raises(SpecError, match=re.escape(says)):
        parse(tmp_path, text)


def test_a_name_from_the_catalogue_is_its_task(tmp_path):
    given = GOOD.replace("linear_regression: {d: 2, n: 3, spectrum: [1, 0.5]}", "figure_1: {n: {each: [10, 20]}}")
    tasks = parse(tmp_path, given).tasks
    assert [label(task) for task in tasks] == [
        f"linear_regression(d=5, n={n}, spectrum=[1, 1, 0.5, 0.25, 1])" for n in (10, 20)
    ]


PARTS = """\
name: both
protocol: {use: rigorous, steps: 50}
seeds: 2
parts:
  - tasks: [figure_1]
    solvers: [conjugate_gradient: {depth: 2}]
  - tasks: [figure_1, isotropic]
    solvers: [conjugate_gradient: {depth: 2}]
    protocol: [published, {use: rigorous, steps: 50}]
"""


def test_parts_are_a_union_in_which_a_job_stands_once(tmp_path):
    sweep = parse(tmp_path, PARTS)
    jobs = list(sweep.jobs())
    assert len(jobs) == len(sweep) == len({job.id for job in jobs}) == 2 * 2 * 2
    assert [part.name for part in sweep.parts] == ["both", "both"]


def test_a_part_may_be_another_sweep_and_tests_are_united(tmp_path):
    (tmp_path / "more.yaml").write_text(GOOD.replace("seeds: 2", "seeds: 2\ntests: [linear_regression: {d: 2, n: 9}]"))
    (tmp_path / "good.yaml").write_text(GOOD.replace("name: good", "name: same"))
    text = f"name: union\nparts: [{tmp_path}/more.yaml, {tmp_path}/good.yaml, fig1]\n"
    sweep = parse(tmp_path, text)
    assert len(sweep) == 10 + 320
    assert [len(tests) for _, tests in sweep.entries()][:10] == [1] * 10


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("    solvers: [conjugate_gradient: {depth: 2}]\n  - tasks", "  - tasks"), "line 5.*'solvers' is missing"),
        (("name: both", "name: both\naxis: task.n\ntests: []"), ""),
        (("  - tasks: [figure_1]\n", "  - fig9\n  - tasks: [figure_1]\n"), "line 5.*no sweep 'fig9'"),
        (("  - tasks: [figure_1]\n", "  - 3\n  - tasks: [figure_1]\n"), "line 5.*must be a sweep's name"),
        (("    solvers: [conj", "    abuot: x\n    solvers: [conj"), "unknown key 'abuot'"),
    ],
)
def test_bad_parts(tmp_path, change, says):
    old, new = change
    text = PARTS.replace(old, new, 1)
    if says:
        with pytest.raises(SpecError, match=says):
            parse(tmp_path, text)
    else:
        assert parse(tmp_path, text).parts[0].axis == "task.n"


def test_trials_are_learning_rates_times_what_is_tuned_of_what_a_solver_has():
    protocol = replace(
        PROTOCOLS["rigorous"], learning_rates=(0.1, 0.2), tune=(("beta1", (0.8,)), ("step", (0.3, 0.4, 0.5)))
    )
    [task] = [LinearRegression(d=2, n=3)]
    jobs = {
        solver: Job.of(task=task, solver=solver, protocol=protocol, seed=0)
        for solver in (
            ConjugateGradient(depth=1),
            GradientDescent(depth=1, step=0.1),
            LinearTransformer(depth=1, preconditioner="full"),
        )
    }
    classical, given, learned = jobs.values()
    assert classical.trials == ({},)
    assert given.trials == ({"step": 0.3}, {"step": 0.4}, {"step": 0.5})
    assert learned.trials == ({"learning_rate": 0.1, "beta1": 0.8}, {"learning_rate": 0.2, "beta1": 0.8})
    assert given.tried(1).solver.step == 0.4


@pytest.mark.parametrize(
    ("steps", "cycle", "rounds"),
    [(10, None, (10,)), (10, 20, (10,)), (16, 2, (2, 4, 8, 16)), (13, 3, (3, 6, 12, 13))],
)
def test_a_cycle_takes_as_many_steps_as_all_before(steps, cycle, rounds):
    assert replace(PROTOCOLS["rigorous"], steps=steps, cycle=cycle).rounds == rounds


def test_a_job_coerces_and_validates_its_parts():
    built = Job.of(
        task=LinearRegression(d=2, n=3), solver=ConjugateGradient(depth=2), protocol=PROTOCOLS["rigorous"], seed=0
    )
    loose = LinearRegression(d=2, n=3, spectrum=(1, 2))  # whole numbers where floats are meant
    made = Job.of(task=loose, solver=built.solver, protocol=built.protocol, seed=0)
    assert made.task.spectrum == (1.0, 2.0)
    assert all(type(x) is float for x in made.task.spectrum)
    with pytest.raises(SpecError, match="depth: got 0"):
        Job.of(task=built.task, solver=replace(built.solver, depth=0), protocol=built.protocol, seed=0)


NAMED = """\
name: named
protocol: {use: rigorous, steps: 50}
axis: task.noise
parts:
  - name: one
    tasks: [figure_1: {noise: {each: [0.0, 0.5]}}]
    solvers:
      fixed: {gradient_descent: {step: {each: [0.1, 0.2]}, depth: {each: [1, 2]}}}
      krylov: {conjugate_gradient: {depth: 2}}
    crossover: [fixed, krylov]
  - name: two
    about: also this
    tasks: [isotropic]
    solvers: [conjugate_gradient: {depth: 2}]
  - name: one
    tasks: [isotropic]
    solvers: [conjugate_gradient: {depth: 2}]
"""


def test_parts_and_solvers_with_names(tmp_path):
    """Parts of one name are one sweep; a name of a solver stands for labels, whatever their depth."""
    sweep = parse(tmp_path, NAMED)
    assert [part.name for part in sweep.parts] == ["one", "two"]
    assert [len(part) for part in sweep.parts] == [2 * 5 + 1, 1]
    [grid, _] = sweep.parts[0].parts
    assert grid.named == {
        "fixed": ["gradient_descent(step=0.1)", "gradient_descent(step=0.2)"],
        "krylov": ["conjugate_gradient"],
    }
    assert (grid.axis, list(grid.crossover), sweep.parts[1].about) == ("task.noise", ["fixed", "krylov"], "also this")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("[fixed, krylov]", "[fixed, krilov]"), "line 10, .*no solver is named 'krilov'.*did you mean 'krylov'"),
        (("krylov: {conj", "newton: {conj"), "line 9, .*a mapping of other names"),
        (("name: two", "name: /two"), "line 11, .*name: got '/two'"),
        (("krylov: {conjugate_gradient: {depth: 2}}", "krylov: 3"), "line 9, .*got 3, must be one solver"),
    ],
)
def test_bad_names(tmp_path, change, says):
    with pytest.raises(SpecError, match=says):
        parse(tmp_path, NAMED.replace(*change))
