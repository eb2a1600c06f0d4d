"""A mixture that adapts to each prompt by itself, with no label beyond those of its context.

Every example in turn is left out, the experts predict its label from the others, and the gates of a layer are those
that would have predicted all n labels best:

    g_l = argmin_g sum_i (y_i - sum_e g_e <w_l^e(-i), x_i>)^2        the prediction is sum_e g_e^l <w_l^e, x_query>

but for a ridge of 1e-6 of what the experts say, squared, as several may say the same.
w_l^e(-i) is where expert e stands after l layers without example i, by G_-i = (n G - x_i x_i^T) / (n - 1).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from .algebra import solve
from .base import Method, Params, TokenModel
from .shared import Mixed, Plain

RIDGE = 1e-6  # of the mean square of the experts' predictions


@dataclass(frozen=True, kw_only=True)
class ContextMixture(Mixed, TokenModel):
    """Gates by leave-one-out least squares, closed form, anew for each prompt and layer.

    experts: as a mixture's, methods that see no more than gradients and curvature. One alone has its step scaled.
    """

    @property
    def trains(self) -> bool:
        """Nothing is trained."""
        return False

    @property
    def needs(self) -> frozenset[str]:
        """Labels that are targets, as those of a quadratic risk."""
        return frozenset({"quadratic"})

    def check(self, d: int, n: int) -> None:
        """Methods of this depth, and an example to leave out."""
        if not self.experts:
            raise ValueError("experts: none given")
        if n < 2:
            raise ValueError(f"experts: are judged by what they say of an example from the others, and n = {n}")
        for model in self.models:
            if model.depth != self.depth:
                raise ValueError(f"experts: one is of depth {model.depth}, the mixture of {self.depth}")
            if model.on_tokens or model.needs or not isinstance(model, Method):
                raise ValueError(f"experts: {type(model).__name__} needs more than gradients; a context has no more")
            model.check(d, n)

    def predictions(self, params: Params, Z: Float[Tensor, "... d_1 n_1 prompts"]) -> Iterator[Tensor]:
        """What it says of the query's label after 0, 1, ..., depth layers."""
        X, y, query = Z[..., :-1, :-1, :], Z[..., -1, :-1, :], Z[..., :-1, -1, :]
        n = y.shape[-2]
        G, b = (X.unsqueeze(-4) * X.unsqueeze(-3)).sum(-2) / n, (X * y.unsqueeze(-3)).sum(-2) / n
        methods = [(m, self.of(params, e)) for e, m in enumerate(self.models) if isinstance(m, Method)]
        whole = [[(w * query).sum(-2) for w in m.iterates(p, Plain(G, b))] for m, p in methods]
        further = [1] * (whole[0][-1].ndim - b.ndim + 1)  # axes of the parameters before those of prompts
        x, label = (v.movedim(-2, 0) for v in (X, y))
        x, label = (v.reshape(n, *further, *v.shape[1:]) for v in (x, label))  # n in front of all
        without = Plain(
            (n * G - x.unsqueeze(-3) * x.unsqueeze(-2)) / (n - 1), (n * b - x * label.unsqueeze(-2)) / (n - 1)
        )
        left_out = [iter(m.iterates(p, without)) for m, p in methods]
        for l in range(self.depth + 1):
            said = torch.stack([(next(one) * x).sum(-2) for one in left_out], -2)  # n jobs experts prompts
            now = torch.stack([one[l] for one in whole], -2)
            if l == 0:
                yield now[..., 0, :]
                continue
            H = (said.unsqueeze(-3) * said.unsqueeze(-2)).mean(0)
            size = said.square().mean((0, -2)) + torch.finfo(said.dtype).tiny
            eye = torch.eye(len(methods), dtype=H.dtype, device=H.device).unsqueeze(-1)
            gates = solve(H + RIDGE * size[..., None, None, :] * eye, (said * label.unsqueeze(-2)).mean(0))
            yield (gates * now).sum(-2)
