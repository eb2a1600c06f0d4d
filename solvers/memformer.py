"""The Memformer: a linear transformer whose layers remember past attention (Dutta & Sra, arXiv 2410.07263), P = 0.

cgd, in the manner of conjugate gradients (eq. 17-18):
    on tokens   R_l = Attn(Z_l) + gamma_l R_{l-1}       Z_{l+1} = Z_l + alpha_l R_l / n
    on (G, b)   s_l = A_l g_l + gamma_l s_{l-1}         w_{l+1} = w_l - alpha_l s_l            g_l = G w_l - b
lfom, all past attention at every layer (eq. 19-20):
    on tokens   R_l = Attn(Z_l)                         Z_{l+1} = Z_l + sum_{j <= l} Gamma_j^l (.) R_j / n
    on (G, b)                                           w_{l+1} = w_l - sum_{j <= l} Gamma_j^l A_j g_j
ungated, as lfom but without a gate on the layer's own attention: Gamma_l^l = 1.
hadamard, a recursion:
    on tokens   R_l = Attn(Z_l) + Gamma_l (.) R_{l-1}   Z_{l+1} = Z_l + R_l / n
    on (G, b)   s_l = A_l g_l + Gamma_l s_{l-1}         w_{l+1} = w_l - s_l

Gamma is a number; a diagonal, which multiplies the remembered A_j g_j in R^d; or a gate per token, as published, which
exists only in the form on tokens and belongs to their positions. Tied, Gamma_j^l = Gamma_j, as published.
Training starts at A near 0, alpha near 1, the lfom gates near `gate_start` and all others near 0: where `gate_start` is
1, or the layer's own attention has no gate, this is near the linear transformer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Ge
from jaxtyping import Float
from torch import Tensor

from .algebra import Shape
from .attention import read, summary
from .base import Normal, Params, Problem, Span
from .linear_transformer import Attentive


@dataclass(frozen=True, kw_only=True)
class Memformer(Attentive):
    """A linear transformer with memory.

    memory: one of the forms above. gate: the form of Gamma; memory cgd has numbers alone.
    free: a Gamma_j^l of its own for every later layer l; otherwise they are tied over l.
    gate_start: mean of the lfom gates at the start of training.
    The other fields are those of the linear transformer.
    """

    memory: Literal["cgd", "lfom", "ungated", "hadamard"]
    preconditioner: Shape
    gate: Literal["scalar", "diagonal", "token"] = "scalar"
    free: bool = False
    gate_start: float = 1.0
    looped: bool = False
    heads: Annotated[int, Ge(1)] = 1
    tokens: bool = False

    @property
    def span(self) -> Span | None:
        """The Krylov space of G, with fixed coefficients, for scalar A and scalar gates; None for others."""
        return Span("identity", fixed=True) if self.preconditioner == self.gate == "scalar" else None

    @property
    def on_tokens(self) -> bool:
        """Whether the form on tokens is asked for, or needed by gates per token."""
        return self.tokens or self.gate == "token"

    @property
    def context(self) -> bool:
        """Whether there are gates per token, which belong to positions in the prompt."""
        return self.gate == "token"

    def check(self, d: int, n: int) -> None:
        """Check that the memory has this kind of gate, and pairs of layers where gates are free."""
        if self.memory == "cgd" and self.gate != "scalar":
            raise ValueError(
                f"gate: got {self.gate}; memory cgd has numbers alone, other memories have {self.gate} gates"
            )
        if self.free and self.memory not in ("lfom", "ungated"):
            raise ValueError(
                f"free: memory {self.memory} has one gate a layer; lfom and ungated have one for each pair"
            )

    def init(self, d: int, n: int, normal: Normal) -> Params:
        """Initial A, as in the linear transformer; cgd: alpha, jobs depth, and gamma, jobs depth-1; others: Gamma, jobs
        gates (d or n+1), where gates stand layer after layer, each with what it remembers in order.
        """
        params = dict(super().init(d, n, normal))
        if self.memory == "cgd":
            return params | {"alpha": 1 + normal(self.depth), "gamma": normal(self.depth - 1)}
        size = {"scalar": (), "diagonal": (d,), "token": (n + 1,)}[self.gate]
        layers = self.depth if self.memory == "lfom" else self.depth - 1
        gates = normal(layers * (layers + 1) // 2 if self.free else layers, *size)
        return params | {"Gamma": self.gate_start + gates if self.memory == "lfom" else gates}

    def iterates(self, params: Params, problem: Problem) -> Iterator[Float[Tensor, "*jobs d prompts"]]:
        """Yield w_0 .. w_depth."""
        w = problem.start()
        past: list[Tensor] = []
        yield w
        for l in range(self.depth):
            change, past = self._recall(params, l, self.step(params, l, problem.gradient(w)), past)
            w = w - change
            yield w

    def predictions(self, params: Params, Z: Float[Tensor, "... d_1 n_1 prompts"]) -> Iterator[Tensor]:
        """Yield the predictions at the query of the form on tokens, after 0 .. depth layers. The memory holds rows of
        labels; with diagonal gates it holds the vectors from which these are computed, A_j times the summary.
        """
        X, y = Z[..., :-1, :, :], Z[..., -1, :, :]
        d, n = X.shape[-3], X.shape[-2] - 1
        eye = torch.eye(d, dtype=Z.dtype, device=Z.device)
        past: list[Tensor] = []
        yield -y[..., -1, :]
        for l in range(self.depth):
            s = summary(X, y) / n
            if self.gate == "diagonal":
                A = self.matrix(params, l, d)
                change, past = self._recall(params, l, (A[..., None] * s.unsqueeze(-3)).sum(-2), past)
                y = y + read(eye, X, change)
            else:
                change, past = self._recall(params, l, read(self.matrix(params, l, d), X, s), past)
                y = y + change
            yield -y[..., -1, :]

    def _recall(self, params: Params, l: int, attention: Tensor, past: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """The change by layer l, from its own attention and the memory; and the memory after it."""
        if self.memory in ("cgd", "hadamard"):
            weight = params["gamma" if self.memory == "cgd" else "Gamma"]
            s = attention + _gate(weight, self.gate, l - 1) * past[0] if past else attention
            return (_gate(params["alpha"], "scalar", l) * s if self.memory == "cgd" else s), [s]
        ungated = self.memory == "ungated"  # without a gate on the layer's own attention
        change = attention if ungated else None
        for j, R in enumerate(past if ungated else [*past, attention]):
            index = j if not self.free else (l * (l - 1) if ungated else l * (l + 1)) // 2 + j
            term = _gate(params["Gamma"], self.gate, index) * R
            change = term if change is None else change + term
        assert change is not None
        return change, [*past, attention]


def _gate(Gamma: Tensor, kind: str, index: int) -> Tensor:
    """One gate, in a shape that broadcasts with what is remembered."""
    return Gamma[..., index, None, None] if kind == "scalar" else Gamma[..., index, :, None]
