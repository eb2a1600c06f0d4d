"""What the cache knows of a step by what this is made of, so that a later process need not find it out again."""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import astuple
from typing import Any

import torch

from . import cache
from .step import Step, Tensors
from .target import host

Shapes = tuple[tuple[str, tuple[int, ...], torch.dtype], ...]  # names, shapes and types of one member's tensors


def shapes(tensors: Tensors, leading: int) -> Shapes:
    """The shapes of one member's tensors: those of the pack without so many leading axes."""
    return tuple((name, tuple(x.shape[leading:]), x.dtype) for name, x in tensors.items())


def read(kind: str, step: Step, job: Shapes, state: Shapes) -> dict[str, Any] | None:
    """What is known of this kind; None of a step that cannot be known again in another process."""
    content = cache.read(_entry(kind, step, job, state)) if step.identity else None
    return json.loads(content) if content else None


def keep(kind: str, step: Step, job: Shapes, state: Shapes, known: dict[str, Any]) -> None:
    """Let what is known be found by other processes."""
    if step.identity:
        with contextlib.suppress(OSError):  # then it is found out again the next time
            cache.write(_entry(kind, step, job, state), json.dumps(known).encode())


def _entry(kind: str, step: Step, job: Shapes, state: Shapes) -> str:
    """The name of the cache's entry."""
    tensors = [[[name, shape, str(dtype)] for name, shape, dtype in each] for each in (job, state)]
    made_of = [kind, step.identity, step.prompts, step.renew, str(step.dtype), *tensors]
    made_of += [*astuple(host()), torch.__version__]
    return f"{hashlib.blake2b(json.dumps(made_of).encode(), digest_size=16).hexdigest()}.json"
