"""Whatever stands on the command line: the command ends with one of its exit codes, and leaves nothing lying about."""

from __future__ import annotations

import contextlib
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lfombench.harness.cli.main import cli
from tests.builders import SMALL
from tests.commands import lfombench
from tests.fuzz.budget import examples, seconds

LIMIT = 60.0  # seconds of computing, for a command
WRITING = ("run", "merge", "report", "prune")  # commands that may write into the store at --out


@dataclass(frozen=True)
class World:
    """Where commands run: an empty folder; beside it what the words STORE, SWEEP, ... on a line stand for."""

    here: Path
    beside: Path
    whole: Path

    def word(self, word: str) -> str:
        return re.sub(r"\b[A-Z]{4,}\b", lambda found: str(self.named().get(found[0], found[0])), word)

    def named(self) -> dict[str, Path]:
        names = (
            "STORE",
            "SWEEP",
            "BROKEN",
            "TEXTFILE",
            "EMPTYFOLDER",
            "LOCKED",
            "NEWSTORE",
            "MISSING",
            "PYTHONFILE",
            "BINARY",
        )
        return {name: self.beside / name.lower() for name in names} | {"SWEEP": self.beside / "sweep.yaml"}

    def again(self) -> None:
        """Everything as it was in the beginning."""
        for folder in (self.here, self.beside):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        named = self.named()
        shutil.copytree(self.whole, named["STORE"], ignore=shutil.ignore_patterns("mlflow.db", "report"))
        named["SWEEP"].write_text(SMALL)
        named["BROKEN"].write_text("name: [\n")
        named["TEXTFILE"].write_text("some words\n")
        named["PYTHONFILE"].write_text("sweep = 3\n")
        named["BINARY"].write_bytes(bytes(range(256)))
        named["EMPTYFOLDER"].mkdir()
        named["LOCKED"].mkdir(mode=0)


@pytest.fixture(scope="module")
def world(finished: str, tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("lines")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_ACCESS_KEY_ID": "nobody",
            "AWS_SECRET_ACCESS_KEY": "nothing",
        }.items():
            patch.setenv(name, value)
        yield World(folder / "here", folder / "beside", Path(finished))


