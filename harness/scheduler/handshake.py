"""What a worker says before it gets work: which versions it has, and which code behind the jobs.

A node with another version of a solver gave wrong numbers that looked right. So each worker works out the fingerprints
of the sweep's code by itself, and a node on which something differs gets no work.
"""

from __future__ import annotations

import pickle
import platform
import socket
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version

from lfombench.tasks import Task

from ..spec import fingerprint
from ..training.pack import Pack

Parts = Mapping[str, str]  # of a fingerprint: a digest by part of the code


@dataclass(frozen=True)
class Question:
    """What every worker is asked: the versions that it should have, and a case for each piece of code."""

    versions: Mapping[str, str]
    cases: Mapping[str, bytes]  # by fingerprint: a case and a further test, pickled


@dataclass(frozen=True)
class Answer:
    """What a worker has."""

    node: str  # its id
    host: str
    lacking: str  # what is to be said where it lacks the GPU that Ray gave it
    versions: Mapping[str, str] = field(default_factory=dict)
    other: Mapping[str, Parts] = field(default_factory=dict)  # by fingerprint that differs: what its own is made of
    missing: Mapping[str, str] = field(default_factory=dict)  # by fingerprint: why the case cannot be loaded


def versions() -> dict[str, str]:
    """The versions that numbers depend on: those of Python to its minor, of PyTorch without what it was built for."""
    import torch

    found = {"Python": ".".join(platform.python_version_tuple()[:2]), "PyTorch": torch.__version__.partition("+")[0]}
    return found | {name: version(name) for name in ("lfombench", "ray")}


def question(packs: Collection[Pack]) -> Question:
    """What workers for these packs are asked."""
    cases: dict[str, bytes] = {}
    for pack in packs:
        for code, test in _codes(pack).items():
            cases[code] = cases.get(code) or pickle.dumps((pack.first.case, test))
    return Question(versions(), cases)


def answer(asked: Question, node: str, lacking: str) -> Answer:
    """What this process has."""
    other: dict[str, Parts] = {}
    missing: dict[str, str] = {}
    for code, pickled in asked.cases.items():
        try:
            case, test = pickle.loads(pickled)
            if fingerprint.code(case, test) != code:
                other[code] = fingerprint.code_parts(case, test)
        except Exception as error:  # whatever the user's module raises
            missing[code] = f"{type(error).__name__}: {error}"
    return Answer(node, socket.gethostname(), lacking, versions(), other, missing)


def differences(asked: Question, found: Answer) -> list[str]:
    """In words, what differs on a worker from what this process has; what it cannot import is in its answer."""
    said = [
        f"{name} is {found.versions.get(name, 'missing')} there, and {wanted} here"
        for name, wanted in asked.versions.items()
        if found.versions.get(name) != wanted
    ]
    parts: set[str] = set()
    for code, theirs in found.other.items():
        case, test = pickle.loads(asked.cases[code])
        parts.update(fingerprint.changed(theirs, fingerprint.code_parts(case, test)))
    said += [f"{', '.join(sorted(parts))} is another there"] if parts else []
    return said


def foreign(pack: Pack, codes: Collection[str]) -> bool:
    """Whether rows come from other code than this process has. codes: the fingerprints in them."""
    if any(_travels(pack, test) for test in (None, *pack.tests)):
        return False
    return not set(codes) <= _codes(pack).keys()


def _codes(pack: Pack) -> dict[str, Task | None]:
    """The fingerprints of a pack's code that every node has by itself, with the further test that each is of."""
    tests = [test for test in (None, *pack.tests) if not _travels(pack, test)]
    return {fingerprint.code(pack.first.case, test): test for test in tests}


def _travels(pack: Pack, test: Task | None) -> bool:
    """Whether Ray sends classes of a pack whole, as those that a script, a notebook or a function makes: then they are
    this process's everywhere.
    """
    return pack.identity(test=test) is None
