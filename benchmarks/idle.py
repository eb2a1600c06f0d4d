"""Jobs that do nothing, or sleep: what is left is what the harness costs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from lfombench.solvers import TokenModel
from lfombench.tasks import Examples, Law, Random, Task

ASKED = 2  # prompts on which the harness looks at what a solver gives, before it is tested


@dataclass(frozen=True, kw_only=True)
class Idle(TokenModel):
    """Says 0 of every query, after so many seconds for each job of its pack."""

    family: ClassVar[Any] = "control"  # nothing is trained
    seconds: float = 0.0

    def predictions(self, params: object, Z: Tensor) -> Iterator[Tensor]:
        """depth + 1 times 0."""
        if Z.shape[-1] > ASKED:
            time.sleep(float(torch.as_tensor(self.seconds).sum()))
        for _ in range(self.depth + 1):
            yield torch.zeros(Z.shape[:-3] + Z.shape[-1:], dtype=Z.dtype)


@dataclass(frozen=True, kw_only=True)
class Blank(Task):
    """Prompts of nothing but zeros: one draw says how many jobs there are."""

    def examples(self, random: Random, frame: Tensor | None, prompts: int) -> Examples:
        """All at once."""
        zero = torch.zeros_like(random.normal(1, prompts))
        one = torch.ones_like(zero[:, :1, :1])[..., None]
        X = zero.unsqueeze(2).expand(-1, self.d, self.n, -1)
        return Examples(X, X[:, 0], X[:, :, 0], Law(root=one, dual=one), X[:, :, 0])