ODD = (
    "", " ", "-", "--", "---", "-1", "0", "00", "1", "1.5", "99999999999999999999", "-99999999999999999999", "1" * 5000, "1e400", "nan",
    "inf", "-inf", "é", "Ω" * 50, "\x1b[31m", "\x07", "\n", "a\nb", "\t", "\u202e", "\U0001f600", "\udcff", "a" * 300,
    "b" * 5000, "/", ".", "..", "~", "~nobody", "*", "?", "[", "[red]", "%s", "{}", "{0}", "$HOME", "@file", "a=b", "--out", "--json",
    "--help", "-h", "--version", "file://nonsense", "file:///nowhere/at/all", "file:", "s3://", "s3:///x", "s3://?", "s3://a b/c",
    "s3://x?nonsense=1", "s3://x/y?scheme=nonsense&region=x", "sqlite:///nowhere/x.db", "sqlite://", "gs://", "hdfs://", "http://127.0.0.1:1", "mock://x",
    "://", "x://", "MISSING", "TEXTFILE", "EMPTYFOLDER", "LOCKED", "BINARY", "TEXTFILE/inside", "STORE/results", "/dev/null",
    "/dev/null/x", "/proc/1/mem", "NEWSTORE", "STORE", "BROKEN", "PYTHONFILE", "SWEEP",
)  # fmt: skip
OUTS = (
    "STORE", "STORE", "STORE", "STORE", "NEWSTORE", "EMPTYFOLDER", "TEXTFILE", "LOCKED", "MISSING", "TEXTFILE/inside", "", " ", "\n", "-",
    "/dev/null", "/dev/null/x", "s3://", "s3:///x", "s3://a b/c", "file://nonsense", "file://STORE", "file://NEWSTORE", "file:", "gs://x",
    "://", "x://y", "STORE/", "STORE/.", "STORE/results", "a" * 300, "\udcff", "é", "[red]", "~nobody/x", "mock://x", "hdfs://",
)  # fmt: skip
SQL = (
    "SELECT", "count(*)", "*", "FROM", "results", "jobs", "curves", "weights", "WHERE", "log_mse", "step", "=", "1", "'a'", "GROUP BY",
    "ORDER BY", "LIMIT", "-1", "(", ")", ",", ";", "--", "UNION ALL", "JOIN", "ON", "nothing", "NULL", "1/0", "CAST(job AS INT)",
    "WITH x AS (SELECT 1)", "DROP TABLE", "INSERT INTO", "EXPLAIN", "SHOW TABLES", "DISTINCT", "avg(log_mse)", "median(mse)",
    "floors", "OVER ()", "HAVING", "x'zz'", "99999999999999999999999", "1e400", '"é"', "`", "\n", "*/", "INTERVAL '1 parsec'", "BETWEEN",
    "EXISTS", "LIKE '%'", "~ '('", "substr(job, 1)", "row_number()", "[1]", "floors[0]", "CASE WHEN", "END", "AS", "SELECT 1 FROM jobs",
)  # fmt: skip
SPECS = (
    "memformer", "memformer: {memory: cgd, preconditioner: full, depth: 2}", "conjugate_gradient: {depth: 1}", "bayes: {depth: 1}",
    "ridge: {depth: 0}", "linear_transformer: {depth: 1}", "memformer: {depth: -1}", "x: {", "}], tests: [{", "mine:X", "os:system",
    "softmax_transformer: {depth: 1}", "linear_regression: {d: 2, n: 3}", "linear_regression: {d: 0, n: 3}", "figure_1", "published",
    "{use: rigorous}", "rigorous, steps: 3", "rigorous, steps: 1e400", "rigorous}\nname: x", "linear_regression: {d: 2, n: 99999999999}",
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
def lines(draw) -> list[str]:
    """The words of a command line, mostly one that nearly makes sense."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.lists(st.sampled_from([*cli.commands, "diff"]) | some, max_size=4).filter(is_harmless))
    name = draw(st.sampled_from(sorted(cli.commands)))
    command, words = cli.commands[name], [name]
    if isinstance(command, click.Group) and draw(st.booleans()):
        words.append("diff")
        command = command.commands["diff"]
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
                word for _ in range(count) for word in draw(st.sampled_from([[], [], [], ["--"]])) + [draw(values)]
            ]
        elif parameter.is_flag:
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
    if "ui" in words and not any(word in ("--port=0", "--port=-1", "--nonsense") for word in words):
        return "STORE" not in " ".join(words) and "--mlflow" not in " ".join(words)
    if "run" in words and not {"SWEEP", "BROKEN", "PYTHONFILE", "BINARY", "MISSING", "TEXTFILE"} & set(words[:3]):
        return "fig" not in " ".join(words) and "--workers" in words and not {"paper", "ood", "moe"} & set(words)
    return "--watch" not in words or "STORE" in words


def found(folder: Path) -> dict[str, tuple[int, int]]:
    """All files and folders below a folder, with sizes and times; of folders that change with what is in them, none."""
    with contextlib.suppress(OSError):
        (folder / "locked").chmod(0o700)
    states = {str(path.relative_to(folder)): path.lstat() for path in sorted(folder.rglob("*"))}
    return {
        name: (state.st_size, state.st_mtime_ns) if (folder / name).is_file() else (0, 0)
        for name, state in states.items()
    }


def outs(world: World, words: list[str]) -> set[Path]:
    """The folders that a line names as its store: all words that may be a value of --out."""
    names = ["out", *(word.partition("=")[2] if word.startswith("--out=") else word for word in words)]
    return {world.here / name.removeprefix("file://") for name in map(world.word, names) if 0 < len(name) < 250}


@examples(420)
@given(words=lines())
def test_a_command_line_ends_with_an_exit_code_and_leaves_nothing_behind(world, words):
    world.again()
    line, before = [world.word(word) for word in words], found(world.beside)
    with contextlib.chdir(world.here), seconds(LIMIT):
        done = lfombench(*line)
    said = f"{line}\nexit code {done.returncode}\n{done.stderr}"
    assert done.returncode in (0, 1, 2, 3), said
    assert "Traceback" not in done.stderr, said
    assert "fault of lfombench" not in done.stderr, said
    if done.returncode == 2:
        assert re.search(r"Usage: |Error: ", done.stderr), said
    elif done.returncode == 1:
        assert "Error: " in done.stderr, said
    after = {world.beside / name: state for name, state in found(world.beside).items()}
    after |= {world.here / name: state for name, state in found(world.here).items()}
    changed = [
        path
        for path, state in after.items()
        if before.get(str(path.relative_to(world.beside)) if path.is_relative_to(world.beside) else "") != state
    ]
    missing = [world.beside / name for name in before if world.beside / name not in after]
    may = outs(world, words) if set(words) & set(WRITING) else set()
    for path in changed + missing:
        assert any(path == out or out in path.parents or path in out.parents for out in may), (
            f"{path} was changed by {said}"
        )
