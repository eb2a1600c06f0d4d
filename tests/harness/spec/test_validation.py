"""Bad input in a sweep's file: named with file, line, key, what is allowed and the nearest right word."""

from __future__ import annotations

import re

import pytest

from lfombench.harness.errors import SpecError
from tests.builders import GOOD, parsed

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
    ("an alias in itself", ("seeds: 2", "seeds: &a [*a]"), 3, "contains itself", ""),
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
        parsed(tmp_path, GOOD.replace(*change))
    message = str(caught.value)
    assert says in message
    assert and_says in message
    if line is not None:
        assert re.search(rf"sweep\.yaml, line {line}\b", message), message
