"""The simulation theorem as code: any linear first-order method is a Memformer (Dutta & Sra, arXiv 2410.07263).

A method of depth k is its coefficients, scalar or diagonal:

    w_{m+1} = w_0 + sum_{i <= m} Gamma_i^m grad R(w_i)        m = 0 .. k-1

A Memformer with lfom memory, free gates and A_l = I makes w_{l+1} = w_l - sum_{j <= l} C_j^l grad R(w_j), so the gates
C_j^l = Gamma_j^{l-1} - Gamma_j^l (with Gamma_l^{l-1} = 0) make its layers follow the method's points on every prompt.

The theorem does not say that one Memformer is conjugate gradients. Their coefficients depend on the prompt; with those
of one prompt a Memformer follows them there, and on the next prompt it is another method. Nor does it say that
training finds such gates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from .base import Known, Method, Params, Problem
from .memformer import Memformer


def compile_lfom(
    Gamma: Float[Tensor, "*jobs k k"] | Float[Tensor, "*jobs k k d"], *, diagonal: bool = False, tokens: bool = False
) -> tuple[Memformer, dict[str, Tensor]]:
    """A Memformer and its parameters, with the iterates of a linear first-order method.

    Gamma: Gamma_i^m at [..., m, i]; entries above the diagonal are not read. diagonal: Gamma has a further axis, R^d.
    tokens: the Memformer in its form on tokens.
    """
    coefficients = Gamma if diagonal else Gamma.unsqueeze(-1)  # *jobs k k d or 1
    k = coefficients.shape[-2]
    gates = [
        (coefficients[..., l - 1, j, :] if j < l else torch.zeros_like(coefficients[..., l, j, :]))
        - coefficients[..., l, j, :]
        for l in range(k)
        for j in range(l + 1)
    ]
    C = torch.stack(gates, -2)
    gate: Literal["scalar", "diagonal"] = "diagonal" if diagonal else "scalar"
    model = Memformer(depth=k, memory="lfom", preconditioner="scalar", gate=gate, free=True, tokens=tokens)
    return model, {"A": torch.ones_like(coefficients[..., 0, :, 0]), "Gamma": C if diagonal else C.squeeze(-1)}


def coefficients_of(method: Method, params: Params, problem: Problem | None = None) -> Float[Tensor, "*jobs k k"]:
    """Gamma of a method whose steps are fixed scalar combinations of gradients, computed by running it on gradients
    that are unit vectors. Its points are those at which it takes gradients (Nesterov's are extrapolated), and w_k as
    the last.

    problem: where steps are `theory`, the problem whose ends of the spectrum give them.
    """
    like = next(iter(params.values()), torch.empty(0, dtype=torch.float64))
    recorder = _Recorder(method.depth, like, problem, [])
    *_, last = method.iterates(params, recorder)
    points = [*recorder.evaluated[1:], last]
    assert len(recorder.evaluated) == method.depth, "a gradient a step"
    return torch.stack([point.squeeze(-1).expand(*last.shape[:-1]) for point in points], -2)


@dataclass(frozen=True)
class _Recorder:
    """A problem whose k-th gradient is the k-th unit vector, so that the method's points are its coefficients."""

    depth: int
    like: Tensor
    problem: Problem | None
    evaluated: list[Tensor]  # the points at which gradients were taken

    def start(self) -> Float[Tensor, "*jobs k prompts"]:
        return self.like.new_zeros(1, self.depth, 1)

    def gradient(self, w: Float[Tensor, "*jobs k prompts"]) -> Float[Tensor, "*jobs k prompts"]:
        self.evaluated.append(w)
        unit = torch.arange(self.depth, device=w.device) == len(self.evaluated) - 1
        return unit.to(w.dtype)[None, :, None]

    def interval(self, known: Known) -> tuple[Tensor, Tensor]:
        assert self.problem is not None, "steps by theory need a problem"
        return self.problem.interval(known)

    def curvature(self, p: Tensor, w: Tensor | None = None) -> Tensor:
        raise TypeError("its coefficients depend on the prompt")

    def whiten(self, g: Tensor) -> Tensor:
        raise TypeError("it is preconditioned: its steps are not scalars times gradients")

    def penalty(self) -> Tensor:
        raise TypeError("it is not a first-order method")
