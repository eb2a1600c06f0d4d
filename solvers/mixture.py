"""A mixture of experts: trained solvers, and gates that adapt to the task they meet (Dutta & Sra, arXiv 2410.07263).

    updates   w_{l+1} = w_l + sum_e g_e^l u_e^l      u_e^l: the step that expert e would take from the shared w_l
    outputs   w_l = sum_e g_e^l w_l^e                w_l^e: the iterate of expert e by itself

On tokens updates are Z_{l+1} = Z_l + sum_e g_e^l Attn_e^l(Z_l), as in the paper. Gates are any numbers (linear), a
softmax, or the positive parts of numbers over their sum (simplex); one for each expert, or for each layer and expert.
A scale multiplies all of them. With one expert, updates and linear gates, the gate is a factor on its step.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, cast

import torch
from jaxtyping import Float
from torch import Tensor

from .base import Fitted, Method, Normal, Params, Problem, Residual, Solver, TokenModel
from .gd_plus_plus import GdPlusPlus
from .shared import Flat, Mixed, Shared

MEMORY = ("alpha", "gamma", "Gamma")  # parameters of a model that weight its memory


@dataclass(frozen=True, kw_only=True)
class Mixture(Mixed, Fitted):
    """Experts, trained beforehand, each a solver of this depth with the task and protocol that trained it.

    gates: one for each expert, or for each layer and expert. form: the values they may have. combine: what they weight.
    moves: what training changes: nothing; the gates; one scale for all gates; the experts' memory; gates and experts.
    start: of the gates: all 1 / experts or, as published, all 0. by: what trains them: the protocol's optimiser or,
        where they are linear and of outputs, least squares on the training batch.
    """

    gates: Literal["expert", "layer"] = "expert"
    form: Literal["linear", "softmax", "simplex"] = "linear"
    combine: Literal["updates", "outputs"] = "updates"
    moves: Literal["nothing", "gates", "scale", "memory", "everything"] = "gates"
    start: Literal["uniform", "zero"] = "uniform"
    by: Literal["descent", "least_squares"] = "descent"

    @property
    def family(self) -> Literal["learned", "control"]:  # type: ignore[override]  # a property where others have a constant
        """Learned where training changes anything, else a control."""
        return "control" if self.moves == "nothing" else "learned"

    @property
    def fits(self) -> bool:
        """Whether the gates are fitted by least squares."""
        return self.by == "least_squares"

    @property
    def trains(self) -> bool:
        """Whether anything is trained by descent."""
        return self.moves != "nothing" and not self.fits

    @property
    def needs(self) -> frozenset[str]:
        """The facts that any expert needs."""
        return frozenset().union(*(model.needs for model in self.models))

    @property
    def on_tokens(self) -> bool:
        """Whether the experts run on tokens."""
        return any(model.on_tokens for model in self.models)

    @property
    def context(self) -> bool:
        """Whether an expert's parameters belong to positions in the prompt."""
        return any(model.context for model in self.models)

    def trainable(self, name: str) -> bool:
        """Whether this parameter is trainable; if not, it is frozen."""
        own = name in ("gates", "scale")
        match self.moves:
            case "nothing":
                return False
            case "gates" | "scale":
                return name == self.moves
            case "memory":
                return not own and name.partition(".")[2] in MEMORY
            case "everything":
                return name != "scale"

    def check(self, d: int, n: int) -> None:
        """Check that the experts fit each other and the other fields."""
        if not self.experts:
            raise ValueError("experts: none given")
        if len({model.on_tokens for model in self.models}) > 1:
            raise ValueError("experts: some run on tokens, others do not; give those tokens: true")
        depths = sorted({model.depth for model in self.models})
        if depths != [self.depth]:
            raise ValueError(f"experts: are of depth {', '.join(map(str, depths))}, the mixture of {self.depth}")
        if self.start == "zero" and self.form == "simplex":
            raise ValueError(
                "start: zero gates are not on the simplex; with softmax zeros are uniform, linear gates may be zero"
            )
        if (self.start, self.form, self.moves) == ("zero", "linear", "scale"):
            raise ValueError("start: a scale changes nothing where gates are 0 and not trained; say start: uniform")
        if self.fits and (self.moves, self.form, self.combine) != ("gates", "linear", "outputs"):
            raise ValueError("by: least_squares is for moves: gates, form: linear, combine: outputs")
        if self.fits and self.on_tokens:
            raise ValueError("by: least_squares is for experts that are not on tokens")
        for model in self.models:
            model.check(d, n)
        if self.moves == "memory" and not any(name in MEMORY for model in self.models for name in _zeros(model, d, n)):
            raise ValueError("moves: memory, which none of the experts has")
        if self.combine == "updates":
            self._check_updates(d, n)

    def _check_updates(self, d: int, n: int) -> None:
        """Check that the experts can take their steps from a state that others have changed."""
        gd_models = [model for model in self.models if isinstance(model, GdPlusPlus)]
        if len(gd_models) == len(self.models):
            if any(model.memory != "none" for model in gd_models):
                raise ValueError("combine: GD++ models with memory cannot share one memory; say combine: outputs")
            return
        if gd_models:
            raise ValueError(
                "combine: GD++ changes X too, so its updates need other GD++ beside it; say combine: outputs"
            )
        for model in self.models:
            if self.on_tokens or not isinstance(model, Method):
                raise ValueError(f"combine: {type(model).__name__} on tokens has no updates; say combine: outputs")
            zero = torch.zeros(1, d, 1)
            for _ in model.iterates(_zeros(model, d, n), Shared(Flat(zero), zero)):
                pass

    # ---- parameters --------------------------------------------------------------------------------------------------

    def init(self, d: int, n: int, normal: Normal) -> Params:
        """Initial gates: jobs (depth) experts; scale: jobs 1. The parameters of the experts come from their jobs."""
        count = len(self.experts)
        gates = 0 * normal(*([self.depth] if self.gates == "layer" else []), count)
        initial = 0.0 if self.start == "zero" or self.form == "softmax" else 1 / count
        return {"gates": gates + initial, "scale": 1 + 0 * normal(1)}

    def weights(self, params: Params, l: int, axes: int = 2) -> list[Tensor]:
        """The gates g_e of every expert at layer l, with so many axes of size 1 after those of jobs, to broadcast."""
        raw = params["gates"][..., l, :] if self.gates == "layer" else params["gates"]
        if self.form == "softmax":
            raw = raw.exp() / raw.exp().sum(-1, keepdim=True)
        elif self.form == "simplex":
            raw = torch.relu(raw) / torch.relu(raw).sum(-1, keepdim=True)
        gates = (raw * params["scale"]).unbind(-1)
        return [g.reshape(*g.shape, *[1] * axes) for g in gates]

    def moments(self, params: Params, problem: Problem, residual: Residual) -> Params:
        """H: jobs depth experts experts, h: jobs depth experts. The error with gates g is <g, H g> + 2 <h, g> + ..."""
        outputs = [
            list(_iterates(model, self.params_of(params, e), problem))[1:] for e, model in enumerate(self.models)
        ]
        r = residual(problem.start())
        columns = torch.stack([torch.stack([residual(w) - r for w in iterates], -3) for iterates in outputs], -3)
        H = (columns.unsqueeze(-3) * columns.unsqueeze(-4)).sum((-2, -1))  # columns: jobs depth experts k prompts
        return {"H": H, "h": (columns * r[..., None, None, :, :]).sum((-2, -1))}

    def fit(self, moments: Params) -> Params:
        """The gates; the shortest where several are best; those of the last layer where all layers share them."""
        g = -(torch.linalg.pinv(moments["H"], hermitian=True) @ moments["h"].unsqueeze(-1)).squeeze(-1)
        return {"gates": g if self.gates == "layer" else g[..., -1, :]}

    # ---- iterates and predictions ------------------------------------------------------------------------------------

    def iterates(self, params: Params, problem: Problem) -> Iterator[Float[Tensor, "*jobs d prompts"]]:
        """Yield w_0 .. w_depth."""
        if self.combine == "outputs":
            expert_iterates = [
                _iterates(model, self.params_of(params, e), problem) for e, model in enumerate(self.models)
            ]
            yield from self._gated(params, expert_iterates, 2)
            return
        if isinstance(self.models[0], GdPlusPlus):
            merged, heads = self._merged(params)
            yield from merged.iterates(heads, problem)
            return
        w = problem.start()
        shared = Shared(problem, problem.gradient(w))
        expert_iterates = [_iterates(model, self.params_of(params, e), shared) for e, model in enumerate(self.models)]
        before_step = [next(iterates) for iterates in expert_iterates]
        yield w
        for l in range(self.depth):
            shared.current_gradient = problem.gradient(w)
            after_step = [next(iterates) for iterates in expert_iterates]
            for g, after, before in zip(self.weights(params, l), after_step, before_step, strict=True):
                w = w + g * (after - before)
            before_step = after_step
            yield w

    def predictions(self, params: Params, Z: Float[Tensor, "... d_1 n_1 prompts"]) -> Iterator[Tensor]:
        """Yield the predictions at the query of the form on tokens, after 0 .. depth layers."""
        if self.combine == "updates":
            merged, heads = self._merged(params)
            yield from merged.predictions(heads, Z)
            return
        models = cast(list[TokenModel], self.models)
        expert_predictions = [model.predictions(self.params_of(params, e), Z) for e, model in enumerate(models)]
        yield from self._gated(params, expert_predictions, 1)

    def _gated(self, params: Params, outputs: Sequence[Iterator[Tensor]], axes: int) -> Iterator[Tensor]:
        """Yield the gated sums of the experts' outputs; before the first layer all outputs are the same."""
        for l, values in enumerate(zip(*outputs, strict=True)):
            if l == 0:
                yield values[0]
                continue
            gates = self.weights(params, l - 1, axes)
            total = gates[0] * values[0]
            for g, value in zip(gates[1:], values[1:], strict=True):
                total = total + g * value
            yield total

    def _merged(self, params: Params) -> tuple[GdPlusPlus, Params]:
        """One GD++ model that has the heads of all: g Attn_{P,Q} has P's B as it is, and Q's A times g."""
        models = [model for model in self.models if isinstance(model, GdPlusPlus)]
        A, B = [], []
        for l in range(self.depth):
            for e, (model, g) in enumerate(zip(models, self.weights(params, l, 3), strict=True)):
                expert_params, heads_of_layer = self.params_of(params, e), slice(l * model.heads, (l + 1) * model.heads)
                A.append(expert_params["A"][..., heads_of_layer, :, :] * g)
                B.append(expert_params["B"][..., heads_of_layer, :, :].expand_as(A[-1]))
        heads = sum(model.heads for model in models)
        return replace(models[0], heads=heads), {"A": torch.cat(A, -3), "B": torch.cat(B, -3)}


def _zeros(model: Solver, d: int, n: int) -> Params:
    """Parameters of a model and its experts that are all 0, to try out what it does with them."""
    params = dict(model.init(d, n, lambda *shape: torch.zeros(1, *shape)))
    for e, expert in enumerate(model.models if isinstance(model, Mixed) else ()):
        params |= {f"{e}.{name}": p for name, p in _zeros(expert, d, n).items()}
    return params


def _iterates(model: Solver, params: Params, problem: Problem) -> Iterator[Tensor]:
    assert isinstance(model, Method)
    return iter(model.iterates(params, problem))
