"""The meaning of source: what counts, what does not, and the same on every Python."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lfombench.harness.spec import syntax
from lfombench.harness.spec.syntax import TOP_LEVEL, Definition, Import, parse

SOURCE = '''\
"""A module."""
from __future__ import annotations

import math
import numpy as np
from .helpers import scale as s
from typing import ClassVar


class Descent(Base, keyword=1):
    """A class."""

    family: ClassVar[str] = "classical"
    step: float = 0.1
    depth: int

    @np.vectorize
    def iterates(self, params: dict, *, k: int = LIMIT) -> None:
        """Its iterates."""
        from .deep import late

        def inner(x):
            return x * late(s)

        match params:
            case {"a": [1, *rest], **others} if (n := len(rest)) > 1:
                yield f"{n!r:>{k}} and " f"{s:.3g}{math.pi}" 'text'
            case str() | None:
                pass
        total: float = sum(w**2 for w in params) if params else -1e-3j
        async_ = lambda u, v=total: u @ v[..., ::2, None]
        return inner, async_, "é\\u0378", b"\\x00", ...


LIMIT = 3
'''
# By hand from one run, and then the same for good: a change here makes every job of every store stale.
GOLDEN = {"Descent": "d4d047a946966eeb", "LIMIT": "dfe91ee176c41ece"}


def definitions(source: str) -> dict[str, Definition]:
    return {one.symbol: one for one in parse(source, "pack.age").definitions}


def digests(source: str) -> dict[str, str]:
    return {symbol: one.digest for symbol, one in definitions(source).items()}


def test_digests_are_these():
    assert digests(SOURCE) == GOLDEN


def pythons() -> list[str]:
    """Other Pythons of this machine that lfombench supports."""
    names = [f"python3.{minor}" for minor in range(11, 16)]
    root = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser() / "versions"
    found = [shutil.which(name) for name in names]
    found += [str(path) for name in names for path in sorted(root.glob(f"*/bin/{name}"))]
    versions = {}
    for path in filter(None, found):
        told = subprocess.run([path, "-c", "import sys; print(sys.version_info[:2])"], capture_output=True, text=True)
        if told.returncode == 0:
            versions[told.stdout] = path
    versions.pop(f"{sys.version_info[:2]}\n", None)
    return list(versions.values())


def test_every_python_here_gives_the_same(tmp_path):
    """Of the text above and of all files of ours that jobs can stand on: digests, names and imports."""
    others = pythons()
    if not others:
        pytest.skip("this machine has no other Python than the one that runs the tests")
    root = Path(__file__).parents[3]
    folders = ("harness", "solvers", "tasks")
    files = [path for folder in folders for path in sorted((root / folder).rglob("*.py"))]
    (tmp_path / "text.py").write_text(SOURCE)
    program = (
        "import importlib.util, sys\n"
        f"spec = importlib.util.spec_from_file_location('syntax', {syntax.__file__!r})\n"
        "sys.modules['syntax'] = syntax = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(syntax)\n"
        "for path in sys.argv[1:]:\n"
        "    for one in syntax.parse(open(path, encoding='utf-8').read(), 'pack.age').definitions:\n"
        "        print(one.symbol, one.digest, sorted(one.names), sorted(map(str, one.imports)))\n"
    )
    arguments = ["-c", program, str(tmp_path / "text.py"), *map(str, files)]
    all_here = (sys.executable, *others)
    told = [subprocess.run([python, *arguments], capture_output=True, text=True) for python in all_here]
    assert [one.returncode for one in told] == [0] * len(told), [one.stderr for one in told]
    assert GOLDEN["Descent"] in told[0].stdout
    assert all(one.stdout == told[0].stdout for one in told)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("x = 1", "x = 1  # one"),
        ("x = 1\ny = 2", "y = 2\n\n\nx = (\n    1\n)"),
        ("def f(x): return x", 'def f(x):\n    """Of x."""\n    return x'),
        ("def f(x): return x", "def f(x: int) -> int: return x"),
        ("def f(x):\n    y = x\n    return y", "def f(x):\n    y: float = x\n    return y"),
        ("x = 1", "x: int = 1"),
        ("class A:\n    x: int = 1", "class A:\n    x: float = 1"),
        ("class A:\n    x: int", "class A:\n    x: 'float'"),
        ("def f(): return 'a' 'b'", "def f(): return 'ab'"),
        ("def f(x): return f'{x}' f'{x}'", "def f(x): return f'{x}{x}'"),
    ],
)
def test_what_does_not_count(before, after):
    assert digests(before) == digests(after)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("x = 1", "x = 2"),
        ("x = 1", "x = 1.0"),
        ("x = 1", "x = True"),
        ("x = 0.0", "x = -0.0"),
        ("x = None", "x = ..."),
        ("x = 'a'", "x = b'a'"),
        ("def f(x=1): return x", "def f(x=2): return x"),
        ("def f(x, y): return x", "def f(x, *, y): return x"),
        ("def f(x): return x", "@g\ndef f(x): return x"),
        ("class A(B): pass", "class A(C): pass"),
        ("class A:\n    x: int = 1", "class A:\n    x = 1"),
        ("class A:\n    x: int = 1", "class A:\n    x: ClassVar[int] = 1"),
        ("def f(x): return x + 1 - 2", "def f(x): return x + (1 - 2)"),
        ("def f(x): return f'{x}'", "def f(x): return f'{x!r}'"),
        ("def f(x): return f'{x}'", "def f(x): return f'{x:.3f}'"),
        ("def f(x): return [x for x in x]", "def f(x): return {x for x in x}"),
        ("def f(x): yield x", "def f(x): return x"),
    ],
)
def test_what_counts(before, after):
    assert digests(before) != digests(after)


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("def f(x): return x + y", {("y",)}),
        ("def f(x, k=K): return g.h.i(x)", {("K",), ("g", "h", "i")}),
        ("def f(x):\n    y = 1\n    return lambda z: x + y + z + w", {("w",)}),
        ("def f(x):\n    global y\n    y = x", {("y",)}),
        ("def f(x): return [a + b for a in x if (c := a)]", {("b",)}),
        ("def f(x):\n    def g(y): return x + y + w\n    return g", {("w",)}),
        ("@d\nclass A(B, metaclass=M):\n    x: T = C.y\n    def f(self) -> U: return g", {*"dBMg"} | {"C.y"}),
        ("def f(x):\n    for a, (b, *c) in x: pass\n    return a, b, c, d", {("d",)}),
        ("def f(x):\n    try: g()\n    except E as error: return error", {("g",), ("E",)}),
    ],
)
def test_names_of_the_module_that_a_definition_refers_to(source, names):
    [one] = parse(source).definitions
    assert one.names == {tuple(name.split(".")) if isinstance(name, str) else name for name in names}


def test_imports_inside_a_function_are_its_own():
    [one] = parse("def f(x):\n    from .a import b\n    import c.d\n    return b.e(x) + c.d.g", "p.q").definitions
    assert one.names == frozenset()
    assert {(Import("p.q.a", "b"), ("e",)), (Import("c"), ("d", "g"))} <= one.imports


def test_what_names_are_bound_to():
    module = parse(
        "import a.b\nimport a.b as c\nfrom . import d\nfrom ..e import f as g\nfrom h import *\n"
        "try:\n    import i\nexcept ImportError:\n    i = None\n"
        "if TYPE_CHECKING:\n    import j\n"
        "x = []\nx.append(1)\nx[0] = 2\nx += [3]\nprint('loaded')\nregister(x)\n"
        "if __name__ == '__main__':\n    y = 1\n",
        "p.q",
    )
    assert module.bindings["a"] == [Import("a")]
    assert module.bindings["c"] == [Import("a.b")]
    assert module.bindings["d"] == [Import("p.q", "d")]
    assert module.bindings["g"] == [Import("p.e", "f")]
    assert module.stars == ["h"]
    assert [type(one) for one in module.bindings["i"]] == [Definition, Import]
    assert len(module.bindings["x"]) == 4  # with every statement that changes it
    assert not {"j", "y"} & module.bindings.keys()
    assert [one.symbol for one in module.effects] == [TOP_LEVEL] * 2
