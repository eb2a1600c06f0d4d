"""A step through torch.compile: on a GPU, and on a CPU for a step with an operation that `ops.py` has no rule for.

The whole step (draw, layers, gradient, Adam) is one graph for torch.compile. On a GPU several steps are captured in a
CUDA graph and replayed, so that no step waits for Python.
"""

from __future__ import annotations

import threading

import torch
import torch.utils._pytree as pytree
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from lfombench.tasks import Law, Logistic, Prompts, Quadratic

from .step import Step, Tensors
from .streams import Streams

BLOCK = 20  # steps in a CUDA graph
_one_at_a_time = threading.Lock()  # torch.compile is the process's

for part in (Law, Logistic, Quadratic, Prompts):
    pytree.register_dataclass(part)


class Uncompilable(Exception):
    """torch.compile failed on the step; the message gives the reason."""


class Inductor:
    """A step that torch.compile has compiled."""

    name = "torch.compile"

    def __init__(self, step: Step, job: Tensors, state: Tensors, key: Tensor) -> None:
        """Compile the step and run it once, without an update of the state, so that any failure occurs here.

        Raises Uncompilable.
        """
        self.step, self.job, self.state, self.key = step, job, state, key
        self.captured: tuple[torch.cuda.CUDAGraph, Tensors] | None = None
        self.t = torch.zeros((), dtype=torch.int64, device=key.device)  # the number of the next step
        self.batch = self._batch(0)  # a CUDA graph reads it at this address
        # given as a tensor, since torch.compile holds what it counts itself in 32 bits, too few for the streams
        self.prompts = torch.arange(step.prompts, device=key.device)
        from torch._dynamo.exc import TorchDynamoException  # these two imports take a second
        from torch._inductor.exc import InductorError

        inputs, self.shape = pytree.tree_flatten((job, state, key, self.batch, self.t, self.prompts))
        try:
            with torch.no_grad(), _one_at_a_time:
                # traced first, so that torch.compile sees only tensor operations, not the Python of the step
                traced = make_fx(torch.func.functionalize(self._flat, remove="mutations"))(*inputs)
                self.compiled = torch.compile(traced, dynamic=False, fullgraph=True)
                self.compiled(*inputs)
        except (TorchDynamoException, InductorError, RuntimeError, OSError, KeyError) as error:
            # the last two where its own cache cannot be written, or has no user to be named after
            raise Uncompilable(f"torch.compile: {error}") from error

    def __call__(self, first: int, count: int, begin: int = 0) -> Tensors:
        """Run steps first .. first + count - 1 on the prompts from `begin` on; update the state in place.

        Returns the records, `steps trials jobs ...`.
        """
        blocks: list[Tensors] = []
        batch = self._batch(begin) if begin else self.batch
        self.t.fill_(first)
        with torch.no_grad():
            if self.key.device.type == "cuda" and count >= BLOCK and not begin:
                for _ in range(count // BLOCK):
                    blocks.append(self._replay())
                    count -= BLOCK
            if count:
                blocks.append(self._run(batch, count))
        return {name: torch.cat([records[name] for records in blocks]) for name in blocks[0]}

    def _flat(self, *inputs: Tensor | None) -> list[Tensor]:
        """One step as a function from a list of tensors to a list of tensors; sets the names of the results."""
        job, state, key, batch, t, prompts = pytree.tree_unflatten(inputs, self.shape)
        if batch is None:
            random = Streams(key, self.step.dtype, t // (self.step.renew or 1), prompts)
            batch = self.step.draw(job, random, self.step.prompts)
        changes, records = self.step.update(job, state, batch, t)
        self.names = list(changes), list(records)
        return [*changes.values(), *records.values()]

    def _batch(self, begin: int) -> Prompts | None:
        """The batch of all steps from prompt `begin` on; None if the step renews its batch."""
        if self.step.renew:
            return None
        return self.step.draw(self.job, Streams(self.key, self.step.dtype, 0, begin), self.step.prompts)

    def _run(self, batch: Prompts | None, count: int) -> Tensors:
        """Run `count` steps from the current one on; return their records, `steps trials jobs ...`."""
        records_by_step = []
        for _ in range(count):
            results = self.compiled(*pytree.tree_leaves((self.job, self.state, self.key, batch, self.t, self.prompts)))
            changed, recorded = self.names
            for name, value in zip(changed, results, strict=False):
                self.state[name].copy_(value)
            self.t += 1
            values = zip(recorded, results[len(changed) :], strict=True)
            records_by_step.append({name: value.clone() for name, value in values})
        return {name: torch.stack([records[name] for records in records_by_step]) for name in records_by_step[0]}

    def _replay(self) -> Tensors:
        """Run BLOCK steps by replaying a CUDA graph, which the first call captures; return a copy of their records.

        The graph reads and writes the same tensors at each replay.
        """
        if self.captured is None:
            saved = {name: value.clone() for name, value in self.state.items()}
            saved_t = self.t.clone()
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                self._run(self.batch, 2)  # warm-up, which a capture requires
            torch.cuda.current_stream().wait_stream(side)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # other threads' packs go on
                records = self._run(self.batch, BLOCK)
            for name, value in saved.items():
                self.state[name].copy_(value)
            self.t.copy_(saved_t)
            self.captured = graph, records
        graph, records = self.captured
        graph.replay()
        return {name: value.clone() for name, value in records.items()}
