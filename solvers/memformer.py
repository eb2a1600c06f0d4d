"""The Memformer: a linear transformer whose layers remember past attention (Dutta & Sra, arXiv 2410.07263).

Memory in the manner of conjugate gradients (eq. 17-18), P = 0:

    on tokens   R_l = Attn_{P_l, Q_l}(Z_l) + gamma_l R_{l-1}     Z_{l+1} = Z_l + alpha_l R_l / n
    on (G, b)   s_l = A_l (G w_l - b) + gamma_l s_{l-1}          w_{l+1} = w_l - alpha_l s_l

Training starts at A near 0, alpha near 1 and gamma near 0: from the linear transformer without memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

from jaxtyping import Float
from torch import Tensor

from .attention import attention, prediction
from .base import Method, Normal, Params, Problem, Shape, matrices, precondition, preconditioner


@dataclass(frozen=True, kw_only=True)
class Memformer(Method):
    """memory: cgd, one direction carried from layer to layer. preconditioner, tokens: as in the
    linear transformer.
    """

    family: ClassVar[Literal["learned"]] = "learned"
    memory: Literal["cgd"]
    preconditioner: Shape
    tokens: bool = False

    def init(self, d: int, normal: Normal) -> Params:
        """A: jobs depth (d (d)); alpha and gamma: jobs depth (gamma_0 meets no memory, and is not there)."""
        return {
            "A": preconditioner(self.preconditioner, self.depth, d, normal),
            "alpha": 1 + normal(self.depth),
            "gamma": normal(self.depth - 1),
        }

    def iterates(self, params: Params, problem: Problem) -> Iterator[Float[Tensor, "*jobs d prompts"]]:
        """w_0 .. w_depth."""
        alpha, gamma = params["alpha"], params["gamma"]
        w = problem.start()
        s: Tensor | None = None
        yield w
        for l in range(self.depth):
            step = precondition(self.preconditioner, params["A"], l, problem.gradient(w))
            s = step if s is None else step + gamma[..., l - 1, None, None] * s
            w = w - alpha[..., l, None, None] * s
            yield w

    def predictions(self, params: Params, Z: Float[Tensor, "... d_1 n_1 prompts"]) -> Iterator[Tensor]:
        """The same model on tokens: its prediction at the query after 0 .. depth layers."""
        A = matrices(self.preconditioner, params["A"], Z.shape[-3] - 1)
        alpha, gamma = params["alpha"], params["gamma"]
        n = Z.shape[-2] - 1
        R: Tensor | None = None
        yield prediction(Z)
        for l in range(self.depth):
            step = attention(A[..., l, :, :], Z)
            R = step if R is None else step + gamma[..., l - 1, None, None, None] * R
            Z = Z + alpha[..., l, None, None, None] * R / n
            yield prediction(Z)
