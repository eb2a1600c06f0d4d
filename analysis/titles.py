"""Titles of solvers: the name that a sweep gives them, with what tells those of one name apart."""

from __future__ import annotations

import re
from collections.abc import Sequence


def title(name: str, labels: Sequence[str], label: str) -> str:
    """A name, with what tells this solver from others of the name: its experts, its options, or its whole label."""
    parts_of_all = [_parts(other) for other in labels]
    differing = [
        part
        for part, others in zip(_parts(label), zip(*parts_of_all, strict=True), strict=True)
        if len(set(others)) > 1
    ]
    words = ", ".join(filter(None, differing))
    return f"{name}: {words}" if words else name


def _parts(label: str) -> tuple[str, str]:
    """The experts and the options of a mixture; of another solver, its label and nothing."""
    match = re.fullmatch(r"\w+\(experts=\[(.*)\] #\w+(?:, )?(.*)\)", label)
    return (match[1], match[2]) if match else (label, "")
