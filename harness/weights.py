"""What a store keeps of trained jobs, for those that are tested on something new."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import torch

from .pack import Pack, Settled
from .store import Store


def settle(store: Store, pack: Pack) -> Pack:
    """A pack of trained jobs with what training left of them; others as they are."""
    if not pack.trained:
        return pack
    ids = {job.id for job in pack.jobs}
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
    return replace(pack, settled=tuple(settled[job.id] for job in pack.jobs))
