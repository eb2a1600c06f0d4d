"""The linear transformer with P = 0 (Ahn et al., 2023): preconditioned gradient descent with learned preconditioners.

    on tokens   Z_{l+1} = Z_l + Attn_{P_l, Q_l}(Z_l) / n      P_l = [[0, 0], [0, 1]],  Q_l = -[[A_l^T, 0], [0, 0]]
    on (G, b)   w_{l+1} = w_l - A_l (G w_l - b)               w_0 = 0

Both are the same function of the prompt (Lemma 1 there): -[Z_l]_{d+1, n+1} = <w_l, query>. Several heads add up
to one A_l.
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
class LinearTransformer(Method):
    """preconditioner: A_l = a_l I (gradient descent with learned steps), a diagonal, or any matrix. tokens: the form
    on tokens; the numbers are the same, up to the query being sampled.
    """

    family: ClassVar[Literal["learned"]] = "learned"
    preconditioner: Shape
    tokens: bool = False

    def init(self, d: int, normal: Normal) -> Params:
        """A: jobs depth (d (d))."""
        return {"A": preconditioner(self.preconditioner, self.depth, d, normal)}

    def iterates(self, params: Params, problem: Problem) -> Iterator[Float[Tensor, "*jobs d prompts"]]:
        """w_0 .. w_depth."""
        w = problem.start()
        yield w
        for l in range(self.depth):
            w = w - precondition(self.preconditioner, params["A"], l, problem.gradient(w))
            yield w

    def predictions(self, params: Params, Z: Float[Tensor, "... d_1 n_1 prompts"]) -> Iterator[Tensor]:
        """The same model on tokens: its prediction at the query after 0 .. depth layers."""
        A = matrices(self.preconditioner, params["A"], Z.shape[-3] - 1)
        n = Z.shape[-2] - 1
        yield prediction(Z)
        for l in range(self.depth):
            Z = Z + attention(A[..., l, :, :], Z) / n
            yield prediction(Z)
