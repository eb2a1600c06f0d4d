"""A step through torch.compile: on a GPU, and on a CPU where a step holds what `rules.py` has no rule for.

The whole step (draw, layers, gradient, Adam) is one graph for the compiler. On a GPU several steps are captured in a
CUDA graph and replayed, so that no step waits for Python.
"""

from __future__ import annotations

import torch
import torch.utils._pytree as pytree
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from lfombench.tasks import Law, Logistic, Prompts, Quadratic

from .step import Step, Tensors
from .streams import Streams

BLOCK = 20  # steps in a CUDA graph

for part in (Law, Logistic, Quadratic, Prompts):
    pytree.register_dataclass(part)


class Uncompilable(Exception):
    """torch.compile cannot do it; it says why."""


class Inductor:
    """A step compiled by PyTorch."""

    name = "torch.compile"

    def __init__(self, step: Step, job: Tensors, state: Tensors, key: Tensor) -> None:
        """Compile, and try one step on a copy of the state: where that fails it fails here."""
        self.step, self.job, self.state, self.key = step, job, state, key
        self.captured: tuple[torch.cuda.CUDAGraph, Tensors] | None = None
        self.at = torch.zeros((), dtype=torch.int64, device=key.device)  # the step to come
        self.batch = self._batch(0)  # a graph reads it where it lies
        from torch._dynamo.exc import TorchDynamoException  # these take a second to import
        from torch._inductor.exc import InductorError

        inputs, self.shape = pytree.tree_flatten((job, state, key, self.batch, self.at))
        try:
            with torch.no_grad():
                # traced first: then the compiler sees tensor operations alone, whatever Python the step is made of
                traced = make_fx(torch.func.functionalize(self._flat, remove="mutations"))(*inputs)
                self.compiled = torch.compile(traced, dynamic=False, fullgraph=True)
                self.compiled(*inputs)
        except (TorchDynamoException, InductorError, RuntimeError) as error:
            raise Uncompilable(f"torch.compile: {error}") from error

    def __call__(self, first: int, count: int, begin: int = 0) -> Tensors:
        """Steps first .. first + count - 1, of prompts from `begin` on; changes the state, gives records by step."""
        found: list[Tensors] = []
        batch = self._batch(begin) if begin else self.batch
        self.at.fill_(first)
        with torch.no_grad():
            if self.key.device.type == "cuda" and count >= BLOCK and not begin:
                for _ in range(count // BLOCK):
                    found.append(self._replay())
                    count -= BLOCK
            if count:
                found.append(self._run(batch, count))
        return {name: torch.cat([records[name] for records in found]) for name in found[0]}

    def _flat(self, *inputs: Tensor) -> list[Tensor]:
        """A step, from and to plain lists of tensors."""
        job, state, key, batch, t = pytree.tree_unflatten(inputs, self.shape)
        if batch is None:
            batch = self.step.draw(job, Streams(key, self.step.dtype, t // (self.step.renew or 1)), self.step.prompts)
        new, records = self.step.update(job, state, batch, t)
        self.names = list(new), list(records)
        return [*new.values(), *records.values()]

    def _batch(self, begin: int) -> Prompts | None:
        """The prompts of all steps, where they are the same ones."""
        if self.step.renew:
            return None
        return self.step.draw(self.job, Streams(self.key, self.step.dtype, 0, begin), self.step.prompts)

    def _run(self, batch: Prompts | None, count: int) -> Tensors:
        found = []
        for _ in range(count):
            made = self.compiled(*pytree.tree_leaves((self.job, self.state, self.key, batch, self.at)))
            new, records = self.names
            for name, value in zip(new, made, strict=False):
                self.state[name].copy_(value)
            self.at += 1
            found.append({name: value.clone() for name, value in zip(records, made[len(new) :], strict=True)})
        return {name: torch.stack([records[name] for records in found]) for name in found[0]}

    def _replay(self) -> Tensors:
        """BLOCK steps from a CUDA graph, captured the first time; its tensors are always the same ones."""
        if self.captured is None:
            kept = {name: value.clone() for name, value in self.state.items()}
            at = self.at.clone()
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                self._run(self.batch, 2)  # warm up, as capturing asks for
            torch.cuda.current_stream().wait_stream(side)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                records = self._run(self.batch, BLOCK)
            for name, value in kept.items():
                self.state[name].copy_(value)
            self.at.copy_(at)
            self.captured = graph, records
        graph, records = self.captured
        graph.replay()
        return {name: value.clone() for name, value in records.items()}
