"""Random streams keyed by what they are for.

A stream is numpy's Philox (Salmon et al., 2011) under a key hashed from words such as ("test", task, seed): what it
gives depends on nothing else, not on the pack, its width, its order or the machine.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

Key = tuple[Any, ...]


def generator(key: Key) -> np.random.Generator:
    """The stream of that name."""
    hashed = hashlib.blake2b(json.dumps(key, sort_keys=True).encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(hashed, "little")))


class Streams:
    """Streams side by side, one per key: the `Random` that tasks draw from."""

    def __init__(self, keys: Sequence[Key], dtype: torch.dtype, device: torch.device) -> None:
        self.generators = [generator(key) for key in keys]
        self.dtype, self.device = dtype, device
        self.numpy_dtype: Any = np.float64 if dtype == torch.float64 else np.float32

    def normal(self, *shape: int) -> Float[Tensor, "streams ..."]:
        """Standard normals."""
        return self._draw(lambda g: g.standard_normal(shape, dtype=self.numpy_dtype))

    def uniform(self, *shape: int) -> Float[Tensor, "streams ..."]:
        """Uniforms on [0, 1)."""
        return self._draw(lambda g: g.random(shape, dtype=self.numpy_dtype))

    def chi_square(self, degrees: list[int], prompts: int) -> Float[Tensor, "streams degrees prompts"]:
        """A row per entry of `degrees`: twice a gamma variate of half as many degrees."""
        half = np.asarray(degrees, dtype=self.numpy_dtype)[:, None] / 2
        return 2 * self._draw(lambda g: g.standard_gamma(half, (len(degrees), prompts), dtype=self.numpy_dtype))

    def _draw(self, draw: Callable[[np.random.Generator], Any]) -> Tensor:
        return torch.from_numpy(np.stack([draw(g) for g in self.generators])).to(self.device)
