"""A training step of every member of a pack, and the parameters it starts from: the mathematics of training, once."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from lfombench.solvers import Solver
from lfombench.tasks import Prompts

from ..compiler.step import Step, Tensors, grouped, in_group
from ..compiler.streams import Streams, keys
from ..spec.job import tunable
from ..spec.protocol import Protocol
from . import adam
from .closed_form import closed_form_start
from .evaluate import check_contract, errors, last
from .pack import WorkOrder, drawing, expert_params, floats, trial_values, with_floats


def training(order: WorkOrder, device: torch.device) -> tuple[Step, Tensors, Tensors, Tensor]:
    """The training step of a pack; what it needs of each job, `jobs ...`; its state, `trials jobs ...`; the keys of the
    prompts' streams.
    """
    pack = order.pack
    protocol, solver = pack.first.protocol, pack.first.solver
    compute = getattr(torch, protocol.dtype)  # in the layers
    dtype = torch.float64 if protocol.dtype == "float64" else torch.float32  # of parameters and Adam
    source = drawing(pack, [job.task for job in pack.jobs], "train", compute, device)
    job = source.job | grouped("solver", floats([job.solver for job in pack.jobs], compute, device))
    start = {name: p.to(dtype) for name, p in initial(order, device).items()}
    params = {name: p for name, p in start.items() if solver.trainable(name)}
    job |= grouped("frozen", {name: p[0].contiguous() for name, p in start.items() if name not in params})
    tuned = {"rate": trial_values(pack, "learning_rate", dtype, device)}
    tuned |= {name: trial_values(pack, name, torch.float64, device) for name in ("beta1", "beta2")}
    tuned |= {"clip": trial_values(pack, "clip", dtype, device)} if protocol.clip is not None else {}
    state = adam.start(params, tuned)
    names = [name for name in tunable(solver) if name in pack.first.trials[0]]
    state |= {f"tried.{name}": trial_values(pack, name, compute, device)[..., None, None] for name in names}
    first = in_group("solver", job) | {name: x[0] for name, x in in_group("tried", state).items()}
    check_contract(with_floats(solver, first), {name: p[0].to(compute) for name, p in start.items()}, source)

    def update(job: Tensors, state: Tensors, batch: Prompts, t: Tensor) -> tuple[Tensors, Tensors]:
        packed = with_floats(solver, in_group("solver", job) | in_group("tried", state))
        loss, gradients = loss_and_gradient(packed, in_group("p", state), in_group("frozen", job), batch, protocol)
        return adam.update(protocol, state, loss, gradients, t)

    name, identity = ("train", pack.program), pack.identity("train")
    step = Step(source.batch, update, protocol.batch, protocol.renew, compute, name, identity)
    return step, job, state, source.key


def loss_and_gradient(
    solver: Solver, params: Tensors, frozen: Tensors, batch: Prompts, protocol: Protocol
) -> tuple[Tensor, Tensors]:
    """Mean squared error of the last iterate over a batch, `trials jobs`, and its gradient, for every member.

    frozen: parameters that are not trained, `jobs ...`.
    """
    total = functools.partial(_loss, solver, frozen, batch, protocol)
    gradients, loss = torch.func.grad(total, has_aux=True)(params)
    return loss, gradients


def _loss(
    solver: Solver, frozen: Tensors, batch: Prompts, protocol: Protocol, params: Tensors
) -> tuple[Tensor, Tensor]:
    """The sum of all members' losses, which has their gradients, and the losses."""
    cast = {name: p.to(batch.w_star.dtype) for name, p in (frozen | params).items()}
    error = last(errors(solver, cast, batch)).to(next(iter(params.values())).dtype)
    error = error if protocol.labels == "query" else error.mean(0)  # over the examples that are left out in turn
    loss = error.sum(-1) / protocol.batch
    return loss.sum(), loss


def initial(order: WorkOrder, device: torch.device) -> Tensors:
    """Parameters of every member, `trials jobs ...`: a stream per task, solver and seed, so that a job starts alike
    under every protocol and in all its trials. ValueError where a solver's `init` breaks its contract.
    """
    pack = order.pack
    streams = [("init", job.case.parts["task"], job.case.parts["solver"], job.seed) for job in pack.jobs]
    random = Streams(keys(streams, device), torch.float32)
    scales = trial_values(pack, "init_scale", torch.float32, device)

    def normal(*shape: int) -> Tensor:
        return random.normal(*shape) * scales.view(*scales.shape, *[1] * len(shape))

    solver, trials = pack.first.solver, len(pack.first.trials)
    params = dict(solver.init(pack.first.task.d, pack.first.task.n, normal))
    if not params and solver.trains:
        raise ValueError(f"{type(solver).__name__} is a learned method: its init must return parameters")
    for name, p in params.items():
        if p.ndim < 2 or p.shape[:2] != (trials, len(pack.jobs)):
            raise ValueError(
                f"{type(solver).__name__}.init gave {name} of shape {tuple(p.shape)}, "
                f"needs ({trials}, {len(pack.jobs)}, ...): make it with normal(...), which puts the jobs in front"
            )
    params |= {name: p.expand(trials, *p.shape) for name, p in expert_params(order, device).items()}
    start = closed_form_start(order, device) or {}
    return {name: start.get(name, p).to(p.dtype).expand_as(p).clone() for name, p in params.items()}
