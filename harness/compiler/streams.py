"""Random streams that depend on nothing but what they are for.

A stream is Philox 4x32-10 (Salmon et al., 2011) under a key hashed from words such as ("test", task, seed). Being
counter-based it has no state: a variate is a function of (key, step, prompt, which variate), so neither the pack, its
width, the batch it is drawn in nor the machine changes it. Four 32-bit words a counter make four uniforms, or four
normals by Box and Muller (1958). Variates have the precision of float32 in whatever type they come.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.polynomial import Chebyshev, Polynomial
from scipy import special  # scipy.stats takes a second to import
from torch import Tensor

Words = tuple[Any, ...]

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
MASK = 0xFFFFFFFF
UNIFORMS = 1 << 33  # the first uniform's number: theirs are the upper half of the counters
SMOOTH = 8  # degrees of freedom from which the quantile is a polynomial
REACH = 6.75  # a normal from a 32-bit word goes no further


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

    def chi(self, degrees: list[int], prompts: int) -> Float[Tensor, "streams degrees prompts"]:
        """A row per entry of `degrees`: the square root of a chi-square variate with so many degrees of freedom.

        From SMOOTH degrees on it is the quantile of a normal's probability, a polynomial of the normal to the precision
        of float32; below, the root of squared exponentials, -2 log of a product of uniforms, and of a squared normal.
        """
        smooth, few = [k for k in degrees if k >= SMOOTH], [k for k in degrees if k < SMOOTH]
        rows: list[Tensor] = []
        if smooth:
            z = self.normal(len(smooth), prompts)
            *powers, highest = torch.tensor([quantile(k) for k in smooth], dtype=z.dtype, device=z.device).T.unbind(0)
            x = highest[:, None].expand_as(z)
            for coefficient in reversed(powers):
                x = x * z + coefficient[:, None]
            rows.append(x)
        rows += [self._few(k, prompts).unsqueeze(1) for k in few]
        made = rows[0] if len(rows) == 1 else torch.cat(rows, 1)
        order = sorted(range(len(degrees)), key=lambda i: degrees[i] < SMOOTH)  # as they were made
        return made if order == sorted(order) else made[:, torch.tensor(order).argsort()]

    def _few(self, k: int, prompts: int) -> Tensor:
        """The same for few degrees of freedom."""
        total = self.normal(1, prompts)[:, 0].square() if k % 2 else None
        if k > 1:
            product, *more = self.uniform(k // 2, prompts).unbind(1)
            for u in more:
                product = product * u
            total = -2 * product.log() if total is None else total - 2 * product.log()
        assert total is not None
        return total.sqrt()


@functools.cache
def quantile(k: int) -> tuple[float, ...]:
    """The polynomial in a normal z whose value is the root of the chi-square quantile at z's probability."""
    z = REACH * np.cos(np.pi * (np.arange(256) + 0.5) / 256)
    exact = np.sqrt(
        np.where(z < 0, 2 * special.gammaincinv(k / 2, special.ndtr(z)), special.chdtri(k, special.ndtr(-z)))
    )
    degree = 12 if k >= 16 else 15
    fitted = Chebyshev.fit(z, exact, degree, domain=[-REACH, REACH]).convert(kind=Polynomial)
    return (*map(float, fitted.coef), *[0.0] * (16 - len(fitted.coef)))


class Streams(Draws):
    """Streams side by side, at a step, from a prompt on: a stream's next draw follows its last.

    The last axis of a shape counts prompts, the others variates of a prompt.
    """

    def __init__(
        self, key: Int[Tensor, "streams 3"], dtype: torch.dtype, step: Tensor | int = 0, first: Tensor | int = 0
    ) -> None:
        self.key, self.dtype, self.step, self.first = key, dtype, step, first
        self.normals = self.uniforms = 0  # of each prompt so far

    def normal(self, *shape: int) -> Float[Tensor, "streams ..."]:
        """Standard normals."""
        begin = self.normals
        self.normals += math.prod(shape[:-1])
        return self._draw(normals, shape, begin)

    def uniform(self, *shape: int) -> Float[Tensor, "streams ..."]:
        """Uniforms on (0, 1)."""
        begin = self.uniforms
        self.uniforms += math.prod(shape[:-1])
        return self._draw(uniforms, shape, UNIFORMS + begin)

    def _draw(self, convert: Callable[[Sequence[Tensor]], list[Tensor]], shape: tuple[int, ...], begin: int) -> Tensor:
        """Variates `begin` and following of each prompt: four to a counter."""
        variates, prompts = math.prod(shape[:-1]), shape[-1] if shape else 1
        counters = range(begin // 4, -(-(begin + variates) // 4))
        device = self.key.device
        prompt = self.first + torch.arange(prompts, device=device).expand(len(self.key), len(counters), prompts)
        counter = torch.arange(counters.start, counters.stop, device=device)[:, None]
        key = self.key[:, :, None, None]
        words = philox([prompt, torch.as_tensor(self.step, device=device), counter, key[:, 2]], [key[:, 0], key[:, 1]])
        drawn = torch.stack(convert(words), 2).flatten(1, 2)[:, begin % 4 :][:, :variates]
        return drawn.view(len(self.key), *shape).to(self.dtype)
