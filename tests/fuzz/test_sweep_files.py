"""A sweep file may hold anything at all: it is a sweep, or an error that names the file and the line."""

from __future__ import annotations

import contextlib
import io
import re
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lfombench.harness import Sweep, load
from lfombench.harness.errors import SpecError, UserError
from tests.fuzz.budget import examples, seconds
from tests.fuzz.sweep_texts import SELF, texts

LIMIT = 10.0  # seconds; the largest sweep that ships takes two, with types checked


def lines_of(content: bytes) -> int:
    """The number of lines as an editor shows them: one more than there are line breaks."""
    return len(re.findall(r"\r\n|[\r\n\x85\u2028\u2029]", content.decode("utf-8", "replace"))) + 1


def check(folder: Path, content: bytes) -> None:
    """Hold a file with this content against the promise."""
    path = folder / SELF
    path.write_bytes(content)
    told = io.StringIO()
    with contextlib.redirect_stdout(told), contextlib.redirect_stderr(told), contextlib.chdir(folder), seconds(LIMIT):
        try:
            sweep = load(str(path))
        except SpecError as error:
            check_error(str(error), path, content)
        else:
            assert isinstance(sweep, Sweep)
            with contextlib.suppress(UserError):
                assert [job.id for job in islice(sweep.jobs(), 50)]
    assert not told.getvalue(), "loading a file prints nothing"


def check_error(error: str, path: Path, content: bytes) -> None:
    """An error names the file, and one of its lines where the file can be read at all."""
    assert str(path) in error, error
    if error.startswith(f"{path}: cannot be read: "):
        with pytest.raises(UnicodeDecodeError):
            content.decode("utf-8")
        return
    named = re.match(re.escape(str(path)) + r", line (\d+)", error)
    assert named, f"names no line: {error}"
    assert 1 <= int(named[1]) <= lines_of(content), error


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for one file, which each example writes anew."""
    return tmp_path_factory.mktemp("sweep-files")


@examples(60)
@given(content=texts())
def test_a_changed_sweep_file_is_a_sweep_or_an_error_that_names_the_line(folder, content):
    check(folder, content)


@examples(60)
@given(content=st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_are_an_error_that_names_the_line(folder, content):
    check(folder, content)


LARGE = """\
name: large
protocol: {{use: rigorous, learning_rates: [0.1]}}
seeds: {seeds}
tasks:
  - linear_regression: {{d: 3, n: 8}}
solvers:
  - gradient_descent: {{step: {step}, depth: {depth}}}
"""


@examples(3, shrink=False)  # each example that hangs takes the whole limit
@given(wide=st.sampled_from([1, 300, 3000]), deep=st.sampled_from([1, 30, 300]), seeds=st.sampled_from([1, 10**6]))
def test_a_large_grid_is_refused_or_lazy(folder, wide, deep, seeds):
    step, depth = [0.1 / (i + 1) for i in range(wide)], list(range(1, deep + 1))
    text = LARGE.format(seeds=seeds, step={"each": step}, depth={"each": depth})
    check(folder, text.encode())


@examples(2, shrink=False)
@given(seeds=st.sampled_from([10**5, 10**6]), parts=st.integers(1, 3))
def test_parts_with_many_seeds_are_refused_or_lazy(folder, seeds, parts):
    tasks = [{"tasks": [{"linear_regression": {"d": 3, "n": 8 + i}}]} for i in range(parts)]
    rest = "protocol: rigorous\nsolvers: [conjugate_gradient: {depth: {each: [1, 2, 3, 4]}}]\n"
    check(folder, f"name: large\nseeds: {seeds}\n{rest}parts: {tasks}\n".encode())


@examples(2)
@given(levels=st.integers(6, 9), where=st.sampled_from(["about", "tests", "solvers", "unknown"]))
def test_aliases_of_aliases_are_refused(folder, levels, where):
    """Each level stands ten times in the next: a file of some hundred bytes that means a thousand million values."""
    anchors = [f"a0: &a0 [{', '.join('x' * 10)}]"]
    anchors += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, levels)]
    check(folder, "\n".join([*anchors, f"name: laughs\n{where}: *a{levels - 1}\n"]).encode())
