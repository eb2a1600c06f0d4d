"""Texts that nearly are sweep files: valid ones with values, keys, lines or bytes that are not what they were."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import yaml
from hypothesis import strategies as st

from lfombench.harness.spec.loader import shipped
from tests.builders import SMALL

SELF = "itself.yaml"  # the name of the file that the texts are written to, for files that name themselves
PARTED = Path(__file__).with_name("parted.yaml").read_text()  # what few of the others have: parts, experts
BASES = {"small": SMALL, "parted": PARTED} | {name: path.read_text() for name, path in shipped().items()}

# Written as they stand, where a dump would quote them: what YAML reads in a way of its own, or not at all.
ODD = (
    "010", "0o17", "1:30", "190:20:30.15", "0x10", "0b11", "yes", "NO", "on", "1_000", "~", "null", "1e-3", "1e400",
    ".inf", "-.inf", ".nan", "+.5", "-0", "-0.0", "2024-01-01", "2001-12-14t21:59:43.10-05:00", "=", "<<", "!!str 5",
    "!!int abc", "!!int ''", "!!float x", "!!bool maybe", "!!null x", "!!binary aGk=", "!!binary '*'", "!!set {a, b}",
    "!!omap [a: 1]", "!!pairs [a: 1]", "!!timestamp 2024-13-45", "!!python/object:os.system {}",
    "!!python/object/apply:os.getcwd []", "!!python/name:os.system ''", "!own thing", "!", "! 5", "!!map []",
    "!!seq {}", "!!map x", "*missing", "&here [*here]", "&there {a: *there}", "{<<: {depth: 4}}", "{? [1] : 2}",
    "{1: 2}", "{null: 1}", "{each: [1, 2]}", "{each: []}", "{each: 3}", "{each: {each: [1]}}", "{each: [1], more: 2}",
    "{use: published}", "{use: 3}", "{use: {each: [published, rigorous]}}", "{use: [published]}", "{fig1: {}}",
    "{linear_regression: {d: 3, n: 8}}", "0x" + "f" * 5000, "9" * 5000, "1" + "0" * 400, "'os:system'", "'json:loads'",
    "'nothing.here:Solver'", "'a:b:c'", "':'", "'.:x'", "'..a:X'", "'lfombench.solvers:Solver'", "'\\xe9:X'", '"\\0"',
    '"\\uD800"', '"\\a\\e\\x85\\u2028"', *("[" * deep + "]" * deep for deep in (50, 90, 130, 200, 400)),
    *("{a: " * deep + "}" * deep for deep in (50, 90, 130, 400)), '"a\\nb"', "|\n  text", "[[[[1]]]]", "{}", "[]", "''",
    SELF, f"./{SELF}", "fig1", "paper", "/", ".", "/dev/null",
)  # fmt: skip

WORDS = (
    "", " ", "x", "figure_1", "linear_regression", "conjugate_gradient", "memformer", "published", "rigorous", "each",
    "use", "task.n", "solver.depth", "task.", ".", "solver", "identity", "full", "tuned", "nan", "inf", "é", "Ω" * 40,
    "a" * 300, "b" * 5000, "\x07", "\x1b[31m", "\u202e", "\U0001f600", "../x", "a/b", "\n", "%s", "{}", "[red]",
)  # fmt: skip
words = st.sampled_from(WORDS)
plain = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 5),
    st.sampled_from([0, -1, 2**31, 2**63, -(2**63), 2**64, 10**19, 10**30, 10**400, 999_999, 1_000_000, 1_000_001]),
    st.floats(),
    words,
    st.text(max_size=6),
)
odd = st.integers(0, len(ODD) - 1).map("ODD{}ODD".format)
values = (
    odd
    | odd
    | plain
    | st.recursive(
        plain | odd,
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(words, inner, max_size=2)
            | st.lists(inner, max_size=3).map(lambda each: {"each": each})
        ),
        max_leaves=5,
    )
)
KEYS = (
    "name", "about", "protocol", "seeds", "tasks", "solvers", "tests", "skip", "axis", "split", "experts", "crossover",
    "parts", "each", "use", "tune", "steps", "depth", "d", "n", "noise", "spectrum", "preconditioner", "memory",
    "learning_rates", "batch", "test_prompts", "solver", "task", "apart", "seed", "schedule",
)  # fmt: skip


def places(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all values in a document."""
    children = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [*(one for key, value in children for one in places(value, (*path, key))), path]


