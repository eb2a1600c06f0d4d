"""Random streams that depend on nothing but what they are for.

A stream is Philox 4x32-10 (Salmon et al., 2011) under a key hashed from words such as ("test", task, seed). Being
counter-based it has no state: a variate is a function of (key, step, prompt, which variate), so neither the pack, its
width, the batch it is drawn in nor the machine changes it. Four 32-bit words a counter make four uniforms, or four
normals by Box and Muller (1958). Variates have the precision of float32 in whatever type they come.
"""

from __future__ import annotations

import hashlib
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

Words = tuple[Any, ...]

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
MASK = 0xFFFFFFFF
FACTORS = 16  # uniforms multiplied before a logarithm: fewer logarithms, and no underflow


def keys(streams: Sequence[Words], device: torch.device) -> Int[Tensor, "streams 3"]:
    """A stream's key and the fourth word of its counter: 96 bits hashed from its words."""
    hashed = [hashlib.blake2b(json.dumps(s, sort_keys=True).encode(), digest_size=12).digest() for s in streams]
    words = [[int.from_bytes(h[i : i + 4], "little") for i in (0, 4, 8)] for h in hashed]
    return torch.tensor(words, dtype=torch.int64, device=device)


def philox(counter: Sequence[Tensor], key: Sequence[Tensor]) -> list[Tensor]:
    """Four 32-bit words from four and a key of two, all held in int64."""
    a, b, c, d = counter
    k, l = key
    for _ in range(10):
        p, q = MULTIPLIERS[0] * a, MULTIPLIERS[1] * c  # products wrap at 64 bits, which is right for these bits
        a, b, c, d = ((q >> 32) & MASK) ^ b ^ k, q & MASK, ((p >> 32) & MASK) ^ d ^ l, p & MASK
        k, l = (k + WEYL[0]) & MASK, (l + WEYL[1]) & MASK
    return [a, b, c, d]


def normals(words: Sequence[Tensor]) -> list[Tensor]:
    """Four normals from four words: the first of a pair is the radius, the second the angle."""
    found = []
    for x, y in (words[:2], words[2:]):
        radius = (-2 * torch.log((x.float() + 0.5) * 2.0**-32)).sqrt()
        angle = (2 * math.pi * 2.0**-32) * y.float()
        found += [radius * angle.cos(), radius * angle.sin()]
    return found


def uniforms(words: Sequence[Tensor]) -> list[Tensor]:
    """Four uniforms from four words: the middles of 2^23 cells, so neither 0 nor 1."""
    return [((x >> 9).float() + 0.5) * 2.0**-23 for x in words]


class Draws(ABC):
    """The `Random` that tasks draw from, on top of normals and uniforms."""

    @abstractmethod
    def normal(self, *shape: int) -> Float[Tensor, "streams ..."]:
        """Standard normals."""

    @abstractmethod
    def uniform(self, *shape: int) -> Float[Tensor, "streams ..."]:
        """Uniforms on (0, 1)."""

    def chi_square(self, degrees: list[int], prompts: int) -> Float[Tensor, "streams degrees prompts"]:
        """A row per entry of `degrees`: -2 log of a product of uniforms, and a squared normal where it is odd."""
        runs = [min(FACTORS, k // 2 - i) for k in degrees for i in range(0, k // 2, FACTORS)]
        rows = [-(-(k // 2) // FACTORS) for k in degrees]
        exponentials = [-2 * product.log() for product in self._products(runs, prompts)]
        odd = iter(self.normal(sum(k % 2 for k in degrees), prompts).unbind(1) if any(k % 2 for k in degrees) else ())
        found, taken = [], 0
        for k, count in zip(degrees, rows, strict=True):
            terms = exponentials[taken : taken + count] + ([next(odd).square()] if k % 2 else [])
            taken += count
            total = terms[0]
            for term in terms[1:]:
                total = total + term
            found.append(total)
        return torch.stack(found, 1)

    def _products(self, runs: list[int], prompts: int) -> list[Tensor]:
        """A product of uniforms for each run, of so many of them."""
        if not runs:
            return []
        found, taken = [], 0
        drawn = self.uniform(sum(runs), prompts)
        for run in runs:
            product = drawn[:, taken]
            for i in range(taken + 1, taken + run):
                product = product * drawn[:, i]
            taken += run
            found.append(product)
        return found


class Streams(Draws):
    """Streams side by side, at a step, from a prompt on: a stream's next draw follows its last.

    The last axis of a shape counts prompts, the others variates of a prompt.
    """

    def __init__(
        self, key: Int[Tensor, "streams 3"], dtype: torch.dtype, step: Tensor | int = 0, first: Tensor | int = 0
    ) -> None:
        self.key, self.dtype, self.step, self.first = key, dtype, step, first
        self.used = 0  # counters so far

    def normal(self, *shape: int) -> Float[Tensor, "streams ..."]:
        """Standard normals."""
        return self._draw(normals, shape)

    def uniform(self, *shape: int) -> Float[Tensor, "streams ..."]:
        """Uniforms on (0, 1)."""
        return self._draw(uniforms, shape)

    def _draw(self, convert: Callable[[Sequence[Tensor]], list[Tensor]], shape: tuple[int, ...]) -> Tensor:
        variates, prompts = math.prod(shape[:-1]), shape[-1] if shape else 1
        counters = -(-variates // 4)
        where = {"dtype": torch.int64, "device": self.key.device}
        prompt = (self.first + torch.arange(prompts, **where)).expand(len(self.key), counters, prompts)
        counter = self.used + torch.arange(counters, **where)[:, None]
        key = self.key[:, :, None, None]
        self.used += counters
        words = philox([prompt, torch.as_tensor(self.step, **where), counter, key[:, 2]], [key[:, 0], key[:, 1]])
        drawn = torch.stack(convert(words), 2).flatten(1, 2)[:, :variates]
        return drawn.view(len(self.key), *shape).to(self.dtype)
