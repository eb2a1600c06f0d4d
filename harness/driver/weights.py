"""What a store keeps of trained jobs, for those that are tested on something new."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import torch

from ..store.store import Store
from ..training.pack import Pack, Settled


def settle(store: Store, pack: Pack) -> Pack:
    """A pack with what training left of its jobs, where they are trained; of its jobs' experts, where it has such."""
    if pack.trained:
        found = _settled(store, {job.id for job in pack.jobs})
        return replace(pack, settled=tuple(found[job.id] for job in pack.jobs))
    if pack.first.experts:
        found = _settled(store, {expert.id for job in pack.jobs for expert in job.experts})
        return replace(pack, experts=tuple(tuple(found[expert.id] for expert in job.experts) for job in pack.jobs))
    return pack


def _settled(store: Store, ids: set[str]) -> dict[str, Settled]:
    """What training left of these jobs."""
    params: dict[str, dict[str, torch.Tensor]] = {job: {} for job in ids}
    for row in store.rows("weights", ids).to_pylist():
        values = np.array(row["values"], dtype=row["dtype"]).reshape(row["shape"])
        params[row["job"]][row["name"]] = torch.from_numpy(values)
    settled = {}
    for row in store.rows("jobs", ids).to_pylist():
        chosen = json.loads(row["tuned"] or "{}")
        settled[row["job"]] = Settled(
            params[row["job"]], chosen, row["reason"] if row["status"] == "diverged" else None
        )
    return settled
