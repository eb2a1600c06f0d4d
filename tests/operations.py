"""Every operation that the compiler has a rule for, on two arrays of four rows, prompts last."""

from __future__ import annotations

import math
from typing import Any

import torch

OPERATIONS: dict[str, Any] = {
    "arithmetic": lambda x, y: x + 2 * y - x / (y * y + 1) - 3,
    "alpha": lambda x, y: torch.sub(x, y, alpha=2) + torch.rsub(x, y, alpha=3) + torch.rsub(y, 2.0),
    "powers": lambda x, y: (
        x**2 + x.square() * y + y.abs() ** 0.5 + x**3 + (1 + y * y).rsqrt() + (1 + x * x).reciprocal()
    ),
    "functions": lambda x, y: x.exp() + (1 + y * y).log() + (x * x).sqrt() + x.sin() * y.cos() + y.tanh() + x.sigmoid(),
    "signs": lambda x, y: x.abs() * y.sign() + torch.relu(x) + torch.maximum(x, y) - torch.minimum(x, y),
    "choice": lambda x, y: torch.where((x > y) & (x < 1) | ~(y >= 0), x, y * 2),
    "scalar choice": lambda x, y: torch.where(x == y, 0.0, x / (y + 4)),
    "matrix": lambda x, y: (x.unsqueeze(1) * y.unsqueeze(2)).sum(1),
    "views": lambda x, y: torch.cat([x[:, 1:], x[:, :1]], 1) + y.unsqueeze(1).expand(-1, 2, -1, -1)[:, 1],
    "reshape": lambda x, y: x.unflatten(1, (2, 2)).transpose(1, 2).flatten(1, 2) * y,
    "stack": lambda x, y: torch.stack([x[:, 0], y[:, 1], x[:, 2], y[:, 3]], 1),
    "constants": lambda x, y: x * torch.eye(4, dtype=x.dtype)[:, :1] + torch.ones_like(y) - torch.zeros_like(y),
    "places": lambda x, y: x[:, torch.tensor([3, 1, 0, -4])] + y.select(1, 2).unsqueeze(1),
    "uneven views": lambda x, y: (x.unsqueeze(1) * y.unsqueeze(2)).flatten(1, 2)[:, 1:13].unflatten(1, (3, 4)).sum(1),
    "overwritten": lambda x, y: torch.select_scatter(x, y[:, 1], 1, 2) + torch.slice_scatter(y, x[:, :2], 1, 1, 3),
    "einsum": lambda x, y: torch.einsum("jip,jkp,jkp->jip", x, y, y),
    "mean": lambda x, y: x - x.mean(1, keepdim=True) + y.norm(dim=1, keepdim=True),
    "in place": lambda x, y: x.clone().mul_(2).add_(y),
    "empty": lambda x, y: x + torch.cat([y[:, :0], y], 1) * (1 + x[:, 2:2].sum(1, keepdim=True)),
    "types": lambda x, y: x.float().to(x.dtype) + (y > 0).to(x.dtype),
}


def update(job: Any, state: Any, batch: Any, t: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """A step of all operations, forward and backward, of the three jobs that `tensors` gives."""
    changes, records = {}, {}
    for name, operation in OPERATIONS.items():

        def total(scale: Any, operation: Any = operation) -> Any:
            value = operation(scale[0, :, :, None] * batch, batch + job["shift"][:, :, None])
            return value.sum(), value

        gradient, value = torch.func.grad(total, has_aux=True)(state[name])
        changes[name] = state[name] - 0.01 * gradient
        records[name] = value.sum((1, 2)).unsqueeze(0)
    return changes, records


def tensors(dtype: torch.dtype) -> tuple[dict[str, Any], dict[str, Any]]:
    """The jobs and the state that the step begins with."""
    start = torch.linspace(0.5, 1.5, 12, dtype=dtype).view(1, 3, 4)
    return {"shift": torch.linspace(-1, 1, 12, dtype=dtype).view(3, 4)}, {name: start.clone() for name in OPERATIONS}


EDGES = (0.0, -1.0, math.inf, -math.inf, math.nan, 1e-45, 1e-40, 1.17549435e-38, 3.4e38, 700.0, -700.0, 1.0)


def at_edges(job: Any, state: Any, batch: Any, t: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Functions at the numbers of `job["x"]` where they are easily wrong, as each prompt has them (`1 n prompts`), and
    as constants.
    """
    numbers = job["x"][:, :, None]
    values = []
    for x in (torch.where(batch[:, :1] > 2, batch[:, :1], numbers), torch.tensor(EDGES, dtype=batch.dtype)[:, None]):
        found = [x.log(), x.sqrt(), (x.abs() + 1).rsqrt(), x.exp(), x.tanh(), x.sigmoid(), x**2, x.sign(), x.relu()]
        values += [torch.where(batch[:, :1] > 2, batch[:, :1], y) for y in found]
    return {}, {"value": torch.cat(values, 1).unsqueeze(0)}
