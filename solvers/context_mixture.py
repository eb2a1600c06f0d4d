"""A mixture that adapts to each prompt by itself, with no label beyond those of its context.

Every example in turn is left out, and the experts predict its label from the others. The gates of a layer are those
that predict all n labels best:

    g_l = argmin_g sum_i (y_i - sum_e g_e <w_l^e(-i), x_i>)^2        the prediction is sum_e g_e^l <w_l^e, x_query>

with a ridge penalty of 1e-6 times the mean square of the experts' predictions, as several experts may predict the same.
w_l^e(-i) is the iterate of expert e after l layers without example i, by G_-i = (n G - x_i x_i^T) / (n - 1).
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
    """Gates by leave-one-out least squares, in closed form, anew for each prompt and layer.

    experts: as those of a mixture, but methods that see no more than gradients and curvature. With one expert, its gate
    is a factor on its prediction.
    """

    @property
    def trains(self) -> bool:
        """False: nothing is trained."""
        return False

    @property
    def needs(self) -> frozenset[str]:
        """A quadratic risk, whose labels are targets."""
        return frozenset({"quadratic"})

    def check(self, d: int, n: int) -> None:
        """Check that the experts are methods of this depth, and that there is an example to leave out."""
        if not self.experts:
            raise ValueError("experts: none given")
        if n < 2:
            raise ValueError(f"experts: are judged by how they predict an example from the others, and n = {n}")
        for model in self.models:
            if model.depth != self.depth:
                raise ValueError(f"experts: one is of depth {model.depth}, the mixture of {self.depth}")
            if model.on_tokens or model.needs or not isinstance(model, Method):
                raise ValueError(f"experts: {type(model).__name__} needs more than gradients; a context has no more")
            model.check(d, n)

    def predictions(self, params: Params, Z: Float[Tensor, "... d_1 n_1 prompts"]) -> Iterator[Tensor]:
        """Yield the predictions of the query's label after 0, 1, ..., depth layers."""
        X, y, query = Z[..., :-1, :-1, :], Z[..., -1, :-1, :], Z[..., :-1, -1, :]
        n = y.shape[-2]
        G, b = (X.unsqueeze(-4) * X.unsqueeze(-3)).sum(-2) / n, (X * y.unsqueeze(-3)).sum(-2) / n
        methods = [(m, self.params_of(params, e)) for e, m in enumerate(self.models) if isinstance(m, Method)]
        query_predictions = [[(w * query).sum(-2) for w in m.iterates(p, Plain(G, b))] for m, p in methods]
        extra_axes = [1] * (
            query_predictions[0][-1].ndim - b.ndim + 1
        )  # axes of the parameters before those of prompts
        x, label = (v.movedim(-2, 0) for v in (X, y))
        x, label = (v.reshape(n, *extra_axes, *v.shape[1:]) for v in (x, label))  # n in front of all
        left_out_problem = Plain(
            (n * G - x.unsqueeze(-3) * x.unsqueeze(-2)) / (n - 1), (n * b - x * label.unsqueeze(-2)) / (n - 1)
        )
        left_out_iterates = [iter(m.iterates(p, left_out_problem)) for m, p in methods]
        for l in range(self.depth + 1):
            predicted = torch.stack(
                [(next(iterates) * x).sum(-2) for iterates in left_out_iterates], -2
            )  # n jobs experts prompts
            at_query = torch.stack([outputs[l] for outputs in query_predictions], -2)
            if l == 0:
                yield at_query[..., 0, :]
                continue
            H = (predicted.unsqueeze(-3) * predicted.unsqueeze(-2)).mean(0)
            mean_square = predicted.square().mean((0, -2)) + torch.finfo(predicted.dtype).tiny
            eye = torch.eye(len(methods), dtype=H.dtype, device=H.device).unsqueeze(-1)
            gates = solve(H + RIDGE * mean_square[..., None, None, :] * eye, (predicted * label.unsqueeze(-2)).mean(0))
            yield (gates * at_query).sum(-2)
