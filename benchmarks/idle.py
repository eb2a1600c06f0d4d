"""Jobs that do nothing, or sleep: what is left is what the harness costs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from lfombench.solvers import TokenModel

ASKED = 2  # prompts on which the harness looks at what a solver gives, before it is tested


@dataclass(frozen=True, kw_only=True)
class Idle(TokenModel):
    """Says 0 of every query, after so many seconds for each job of its pack."""

    family: ClassVar[Literal["control"]] = "control"  # type: ignore[misc]  # nothing is trained
    seconds: float = 0.0

    def predictions(self, params: object, Z: Tensor) -> Iterator[Tensor]:
        """depth + 1 times 0."""
        if Z.shape[-1] > ASKED:
            time.sleep(float(torch.as_tensor(self.seconds).sum()))
        for _ in range(self.depth + 1):
            yield torch.zeros(Z.shape[:-3] + Z.shape[-1:], dtype=Z.dtype)
