"""Command lines that nearly make sense. Words such as STORE stand for paths, which a test puts in."""

from __future__ import annotations

import re
from typing import Any

import click
from hypothesis import strategies as st

from lfombench.harness.cli.main import cli

ODD = (
    "", " ", "-", "--", "---", "-1", "0", "00", "1", "1.5", "99999999999999999999", "-99999999999999999999", "1" * 5000,
    "1e400", "nan", "inf", "-inf", "é", "Ω" * 50, "\x1b[31m", "\x07", "\n", "a\nb", "\t", "\u202e", "\U0001f600",
    "\udcff", "a" * 300, "b" * 5000, "/", ".", "..", "~", "~nobody", "*", "?", "[", "[red]", "%s", "{}", "{0}", "$HOME",
    "@file", "a=b", "--out", "--json", "--help", "-h", "--version", "file://nonsense", "file:///nowhere/at/all",
    "file:", "s3://", "s3:///x", "s3://?", "s3://a b/c", "s3://x?nonsense=1", "s3://x/y?scheme=nonsense&region=x",
    "sqlite:///nowhere/x.db", "sqlite://", "gs://", "hdfs://", "http://127.0.0.1:1", "mock://x", "://", "x://",
    "MISSING", "TEXTFILE", "EMPTYFOLDER", "LOCKED", "BINARY", "TEXTFILE/inside", "STORE/results", "/dev/null",
    "/dev/null/x", "/proc/1/mem", "NEWSTORE", "STORE", "BROKEN", "PYTHONFILE", "SWEEP",
)  # fmt: skip
OUTS = (
    "STORE", "STORE", "STORE", "STORE", "NEWSTORE", "EMPTYFOLDER", "TEXTFILE", "LOCKED", "MISSING", "TEXTFILE/inside",
    "", " ", "\n", "-", "/dev/null", "/dev/null/x", "s3://", "s3:///x", "s3://a b/c", "file://nonsense", "file://STORE",
    "file://NEWSTORE", "file:", "gs://x", "://", "x://y", "STORE/", "STORE/.", "STORE/results", "a" * 300, "\udcff",
    "é", "[red]", "mock://x", "hdfs://",
)  # fmt: skip
SQL = (
    "SELECT", "count(*)", "*", "FROM", "results", "jobs", "curves", "weights", "WHERE", "log_mse", "step", "=", "1",
    "'a'", "GROUP BY", "ORDER BY", "LIMIT", "-1", "(", ")", ",", ";", "--", "UNION ALL", "JOIN", "ON", "nothing",
    "NULL", "1/0", "CAST(job AS INT)", "WITH x AS (SELECT 1)", "DROP TABLE", "INSERT INTO", "EXPLAIN", "SHOW TABLES",
    "DISTINCT", "avg(log_mse)", "median(mse)", "floors", "OVER ()", "HAVING", "x'zz'", "99999999999999999999999",
    "1e400", '"é"', "`", "\n", "*/", "INTERVAL '1 parsec'", "BETWEEN", "EXISTS", "LIKE '%'", "~ '('", "substr(job, 1)",
    "row_number()", "[1]", "floors[0]", "CASE WHEN", "END", "AS", "SELECT 1 FROM jobs",
)  # fmt: skip
SPECS = (
    "memformer", "memformer: {memory: cgd, preconditioner: full, depth: 2}", "conjugate_gradient: {depth: 1}",
    "bayes: {depth: 1}", "ridge: {depth: 0}", "linear_transformer: {depth: 1}", "memformer: {depth: -1}", "x: {",
    "}], tests: [{", "mine:X", "os:system", "softmax_transformer: {depth: 1}", "linear_regression: {d: 2, n: 3}",
    "linear_regression: {d: 0, n: 3}", "figure_1", "published", "{use: rigorous}", "rigorous, steps: 3",
    "rigorous, steps: 1e400", "rigorous}\nname: x", "linear_regression: {d: 2, n: 99999999999}",
)  # fmt: skip
sentences = st.lists(st.sampled_from(SQL), max_size=8).map(" ".join)
some = st.one_of(
    st.sampled_from(ODD),
    st.sampled_from(ODD),
    st.text(st.characters(exclude_characters="\0"), max_size=5),
    sentences,
    st.sampled_from(SPECS),
)
VALUES = {
    "out": st.sampled_from(OUTS),
    "address": st.sampled_from(
        ["nonsense", "http://127.0.0.1:1", "", "http://", "ftp://x", "http://[", "127.0.0.1:1", ":", "é"]
    ),
    "sql": sentences
    | st.sampled_from(SQL).map("SELECT {} FROM results".format)
    | sentences.map("SELECT {}".format)
    | some,
    "sweep": st.sampled_from(["SWEEP", "SWEEP", "BROKEN", "PYTHONFILE", "BINARY", "fig1", "small", "smal"]) | some,
    "job": st.sampled_from(["", "a", "0", "1", "2", "é", "("]) | some,
    "stores": st.sampled_from(OUTS),
    "solver": st.sampled_from(SPECS) | some,
    "mlflow": st.sampled_from(
        ["off", "sqlite:///nowhere/x.db", "sqlite://", "file://nonsense", "", "nonsense", "x://y", "s3://"]
    ),
}


