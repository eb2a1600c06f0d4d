"""Labels in order, and names of solvers: those of a sweep, with what tells some of one name apart; short ones."""

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


def natural(label: str) -> list[tuple[float, str]]:
    """Sorts labels by the numbers in them, n=3 before n=10."""
    parts = re.split(r"(?<![\w.])(\d+(?:\.\d+)?)", label)
    return [(float(part), "") if i % 2 else (0.0, part) for i, part in enumerate(parts)]


def differing(labels: Sequence[str]) -> dict[str, str]:
    """Of each label the fields in which it differs from the others: `noise=3`; `base` where others have more."""
    fields = {label: re.findall(r"\w+=(?:\[[^\]]*\]|[^,)]*)", label) for label in labels}
    common = set.intersection(*map(set, fields.values())) if fields else set()
    briefs = {label: ", ".join(field for field in each if field not in common) for label, each in fields.items()}
    same_class = len({label.partition("(")[0] for label in labels}) == 1
    return {label: brief or "base" for label, brief in briefs.items()} if same_class else {}


WORDS = {
    "conjugate_gradient": "CG",
    "gradient_descent": "GD",
    "linear_transformer": "LT",
    "memformer": "Memformer",
    "best_lfom": "best LFOM",
    "best_krylov": "best Krylov",
    "gd_plus_plus": "GD++",
    "lfom": "LFOM",
    "covariance": "\N{GREEK CAPITAL LETTER SIGMA}",
    "identity": "",
}
LONGEST = 26  # characters of a short name


def short(label: str, longest: int = LONGEST) -> str:
    """A solver's name and the values of its fields, in few letters: `Memformer cgd full`. Names that a sweep gives
    are as they are, but for their length.
    """
    name, bracket, rest = label.partition("(")
    if not bracket or "experts=" in label or ":" in name:
        text = label if "experts=" not in label else name.replace("_", " ")
        text = WORDS.get(text, text.replace("_", " "))
    else:
        fields = [part.strip(" )]").rpartition("=")[::2] for part in rest.split(",")]
        values = [field if value == "True" else "" if value == "False" else value for field, value in fields]
        text = " ".join(filter(None, (WORDS.get(word, word.replace("_", " ")) for word in (name, *values))))
    return text if len(text) <= longest else f"{text[: longest - 1]}\N{HORIZONTAL ELLIPSIS}"
