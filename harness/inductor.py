"""A step through torch.compile: on a GPU, and on a CPU where a step is too large to write out.

The whole step (draw, layers, gradient, Adam) is one graph for the compiler. On a GPU several steps are captured in a
CUDA graph and replayed, so that no step waits for Python.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lfombench.tasks import Prompts

from .step import Step, Tensors
from .streams import Streams

BLOCK = 20  # steps in a CUDA graph


class Uncompilable(Exception):
    """torch.compile cannot do it; it says why."""


class Inductor:
    """A step compiled by PyTorch."""

    name = "torch.compile"

    def __init__(self, step: Step, job: Tensors, state: Tensors, key: Tensor) -> None:
        """Compile, and try one step on a copy of the state: where that fails it fails here."""
        self.step, self.job, self.state, self.key = step, job, state, key
        self.one = torch.compile(self._one, dynamic=False, fullgraph=True)
        self.captured: tuple[torch.cuda.CUDAGraph, Tensors] | None = None
        self.at = torch.zeros((), dtype=torch.int64, device=key.device)  # the step to come
        from torch._dynamo.exc import TorchDynamoException  # these take a second to import
        from torch._inductor.exc import InductorError

        try:
            with torch.no_grad():
                self.one(job, state, key, self._batch(0), self.at)
        except (TorchDynamoException, InductorError) as error:
            raise Uncompilable(f"torch.compile: {error}") from error

    def __call__(self, first: int, count: int, begin: int = 0) -> Tensors:
        """Steps first .. first + count - 1, of prompts from `begin` on; changes the state, gives records by step."""
        found: list[Tensors] = []
        batch = self._batch(begin)
        self.at.fill_(first)
        with torch.no_grad():
            if self.key.device.type == "cuda" and count >= BLOCK and not begin:
                for _ in range(count // BLOCK):
                    found.append(self._replay(batch))
                    count -= BLOCK
            if count:
                found.append(self._run(batch, count))
        return {name: torch.cat([records[name] for records in found]) for name in found[0]}

    def _one(
        self, job: Tensors, state: Tensors, key: Tensor, batch: Prompts | None, t: Tensor
    ) -> tuple[Tensors, Tensors]:
        if batch is None:
            batch = self.step.draw(job, Streams(key, self.step.dtype, t), self.step.prompts)
        return self.step.update(job, state, batch, t)

    def _batch(self, begin: int) -> Prompts | None:
        """The prompts of all steps, where they are the same ones."""
        if self.step.fresh:
            return None
        return self.step.draw(self.job, Streams(self.key, self.step.dtype, 0, begin), self.step.prompts)

    def _run(self, batch: Prompts | None, count: int) -> Tensors:
        found = []
        for _ in range(count):
            new, records = self.one(self.job, self.state, self.key, batch, self.at)
            for name, value in new.items():
                self.state[name].copy_(value)
            self.at += 1
            found.append({name: value.clone() for name, value in records.items()})
        return {name: torch.stack([records[name] for records in found]) for name in found[0]}

    def _replay(self, batch: Prompts | None) -> Tensors:
        """BLOCK steps from a CUDA graph, captured the first time; its tensors are always the same ones."""
        if self.captured is None:
            kept = {name: value.clone() for name, value in self.state.items()}
            at = self.at.clone()
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                self._run(batch, 2)  # warm up, as capturing asks for
            torch.cuda.current_stream().wait_stream(side)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                records = self._run(batch, BLOCK)
            for name, value in kept.items():
                self.state[name].copy_(value)
            self.at.copy_(at)
            self.captured = graph, records
        graph, records = self.captured
        graph.replay()
        return {name: value.clone() for name, value in records.items()}