@st.composite
def lines(draw: Any) -> list[str]:
    """The words of a command line, mostly one that nearly makes sense."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.lists(st.sampled_from([*cli.commands, "sync"]) | some, max_size=4).filter(is_harmless))
    name = draw(st.sampled_from(sorted(cli.commands)))
    command, words = cli.commands[name], [name]
    if isinstance(command, click.Group) and draw(st.booleans()):
        words.append(draw(st.sampled_from(sorted(command.commands))))
        command = command.commands[words[-1]]
    for parameter in command.params:
        values = VALUES.get(parameter.name, some)
        is_option = isinstance(parameter, click.Option)
        if is_option and draw(st.integers(0, 9)) >= (
            8 if parameter.name in ("out", "address") or parameter.required else 3
        ):
            continue
        if not is_option:
            count = 1 if draw(st.integers(0, 9)) else draw(st.integers(0, 3))
            words += [
                word for _ in range(count) for word in [*draw(st.sampled_from([[], [], [], ["--"]])), draw(values)]
            ]
        elif getattr(parameter, "is_flag", False):
            words.append(parameter.opts[0])
        else:
            value = draw(
                st.sampled_from(parameter.type.choices) | some if isinstance(parameter.type, click.Choice) else values
            )
            words += [f"{parameter.opts[0]}={value}"] if draw(st.booleans()) else [parameter.opts[0], value]
    if draw(st.integers(0, 9)) == 0:
        words.insert(draw(st.integers(1, len(words))), draw(some))
    if name == "run":  # else Ray starts, and MLflow makes its tables
        words += ["--workers", "0"] if "--address" not in " ".join(words) else []
        words += ["--mlflow", "off"] if "--mlflow" not in " ".join(words) else []
    return words if is_harmless(words) else [name, "--nonsense"]


def is_harmless(words: list[str]) -> bool:
    """Whether the line neither starts a server or Ray, nor runs what takes long."""
    if "--debug" in words:  # shows tracebacks, as it should
        return False
    if {"run", "merge", "report", "ui", "mlflow"} & set(words) and any(
        re.match(r"(--out=)?(~|/$|\.\.$)", word) for word in words
    ):
        return False  # a store outside of the test's own folders
    if "doctor" in words and "--without-ray" not in words:
        return False
    if "ui" in words and not any(word in ("--port=0", "--port=-1", "--nonsense") for word in words):
        return "STORE" not in " ".join(words) and "--mlflow" not in " ".join(words)
    if "run" in words and not {"SWEEP", "BROKEN", "PYTHONFILE", "BINARY", "MISSING", "TEXTFILE"} & set(words[:3]):
        return "fig" not in " ".join(words) and "--workers" in words and not {"paper", "ood", "moe"} & set(words)
    return "--watch" not in words or "STORE" in words
