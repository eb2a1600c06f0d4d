"""The step of step.py as JAX and torch.compile run it, written the way that suits each best.

The equations on (G, b), prompts first so that G w is a batch of matrix products, all jobs under vmap, Adam by hand, the
whole step as one graph; in JAX many steps are one `scan`. Fresh prompts come from X, with each library's own normals.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.func import grad_and_value, vmap

Run = Callable[[int], list[list[float]]]  # so many further steps; their losses, steps x jobs
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


@dataclass(frozen=True)
class Given:
    """What all engines start from: parameters and fixed prompts of each job; n, the rate, and how fresh ones are drawn.

    start: A, jobs depth d d; alpha, jobs depth; gamma, jobs depth-1. G, b, query: jobs prompts d (d). target: jobs
    prompts. root: Sigma^{1/2}, jobs d d; None to train on the fixed prompts.
    """

    start: dict[str, Tensor]
    G: Tensor
    b: Tensor
    query: Tensor
    target: Tensor
    n: int
    rate: float
    root: Tensor | None

    @property
    def prompts(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The fixed prompts."""
        return self.G, self.b, self.query, self.target


def loss(
    product: Callable[..., Any], zeros: Callable[..., Any], p: Any, G: Any, b: Any, query: Any, target: Any
) -> Any:
    """Mean squared error of a Memformer on one job's prompts; product, zeros: einsum and zeros_like of the library."""
    w, s = zeros(b), None
    for l in range(len(p["A"])):
        g = product("pij,pj->pi", G, w) - b if l else -b
        step = product("ij,pj->pi", p["A"][l], g)
        s = step if s is None else step + p["gamma"][l - 1] * s
        w = w - p["alpha"][l] * s
    error = (w * query).sum(-1) - target
    return (error * error).mean()


def drawn(product: Callable[..., Any], x: Any, v: Any, n: int) -> tuple[Any, Any, Any, Any]:
    """G, b, query and target of one job's prompts from X with the query as its last row, and from w*."""
    G = product("pni,pnj->pij", x[:, :n], x[:, :n]) / n
    query = x[:, n]
    return G, product("pij,pj->pi", G, v), query, (query * v).sum(-1)


def updated(p: Any, mean: Any, square: Any, g: Any, t: Any, rate: float) -> tuple[Any, Any, Any]:
    """Adam's step t, counted from 1, of every parameter."""
    mean = {k: BETA1 * mean[k] + (1 - BETA1) * g[k] for k in p}
    square = {k: BETA2 * square[k] + (1 - BETA2) * g[k] * g[k] for k in p}
    c1, c2 = 1 - BETA1**t, 1 - BETA2**t
    p = {k: p[k] - rate * (mean[k] / c1) / ((square[k] / c2) ** 0.5 + EPSILON) for k in p}
    return p, mean, square


def by_torch(given: Given) -> Run:
    """torch.compile: one graph from prompts to parameters, called once a step."""
    jobs, batch, d = given.b.shape
    gradient = vmap(grad_and_value(functools.partial(loss, torch.einsum, torch.zeros_like)))
    dual = None if given.root is None else torch.linalg.inv(given.root)

    def step(p: Any, mean: Any, square: Any, t: Tensor, prompts: Any) -> tuple[Any, ...]:
        if given.root is not None:
            assert dual is not None
            x = torch.einsum("jpni,jki->jpnk", torch.randn(jobs, batch, given.n + 1, d), given.root)
            v = torch.einsum("jpi,jik->jpk", torch.randn(jobs, batch, d), dual)
            prompts = vmap(functools.partial(drawn, torch.einsum, n=given.n))(x, v)
        g, value = gradient(p, *prompts)
        return *updated(p, mean, square, g, t, given.rate), t + 1, value

    torch.compiler.reset()  # of other sizes
    compiled: Any = torch.compile(step, fullgraph=True, dynamic=False)
    zeros = {name: torch.zeros_like(p) for name, p in given.start.items()}
    state: tuple[Any, ...] = (given.start, zeros, zeros, torch.tensor(1.0))

    def run(count: int) -> list[list[float]]:
        nonlocal state
        losses = []
        for _ in range(count):
            *changed, value = compiled(*state, given.prompts)
            state = tuple(changed)
            losses.append(value)
        return [value.tolist() for value in losses]

    return run


def by_jax(given: Given) -> Run:
    """JAX: vmap over jobs, scan over steps, jit."""
    import jax
    from jax import numpy as jnp

    def array(x: Tensor) -> Any:
        return jnp.asarray(x.numpy())

    batch, d = given.b.shape[1:]
    gradient = jax.value_and_grad(functools.partial(loss, jnp.einsum, jnp.zeros_like))

    def prompts_of(key: Any, root: Any, dual: Any) -> Any:
        of_x, of_v = jax.random.split(key)
        x = jax.random.normal(of_x, (batch, given.n + 1, d)) @ root.T
        return drawn(jnp.einsum, x, jax.random.normal(of_v, (batch, d)) @ dual, given.n)

    def one(p: Any, mean: Any, square: Any, key: Any, t: Any, job: Any) -> tuple[Any, ...]:
        if given.root is None:
            prompts = job
        else:
            key, new = jax.random.split(key)
            prompts = prompts_of(new, *job)
        value, g = gradient(p, *prompts)
        return *updated(p, mean, square, g, t, given.rate), key, value

    @functools.partial(jax.jit, static_argnames="count")
    def many(state: Any, t: Any, job: Any, count: int) -> Any:
        def step(carry: Any, _: None) -> Any:
            state, t = carry
            *state, value = jax.vmap(one, in_axes=(0, 0, 0, 0, None, 0))(*state, t, job)
            return (tuple(state), t + 1), value

        return jax.lax.scan(step, (state, t), None, length=count)

    job = tuple(map(array, given.prompts if given.root is None else (given.root, torch.linalg.inv(given.root))))
    start = {name: array(p) for name, p in given.start.items()}
    zeros = jax.tree.map(jnp.zeros_like, start)
    keys = jax.random.split(jax.random.key(0), given.b.shape[0])
    state, t = (start, zeros, zeros, keys), jnp.asarray(1.0)

    def run(count: int) -> list[list[float]]:
        nonlocal state, t
        (state, t), losses = many(state, t, job, count)
        return list(losses.tolist())  # waits until all is done

    return run
