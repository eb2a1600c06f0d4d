"""Adam (Kingma & Ba, 2015) for every member of a pack. State and gradients are `trials jobs ...`."""

from __future__ import annotations

import functools
import math

import torch
from jaxtyping import Float
from torch import Tensor

from ..compiler.step import Tensors, grouped
from ..spec.protocol import Protocol


def start(params: Tensors, tuned: dict[str, Float[Tensor, "trials jobs"]]) -> Tensors:
    """The state at the first step: p (parameters), mean and square of gradients, whether and when a member died.

    tuned: rate, beta1, beta2 (these in float64), and clip where gradients are clipped.
    """
    state = grouped("p", params)
    state |= grouped("mean", {name: torch.zeros_like(p) for name, p in params.items()})
    state |= grouped("square", {name: torch.zeros_like(p) for name, p in params.items()})
    state |= tuned | {"alive": torch.ones_like(tuned["rate"], dtype=torch.bool)}
    state["died"] = torch.zeros_like(tuned["rate"], dtype=torch.int64)
    return state


def update(protocol: Protocol, state: Tensors, loss: Tensor, gradients: Tensors, t: Tensor) -> tuple[Tensors, Tensors]:
    """The state after step t, counted from 0, and what is recorded of it.

    beta1 and beta2 are in float64. A member whose loss or gradient is not finite stays as it was.
    """
    norm = functools.reduce(torch.add, [_over(g.square()) for g in gradients.values()]).sqrt()
    if "clip" in state:
        gradients = {name: clipped(g, state["clip"]) for name, g in gradients.items()}
    alive = state["alive"] & loss.isfinite() & norm.isfinite()
    step, dtype = t + 1, state["rate"].dtype
    died = torch.where((state["died"] == 0) & ~alive, step, state["died"])
    rate = torch.where(alive, state["rate"] * schedule(protocol, t).to(dtype), 0.0)
    changes = {"alive": alive, "died": died}
    for name, g in gradients.items():
        b1, b2 = (_like(state[b].to(dtype), g) for b in ("beta1", "beta2"))
        c1, c2 = (_like((1 - state[b] ** step.double()).to(dtype), g) for b in ("beta1", "beta2"))
        p, mean, square = (state[f"{part}.{name}"] for part in ("p", "mean", "square"))
        mean = mean + (1 - b1) * (g - mean)
        square = square + (1 - b2) * (g * g - square)
        change = _like(rate, g) * (mean / c1 / ((square / c2).sqrt() + 1e-8))
        changes[f"p.{name}"] = p - torch.where(_like(alive, g), change, 0.0)
        changes[f"mean.{name}"], changes[f"square.{name}"] = mean, square
    return changes, {"loss": loss, "norm": norm}


def clipped(g: Tensor, clip: Float[Tensor, "trials jobs"]) -> Tensor:
    """A gradient `trials jobs layers ...`, each layer's scaled down to the norm `clip` where it is longer."""
    flat = g.reshape(*g.shape[:3], math.prod(g.shape[3:]))
    norm = flat.square().sum(-1).sqrt()
    scale = torch.where(norm > clip.unsqueeze(-1), clip.unsqueeze(-1) / norm, torch.ones_like(norm))
    return (flat * scale.unsqueeze(-1)).view(g.shape)


def schedule(protocol: Protocol, t: Tensor) -> Tensor:
    """The factor on the learning rate at a step; in float64."""
    if protocol.schedule == "constant":
        return torch.ones_like(t, dtype=torch.float64)
    first, *further = protocol.rounds
    begin, end = torch.zeros_like(t), torch.full_like(t, first)
    for round, after in zip((first, *further), further, strict=False):
        begin, end = (torch.where(t >= round, torch.full_like(t, x), y) for x, y in ((round, begin), (after, end)))
    return 0.5 * (1 + (math.pi * (t - begin).double() / (end - begin).double()).cos())


def _over(x: Tensor) -> Tensor:
    """The sum over all axes but the first two: trials jobs."""
    return x.reshape(*x.shape[:2], -1).sum(-1)


def _like(member: Tensor, update: Tensor) -> Tensor:
    """A value per member, shaped to broadcast with an update."""
    return member.view(*member.shape, *[1] * (update.ndim - 2))
