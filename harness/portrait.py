"""What a method is, besides how well it does: its residual polynomial, and how conjugate its directions are.

A method whose steps are the same scalar combinations of (preconditioned) gradients for every prompt has
w* - w_k = p(M G) w* with a polynomial p, p(0) = 1: run on problems in R^1, one for each eigenvalue, it says p's values.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from numpy.polynomial import polynomial

from lfombench.solvers import Method
from lfombench.tasks import Law, Quadratic

from .pack import Pack, floats, having, prompts
from .step import Tensors, under
from .streams import Streams

REACH = 3.0  # eigenvalues from 0 to here
DEEPEST = 12  # beyond, powers of an eigenvalue say nothing in double precision
PROMPTS = 512  # whose directions are looked at


@torch.no_grad()
def residual_polynomials(pack: Pack, params: Tensors, device: torch.device) -> list[list[float] | None]:
    """p's coefficients for each job, from the constant on; None where there is no such polynomial."""
    solver, span = pack.first.solver, pack.first.solver.span
    drawn = _batch(pack, device)
    has_one = isinstance(solver, Method) and span is not None and span.fixed and solver.depth <= DEEPEST
    if not has_one or not isinstance(drawn, Quadratic):
        return [None] * len(pack.jobs)
    depth = solver.depth
    nodes = REACH / 2 * (1 - np.cos(np.pi * (np.arange(depth + 1) + 0.5) / (depth + 1)))
    x = torch.tensor(nodes, device=device).expand(len(pack.jobs), 1, -1)
    one = torch.ones_like(x[:, :, :1]).unsqueeze(-1)
    line = Quadratic(Law(root=one, dual=one, edges=drawn.law.edges, white=drawn.law.white), x.unsqueeze(1), x)
    *_, w = _packed(pack, device).iterates({name: p.double() for name, p in params.items()}, line)
    values = 1 - w[:, 0].cpu().numpy()
    return [polynomial.polyfit(nodes, row, depth).tolist() if np.isfinite(row).all() else None for row in values]


@torch.no_grad()
def conjugacy(pack: Pack, params: Tensors, device: torch.device) -> list[list[float | None]]:
    """For each job and step k, the mean over prompts of |cos| in the norm of G between the k-th change of w and the
    one before: 0 where they are conjugate. None for the first two iterates, where there is no G, and on tokens.
    """
    solver, problem = pack.first.solver, _batch(pack, device)
    nothing: list[list[float | None]] = [[None] * (solver.depth + 1) for _ in pack.jobs]
    if not isinstance(solver, Method) or solver.on_tokens or not isinstance(problem, Quadratic):
        return nothing
    w = list(_packed(pack, device).iterates({name: p.double() for name, p in params.items()}, problem))
    steps = [after - before for before, after in pairwise(w)]
    for k in range(2, solver.depth + 1):
        now, then = steps[k - 1], steps[k - 2]
        seen = problem.curvature(then)
        size = (now * problem.curvature(now)).sum(-2) * (then * seen).sum(-2)
        cosine = (now * seen).sum(-2).abs() / size.sqrt()
        for row, found in zip(nothing, cosine, strict=True):
            finite = found[found.isfinite()]
            row[k] = float(finite.mean()) if len(finite) else None
    return nothing


def _packed(pack: Pack, device: torch.device) -> Method:
    solver = having(pack.first.solver, floats([job.solver for job in pack.jobs], torch.float64, device))
    assert isinstance(solver, Method)
    return solver


def _batch(pack: Pack, device: torch.device) -> object:
    """A few prompts' problem, whatever the protocol's draw."""
    drawing = prompts(pack, [job.task for job in pack.jobs], "portrait", torch.float64, device)
    task = having(drawing.task, under("task", drawing.job))
    random = Streams(drawing.key, torch.float64)
    return task.prompts(random, drawing.job.get("frame"), PROMPTS).problem
