"""Checkpoints in a store: a file for each pack that runs, until its jobs are done.

checkpoints/PACK.safetensors
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save

from ..spec.fingerprint import code
from ..store.place import Place
from ..training.checkpoint import Checkpoint
from ..training.pack import Pack

log = logging.getLogger("lfombench")
FOLDER = "checkpoints"
FILE = re.compile(r"[0-9a-f]+\.safetensors")
Point = tuple[int, int, int]


class CheckpointStore:
    """Which jobs have a checkpoint, and in which file."""

    def __init__(self, place: Place, *, mend: bool = True) -> None:
        """mend: delete files that are damaged."""
        self.place, self.mend = place, mend
        self.files: dict[str, set[str]] = {}  # by file: the jobs that it still counts for
        self.points: dict[str, tuple[str, Point, str]] = {}  # by job: file, point, code
        for name in (name for name in place.names(FOLDER) if FILE.fullmatch(name)):
            saved = self._read(name)
            if saved is not None:
                self._register(name, *saved)

    def point(self, job: str, code: str) -> Point | None:
        """Where the training of a job can go on with the same code; None where it begins anew."""
        saved = self.points.get(job)
        return saved[1] if saved and saved[2] == code else None

    def keep(self, pack: Pack, checkpoint: Checkpoint) -> None:
        """Write a checkpoint of a pack in place of the one before. OSError where it cannot be written."""
        tensors, plain = checkpoint.split()
        fingerprint = code(pack.first.case)
        name = f"{pack.id}.safetensors"
        self.place.put(f"{FOLDER}/{name}", save(tensors, {"checkpoint": json.dumps(plain), "code": fingerprint}))
        self._register(name, checkpoint, fingerprint)

    def resume(self, pack: Pack) -> Checkpoint | None:
        """What a pack goes on from; None unless all its jobs have a checkpoint at one point."""
        ids = [job.id for job in pack.jobs]
        fingerprint = code(pack.first.case)
        if None in (points := {self.point(job, fingerprint) for job in ids}) or len(points) > 1:
            return None
        parts = []
        for name in dict.fromkeys(self.points[job][0] for job in ids):
            saved = self._read(name)
            if saved is None:
                return None
            parts.append(saved[0].select([job for job in ids if self.points[job][0] == name]))
        return Checkpoint.join(parts).select(ids)

    def drop(self, jobs: Iterable[str]) -> None:
        """Forget the checkpoints of jobs that are done; a file goes with the last of its jobs."""
        for job in jobs:
            if job in self.points:
                self._drop(job)

    def _register(self, name: str, checkpoint: Checkpoint, code: str) -> None:
        for job in checkpoint.jobs:
            if job in self.points and self.points[job][0] != name:
                self._drop(job)
            self.points[job] = name, checkpoint.point, code
        self.files[name] = set(checkpoint.jobs)

    def _drop(self, job: str) -> None:
        name = self.points.pop(job)[0]
        self.files[name].discard(job)
        if not self.files[name]:
            del self.files[name]
            self.place.delete(f"{FOLDER}/{name}")

    def _read(self, name: str) -> tuple[Checkpoint, str] | None:
        """The checkpoint of a file and its code; None where the file is gone or damaged."""
        content = self.place.read(f"{FOLDER}/{name}")
        if content is None:
            return None
        try:
            plain = _metadata(content)
            return Checkpoint(**json.loads(plain["checkpoint"]), tensors=load(content)), plain["code"]
        except (SafetensorError, ValueError, KeyError, TypeError):
            log.warning("%s/%s is damaged: its jobs begin anew", FOLDER, name)
            if self.mend:
                self.place.delete(f"{FOLDER}/{name}")
            for job in [job for job, saved in self.points.items() if saved[0] == name]:
                del self.points[job]
            self.files.pop(name, None)
            return None


def _metadata(content: bytes) -> dict[str, Any]:
    """The metadata of a safetensors file: its length in eight bytes, then JSON."""
    length = int.from_bytes(content[:8], "little")
    header: dict[str, Any] = json.loads(content[8 : 8 + length])["__metadata__"]
    return header
