"""Values that MLflow would refuse, and what stands for them there: shortened, with a digest; tags have the whole text.

Limits are MLflow's own, in characters. Nothing is dropped: `Fitted.tags` holds every text that was changed.
"""

from __future__ import annotations

import hashlib
import math
import re

KEY, PARAM, TAG, NAME, DATASET = 250, 6000, 8000, 250, 500
FULL = "lfombench.full."  # begins the keys of tags that hold whole texts, by digest and piece
OF_LABELS = str.maketrans({"=": "_", "(": " ", ")": "", "[": "", "]": "", ",": "", "'": "", '"': ""})
REFUSED = re.compile(r"[^\w.\- ]", re.ASCII)  # of the characters of a metric's key, on servers of any system
LARGEST = 1.7976931348623157e308


class Fitted:
    """The texts of one run, as MLflow takes them."""

    def __init__(self) -> None:
        self.full: dict[str, str] = {}  # each text that was changed, by its digest

    def text(self, text: str, limit: int, end: bool = False) -> str:
        """A text of so many characters at most, without NUL, which PostgreSQL refuses. end: keep the end, not the
        begin.
        """
        clean = text.replace("\0", "\N{SYMBOL FOR NULL}")
        if len(clean) <= limit:
            return clean
        mark = self._note(clean)
        kept = limit - len(mark) - 1
        return (
            f"{mark}\N{HORIZONTAL ELLIPSIS}{clean[-kept:]}" if end else f"{clean[:kept]}\N{HORIZONTAL ELLIPSIS}{mark}"
        )

    def keys(self, prefix: str, labels: list[str]) -> dict[str, str]:
        """A key of a metric for each label, all different: `linear_regression(d=5, n=20)` is `prefix
        linear_regression d_5 n_20`.
        """
        plain = {label: REFUSED.sub("_", label.translate(OF_LABELS)).strip(" .") for label in labels}
        twice = {key for key in plain.values() if list(plain.values()).count(key) > 1}
        keys = {}
        for label, key in plain.items():
            room = KEY - len(prefix)
            if len(key) > room or key in twice or not key:
                mark = self._note(label)
                key = f"{key[: room - len(mark) - 1].strip(' .')}-{mark}"
            keys[label] = prefix + key
        return keys

    def tags(self) -> dict[str, str]:
        """Tags with the whole of each text that was changed, in pieces."""
        return {
            f"{FULL}{mark}.{piece}": text[TAG * piece : TAG * (piece + 1)]
            for mark, text in self.full.items()
            for piece in range(-(-len(text) // TAG))
        }

    def _note(self, text: str) -> str:
        mark = hashlib.blake2b(text.encode(), digest_size=5).hexdigest()
        self.full[mark] = text.replace("\0", "\N{SYMBOL FOR NULL}")
        return mark


def finite(value: float) -> tuple[float, bool]:
    """A metric's value as MLflow's database has it, and whether it is NaN."""
    if math.isnan(value):
        return 0.0, True
    return max(-LARGEST, min(LARGEST, value)), False