def at(data: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        data = data[key]
    return data


def renamed(mapping: dict[Any, Any], old: Any, new: Any) -> None:
    """Give a key another name, in its place."""
    items = [(new if key == old else key, value) for key, value in mapping.items()]
    mapping.clear()
    mapping.update(items)


def change(draw: Any, data: Any) -> Any:
    """The document with one change somewhere in it."""
    if not isinstance(data, dict | list) or not data:
        return draw(values)
    path = draw(st.sampled_from(places(data)))
    path = path[: draw(st.sampled_from([1, 2, 99, 99]))]  # else the top would be changed seldom
    if not path:
        return data if draw(st.booleans()) else draw(values)
    parent, key = at(data, path[:-1]), path[-1]
    how = draw(
        st.sampled_from(["value"] * 4 + ["delete", "copy", "key", "key", "swap", "grid", "deep", "move", "wrap"])
    )
    if how == "value":
        parent[key] = draw(values)
    elif how == "delete":
        del parent[key]
    elif how == "copy":
        other = draw(st.sampled_from(places(data)))
        if other:
            at(data, other[:-1])[other[-1]] = copy.deepcopy(parent[key])
    elif how == "key":
        new = draw(st.sampled_from(KEYS) | words)
        if isinstance(parent, dict):
            renamed(parent, key, new)
        else:
            parent[key] = {new: parent[key]}
    elif how == "swap":
        other = draw(st.sampled_from(list(parent) if isinstance(parent, dict) else range(len(parent))))
        parent[key], parent[other] = parent[other], parent[key]
    elif how == "grid":
        parent[key] = {"each": [copy.deepcopy(parent[key]), *draw(st.lists(values, max_size=3))]}
    elif how == "deep":
        depth, kind = draw(st.sampled_from([2, 5, 20])), draw(st.booleans())
        for _ in range(depth):
            parent[key] = [parent[key]] if kind else {"a": parent[key]}
    elif how == "move":
        parent.insert(0, draw(values)) if isinstance(parent, list) else parent.update(
            {draw(st.sampled_from(KEYS)): draw(values)}
        )
    else:
        parent[key] = draw(st.sampled_from([lambda x: [x], lambda x: [x, x], lambda x: {"each": x}, lambda x: [[x]]]))(
            parent[key]
        )
    return data


def dumped(data: Any) -> str:
    """The document as YAML, with the odd values as they stand."""
    text = yaml.dump(data, sort_keys=False, allow_unicode=True, default_flow_style=None, width=200)
    for i, odd in enumerate(ODD):
        text = text.replace(f"ODD{i}ODD", odd)
    return text


@st.composite
def texts(draw: Any) -> bytes:
    """The bytes of a sweep file with some changes to its values, its text, or both."""
    base = draw(st.sampled_from(["small", "parted"] * 8 + sorted(BASES)))
    text, how = BASES[base], draw(st.sampled_from(["values"] * 5 + ["text"] * 2 + ["both"]))
    if how != "text":
        data: Any = yaml.safe_load(text)
        for _ in range(draw(st.integers(1, 4))):
            data = change(draw, data)
        text = dumped(data)
    content = text.encode("utf-8", "surrogatepass")
    for _ in range(draw(st.integers(1, 4)) if how != "values" else 0):
        content = scratch(draw, content)
    return content


SIGNS = (
    b'\t', b':', b'{', b'[', b']', b'}', b',', b'&a ', b'*a', b'- ', b'? ', b"'", b'"', b'#', b'%', b'|', b'>', b'@',
    b'`', b'\x00', b'\x07', b'\x85', b'\xff', b'\xed\xa0\x80', b'\xc2\x85', b'\xe2\x80\xa8', b'\r', b'\n', b'\n---\n',
    b'\n...\n', b'\n%YAML 9.9\n---\n', b'<<: *a\n', b'!!python/object:os.system ', b'\xef\xbb\xbf',
)  # fmt: skip


def scratch(draw: Any, content: bytes) -> bytes:
    """The bytes with one change somewhere in them."""
    lines = content.split(b"\n")
    where, line = draw(st.integers(0, len(content))), draw(st.integers(0, len(lines) - 1))
    how = draw(
        st.sampled_from(["cut", "byte", "insert", "insert", "line", "double", "bom", "crlf", "tab", "indent", "end"])
    )
    if how == "cut":
        return content[:where]
    if how == "byte":
        return content[:where] + content[where + draw(st.integers(1, 4)) :]
    if how == "insert":
        signs = st.sampled_from([*SIGNS, *(odd.encode() for odd in ODD)])
        return content[:where] + draw(signs) + content[where:]
    if how == "line":
        return b"\n".join(lines[:line] + lines[line + 1 :])
    if how == "double":
        return b"\n".join(lines[: line + 1] + lines[line:])
    if how == "bom":
        return draw(st.sampled_from([b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff"])) + content
    if how == "crlf":
        return content.replace(b"\n", draw(st.sampled_from([b"\r\n", b"\r", b"\xc2\x85", b"\n\n", b" \n"])))
    if how == "tab":
        return b"\n".join([*lines[:line], lines[line].replace(b"  ", b"\t"), *lines[line + 1 :]])
    if how == "indent":
        return b"\n".join([*lines[:line], b" " * draw(st.integers(1, 3)) + lines[line], *lines[line + 1 :]])
    return content + draw(st.sampled_from([b"\n" * 50, b"\n- x", b"\nname: again\n", b"\n---\nname: two\n", b"\n: \n"]))
