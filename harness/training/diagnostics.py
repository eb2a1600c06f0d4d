"""Diagnostics of a method beside its loss: its residual polynomial, and how conjugate its directions are.

A method whose steps are the same scalar combinations of (preconditioned) gradients for every prompt has
w* - w_k = p(M G) w* with a polynomial p, p(0) = 1: run on problems in R^1, one for each eigenvalue, it says p's values.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from numpy.polynomial import polynomial

from lfombench.solvers import Method
from lfombench.tasks import Law, Quadratic, Risk

from ..compiler.step import Tensors, in_group
from ..compiler.streams import Streams
from .pack import Pack, drawing, floats, with_floats

LARGEST = 3.0  # the eigenvalues that a polynomial is fitted on lie between 0 and this
DEEPEST = 12  # beyond, powers of an eigenvalue say nothing in double precision
PROMPTS = 512  # whose directions are averaged over


Polynomials = list[list[float] | None]  # by job: coefficients, constant first
Cosines = list[list[float | None]]  # by job and step


@torch.no_grad()
def diagnostics(pack: Pack, params: Tensors, device: torch.device) -> tuple[Polynomials, Cosines]:
    """The residual polynomial of each job, None where there is none; and of each step the mean over prompts of |cos| in
    the norm of G between this change of w and the one before: 0 where they are conjugate, None for the first two
    iterates, where there is no G, and on tokens.
    """
    solver = pack.first.solver
    polynomials: Polynomials = [None] * len(pack.jobs)
    cosines: Cosines = [[None] * (solver.depth + 1) for _ in pack.jobs]
    if not isinstance(solver, Method) or solver.on_tokens:
        return polynomials, cosines
    problem = _batch(pack, device)
    if not isinstance(problem, Quadratic):
        return polynomials, cosines
    method, double = _packed(pack, device), {name: p.double() for name, p in params.items()}
    if solver.span and solver.span.fixed and solver.depth <= DEEPEST:
        polynomials = _polynomials(method, double, problem.law, len(pack.jobs), device)
    w = list(method.iterates(double, problem))
    changes = [after - before for before, after in pairwise(w)]
    for k in range(2, solver.depth + 1):
        now, before = changes[k - 1], changes[k - 2]
        curved = problem.curvature(before)
        size = (now * problem.curvature(now)).sum(-2) * (before * curved).sum(-2)
        cosine = (now * curved).sum(-2).abs() / size.sqrt()
        for row, values in zip(cosines, cosine.cpu(), strict=True):
            finite = values[values.isfinite()]
            row[k] = float(finite.mean()) if len(finite) else None
    return polynomials, cosines


def _polynomials(method: Method, params: Tensors, law: Law, jobs: int, device: torch.device) -> Polynomials:
    """The residual polynomial of each job, fitted to its values at depth + 1 eigenvalues, which is exact."""
    depth = method.depth
    nodes = LARGEST / 2 * (1 - np.cos(np.pi * (np.arange(depth + 1) + 0.5) / (depth + 1)))
    x = torch.tensor(nodes, device=device).expand(jobs, 1, -1)
    one = torch.ones_like(x[:, :, :1]).unsqueeze(-1)
    line = Quadratic(Law(root=one, dual=one, edges=law.edges, white=law.white), x.unsqueeze(1), x)
    *_, w = method.iterates(params, line)
    values = 1 - w[:, 0].cpu().numpy()
    return [polynomial.polyfit(nodes, row, depth).tolist() if np.isfinite(row).all() else None for row in values]


def _packed(pack: Pack, device: torch.device) -> Method:
    """The method of all jobs, in float64."""
    solver = with_floats(pack.first.solver, floats([job.solver for job in pack.jobs], torch.float64, device))
    assert isinstance(solver, Method)
    return solver


def _batch(pack: Pack, device: torch.device) -> Risk:
    """The problems of a few prompts, whatever the protocol's draw."""
    source = drawing(pack, [job.task for job in pack.jobs], "portrait", torch.float64, device)
    task = with_floats(source.task, in_group("task", source.job))
    random = Streams(source.key, torch.float64)
    return task.prompts(random, source.job.get("frame"), PROMPTS).problem
