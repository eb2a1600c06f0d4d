"""A linear transformer that writes a byte to the file COUNTED whenever it is run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from lfombench.solvers import LinearTransformer
from lfombench.solvers.base import Params, Problem


@dataclass(frozen=True, kw_only=True)
class Counted(LinearTransformer):
    """mark: 0; that it is read step for step keeps a pack from being compiled, which would count once."""

    mark: float = 0.0

    def iterates(self, params: Params, problem: Problem) -> Iterator[Tensor]:
        """Those of a linear transformer."""
        assert not any(torch.as_tensor(self.mark).flatten().tolist())
        handle = os.open(os.environ["COUNTED"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(handle, b".")
        os.close(handle)
        yield from super().iterates(params, problem)
