"""Training that starts from a closed form: the best method of a solver's kind, as its parameters."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from lfombench.solvers import Method

from ..compiler.step import Tensors, under
from ..compiler.streams import Streams
from .closed_form import fit
from .pack import Pack, having, prompts


def closed_form(pack: Pack, device: torch.device) -> Tensors | None:
    """Parameters to start from, `jobs ...`; None where training starts from random numbers.

    The residual polynomial of the best method is a product of l factors 1 - x / r_l, each of them a layer.
    """
    solver = pack.first.solver
    if not isinstance(solver, Method) or solver.bound is None:
        return None
    best = [job.having(solver=solver.bound, protocol=replace(job.protocol, tune=())) for job in pack.jobs]
    q = fit(replace(pack, jobs=tuple(best)), device).params["q"][:, -1].cpu().numpy()  # p(x) = 1 - x q(x)
    roots = np.array([np.sort_complex(np.roots([*-row[::-1], 1.0])) for row in q])
    if np.abs(roots.imag).max() > 1e-6:
        raise ValueError(f"start: the best method of depth {solver.depth} has roots that are not real")
    drawing = prompts(pack, [job.task for job in pack.jobs], "init", torch.float64, device)
    task = having(drawing.task, under("task", drawing.job))
    dual = task.examples(Streams(drawing.key, torch.float64), drawing.job.get("frame"), 2).law.dual
    if "covariance" in solver.bound.needs and (dual is None or dual.shape[-1] != 1):
        raise ValueError("start: there is no one Sigma^{-1} for all prompts to start from")
    r = torch.tensor(roots.real[:, ::-1].copy(), device=device)
    inverse = None if dual is None else dual[..., 0] @ dual[..., 0].mT
    return dict(solver.layers(r, inverse))
