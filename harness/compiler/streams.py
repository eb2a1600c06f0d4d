"""Counter-based random streams: a variate depends only on the purpose of its stream and on its position there.

A stream is Philox 4x32-10 (Salmon et al., 2011) with a key hashed from words such as ("test", task, seed). Being
counter-based it has no state: a variate is a function of (key, step, prompt, number of the variate), so neither the
pack, its width, the batch it is drawn in nor the machine changes it. The four 32-bit words of a counter give four
uniforms, or four normals by Box and Muller (1958). Variates have the precision of float32 in any dtype.
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
UNIFORMS = 1 << 33  # the number of the first uniform: uniforms use the upper half of the counters
SMOOTH = 8  # from so many degrees of freedom on, the quantile of chi is a polynomial
REACH = 6.75  # a bound on the normals that 32-bit words give


def keys(streams: Sequence[Words], device: torch.device) -> Int[Tensor, "streams 3"]:
    """The two key words of each stream, and the fourth word of its counter: 96 bits hashed from the stream's words."""
    hashed = [hashlib.blake2b(json.dumps(s, sort_keys=True).encode(), digest_size=12).digest() for s in streams]
    words = [[int.from_bytes(h[i : i + 4], "little") for i in (0, 4, 8)] for h in hashed]
    return torch.tensor(words, dtype=torch.int64, device=device)


def philox(counter: Sequence[Tensor], key: Sequence[Tensor]) -> list[Tensor]:
    """Philox 4x32-10: four 32-bit words from a counter of four and a key of two, all held in int64."""
    a, b, c, d = counter
    k, l = key
    for _ in range(10):
        p, q = MULTIPLIERS[0] * a, MULTIPLIERS[1] * c  # products wrap at 64 bits, which is right for these bits
        a, b, c, d = ((q >> 32) & MASK) ^ b ^ k, q & MASK, ((p >> 32) & MASK) ^ d ^ l, p & MASK
        k, l = (k + WEYL[0]) & MASK, (l + WEYL[1]) & MASK
    return [a, b, c, d]


def normals(words: Sequence[Tensor]) -> list[Tensor]:
    """Four normals from four words: the first word of a pair gives the radius, the second the angle."""
    variates = []
    for x, y in (words[:2], words[2:]):
        radius = (-2 * torch.log((x.float() + 0.5) * 2.0**-32)).sqrt()
        angle = (2 * math.pi * 2.0**-32) * y.float()
        variates += [radius * angle.cos(), radius * angle.sin()]
    return variates


def uniforms(words: Sequence[Tensor]) -> list[Tensor]:
    """Four uniforms from four words: the midpoints of 2^23 cells, so neither 0 nor 1."""
    return [((x >> 9).float() + 0.5) * 2.0**-23 for x in words]


class Draws(ABC):
    """The `Random` that tasks draw from: all variates are functions of normals and uniforms."""

    @abstractmethod
    def normal(self, *shape: int) -> Float[Tensor, "streams ..."]:
        """Standard normals."""

    @abstractmethod
    def uniform(self, *shape: int) -> Float[Tensor, "streams ..."]:
        """Uniforms on (0, 1)."""

    def chi(self, degrees: list[int], prompts: int) -> Float[Tensor, "streams degrees prompts"]:
        """Chi variates: a row per entry of `degrees`, the root of a chi-square variate with so many degrees of freedom.

        From SMOOTH degrees on it is the quantile of a normal's probability, a polynomial of the normal to the precision
        of float32. Below, it is the root of -2 log of a product of uniforms, plus a squared normal for odd degrees.
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
        rows += [self._chi_few(k, prompts).unsqueeze(1) for k in few]
        variates = rows[0] if len(rows) == 1 else torch.cat(rows, 1)
        order = sorted(range(len(degrees)), key=lambda i: degrees[i] < SMOOTH)  # which entry each row belongs to
        return variates if order == sorted(order) else variates[:, torch.tensor(order).argsort()]

    def _chi_few(self, k: int, prompts: int) -> Tensor:
        """Chi variates with k < SMOOTH degrees of freedom, `streams prompts`."""
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
    """The polynomial in a normal z whose value is the root of the chi-square quantile at the probability of z.

    Returns its 16 coefficients, from the constant on.
    """
    z = REACH * np.cos(np.pi * (np.arange(256) + 0.5) / 256)
    exact = np.sqrt(
        np.where(z < 0, 2 * special.gammaincinv(k / 2, special.ndtr(z)), special.chdtri(k, special.ndtr(-z)))
    )
    degree = 12 if k >= 16 else 15
    fitted = Chebyshev.fit(z, exact, degree, domain=[-REACH, REACH]).convert(kind=Polynomial)
    return (*map(float, fitted.coef), *[0.0] * (16 - len(fitted.coef)))


class Streams(Draws):
    """Several streams at one step, from prompt `first` on, or for the prompts that `first` lists; each draw continues
    where the previous one ended.

    The last axis of a shape counts prompts, the others variates of a prompt.
    """

    def __init__(
        self, key: Int[Tensor, "streams 3"], dtype: torch.dtype, step: Tensor | int = 0, first: Tensor | int = 0
    ) -> None:
        self.key, self.dtype, self.step, self.first = key, dtype, step, first
        self.normals = self.uniforms = 0  # how many were drawn for each prompt so far

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
        """The variates of each prompt from number `begin` on, four to a counter."""
        variates, prompts = math.prod(shape[:-1]), shape[-1] if shape else 1
        counters = range(begin // 4, -(-(begin + variates) // 4))
        device = self.key.device
        if isinstance(self.first, Tensor) and self.first.ndim:
            own = self.first[:prompts]
        else:
            own = self.first + torch.arange(prompts, device=device)
        prompt = own.expand(len(self.key), len(counters), prompts)
        counter = torch.arange(counters.start, counters.stop, device=device)[:, None]
        key = self.key[:, :, None, None]
        words = philox([prompt, torch.as_tensor(self.step, device=device), counter, key[:, 2]], [key[:, 0], key[:, 1]])
        drawn = torch.stack(convert(words), 2).flatten(1, 2)[:, begin % 4 :][:, :variates]
        return drawn.view(len(self.key), *shape).to(self.dtype)
