"""What a run keeps while it goes: what workers are sent, and what is done with what they send back."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import torch

from ..errors import UserError
from ..scheduler.packing import PlannedPack
from ..scheduler.progress import Progress
from ..spans import Span
from ..store import queries, side_files
from ..store.outcome import Outcome
from ..store.place import Place
from ..store.store import Store
from ..training.checkpoint import Checkpoint
from ..training.cost import structure
from ..training.pack import CHECKPOINT_EVERY, Pack, Weights, WorkOrder
from .checkpoints import CheckpointStore
from .observer import Observer


class StoreRecorder:
    """What a scheduler asks of the store while it runs."""

    def __init__(self, store: Store, checkpoints: CheckpointStore, deadline: float | None = None) -> None:
        """deadline: of every pack; it makes many checkpoints within it, as they are its signs of life."""
        self.store, self.checkpoints = store, checkpoints
        self.every = min(CHECKPOINT_EVERY, math.inf if deadline is None else deadline / 20)

    def order(self, planned: PlannedPack) -> WorkOrder:
        """A pack as it is sent to a worker."""
        pack = planned.pack
        order = work_order(self.store.place, planned, None if pack.trained else self.checkpoints.resume(pack))
        return replace(order, checkpoint_every=self.every)

    def keep(self, pack: Pack, checkpoint: Checkpoint) -> None:
        """Have a checkpoint written; the pack does not wait for it, and a full disk does not stop it."""
        self.checkpoints.keep(pack, checkpoint)

    def ran_out_of_memory(self, pack: Pack, device: str) -> None:
        """Remember the width that was too much for a device's memory."""
        try:
            side_files.keep_width(self.store.place, device, structure(pack.first), len(pack.jobs))
        except OSError as error:
            raise UserError(f"--out {self.store.out} cannot be written: {error.strerror or error}") from error


class NoRecord:
    """Sends packs to workers, and keeps nothing of them: for an audit."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def order(self, planned: PlannedPack) -> WorkOrder:
        """A pack with the weights that it stands on."""
        return work_order(self.store.place, planned)

    def keep(self, pack: Pack, checkpoint: Checkpoint) -> None:
        """Keep no checkpoint."""

    def ran_out_of_memory(self, pack: Pack, device: str) -> None:
        """Remember nothing."""


class AfterCommit:
    """What is done with packs once they are safe in the store."""

    def __init__(
        self,
        progress: Progress,
        checkpoints: CheckpointStore,
        observer: Observer,
        spans: list[Span] | None = None,
    ) -> None:
        """spans: where to note what packs spent their time on."""
        self.progress, self.checkpoints, self.observer = progress, checkpoints, observer
        self.spans = spans

    def take(self, committed: Iterable[tuple[PlannedPack, Outcome]]) -> None:
        """Drop the checkpoints of committed packs, and tell the progress and the observer."""
        for planned, outcome in committed:
            self.checkpoints.drop(job.id for job in planned.pack.jobs)
            if self.spans is not None:
                self.spans += outcome.spans
            self.progress.took(outcome.jobs, outcome.failed, planned.seconds)
            self.observer.committed(self.progress)


def work_order(place: Place, planned: PlannedPack, resume: Checkpoint | None = None) -> WorkOrder:
    """A pack with the weights of its jobs, where they are trained, or of their experts, where they have such."""
    pack = planned.pack
    weights: tuple[Weights, ...] = ()
    experts: tuple[tuple[Weights, ...], ...] = ()
    if pack.trained:
        known = weights_of(place, {job.id for job in pack.jobs})
        weights = tuple(known[job.id] for job in pack.jobs)
    elif pack.first.experts:
        known = weights_of(place, {expert.id for job in pack.jobs for expert in job.experts})
        experts = tuple(tuple(known[expert.id] for expert in job.experts) for job in pack.jobs)
    return WorkOrder(
        pack,
        weights=weights,
        experts=experts,
        resume=resume,
        engine="eager" if planned.eager else "auto",
        profiled=planned.profiled,
        expected=planned.cost,
    )


def weights_of(place: Place, jobs: set[str]) -> dict[str, Weights]:
    """What training left of these jobs, by id."""
    params: dict[str, dict[str, torch.Tensor]] = {job: {} for job in jobs}
    for row in queries.rows_of(place, "weights", jobs).to_pylist():
        values = np.array(row["values"], dtype=row["dtype"]).reshape(row["shape"])
        params[row["job"]][row["name"]] = torch.from_numpy(values)
    return {
        row["job"]: Weights(
            params[row["job"]],
            json.loads(row["tuned"] or "{}"),
            row["reason"] if row["status"] == "diverged" else None,
        )
        for row in queries.rows_of(place, "jobs", jobs).to_pylist()
    }
