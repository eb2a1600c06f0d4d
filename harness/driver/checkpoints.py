"""Checkpoints in a store: a file for each pack that runs, until its jobs are done.

    checkpoints/PACK.safetensors

They are written and deleted behind the scheduler's back: with some hundred packs it would do little else.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable
from functools import partial
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save

from ..spec.fingerprint import code
from ..store.behind import Behind
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
        """mend: delete files that are damaged, or of no use any more."""
        self.place, self.mend, self.behind = place, mend, Behind(place)
        self.files: dict[str, set[str]] = {}  # by file: the jobs that it still counts for
        self.points: dict[str, tuple[str, Point, str]] = {}  # by job: file, point, code
        for name in (name for name in place.names(FOLDER) if FILE.fullmatch(name)):
            saved = self._read(name)
            for superseded in self._register(name, *saved) if saved else ():
                if mend:
                    self.behind.delete(superseded)

    def point(self, job: str, code: str) -> Point | None:
        """Where the training of a job can go on with the same code; None where it begins anew."""
        saved = self.points.get(job)
        return saved[1] if saved and saved[2] == code else None

    def keep(self, pack: Pack, checkpoint: Checkpoint) -> None:
        """Write a checkpoint of a pack soon, in place of the one before."""
        fingerprint = code(pack.first.case)
        name = f"{pack.id}.safetensors"
        freed = self._register(name, checkpoint, fingerprint)
        self.behind.put(f"{FOLDER}/{name}", partial(_content, checkpoint, fingerprint), freed)

    def flush(self) -> None:
        """Wait until all files are as they are to be."""
        self.behind.flush()

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
        if len({part.point for part in parts}) > 1:  # the latest of a file could not be written
            return None
        return Checkpoint.join(parts).select(ids)

    def drop(self, jobs: Iterable[str]) -> None:
        """Forget the checkpoints of jobs that are done; a file goes with the last of its jobs."""
        for file in self._drop(jobs):
            self.behind.delete(file)

    def _register(self, name: str, checkpoint: Checkpoint, code: str) -> list[str]:
        """Note what a file has; the files that are of no use any more."""
        freed = self._drop(job for job in checkpoint.jobs if self.points.get(job, (name,))[0] != name)
        self.points.update((job, (name, checkpoint.point, code)) for job in checkpoint.jobs)
        self.files[name] = set(checkpoint.jobs)
        return freed

    def _drop(self, jobs: Iterable[str]) -> list[str]:
        """Forget where jobs have a checkpoint; the files that are of no use any more."""
        freed = []
        for job in jobs:
            if saved := self.points.pop(job, None):
                name = saved[0]
                self.files[name].discard(job)
                if not self.files[name]:
                    del self.files[name]
                    freed.append(f"{FOLDER}/{name}")
        return freed

    def _read(self, name: str) -> tuple[Checkpoint, str] | None:
        """The checkpoint of a file and its code; None where the file is gone or damaged."""
        content = self.behind.read(f"{FOLDER}/{name}")
        if content is None:
            return None
        try:
            plain = _metadata(content)
            return Checkpoint(**json.loads(plain["checkpoint"]), tensors=load(content)), plain["code"]
        except (SafetensorError, ValueError, KeyError, TypeError):
            log.warning("%s/%s is damaged: its jobs begin anew", FOLDER, name)
            if self.mend:
                self.behind.delete(f"{FOLDER}/{name}")
            for job in [job for job, saved in self.points.items() if saved[0] == name]:
                del self.points[job]
            self.files.pop(name, None)
            return None


def _content(checkpoint: Checkpoint, fingerprint: str) -> bytes:
    """A checkpoint and its code as a safetensors file."""
    tensors, plain = checkpoint.split()
    return save(tensors, {"checkpoint": json.dumps(plain), "code": fingerprint})


def _metadata(content: bytes) -> dict[str, Any]:
    """The metadata of a safetensors file: its length in eight bytes, then JSON."""
    length = int.from_bytes(content[:8], "little")
    header: dict[str, Any] = json.loads(content[8 : 8 + length])["__metadata__"]
    return header
