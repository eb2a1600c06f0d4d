"""What a node of a cluster has, as a process there finds it; only for a GPU it imports PyTorch, which takes seconds."""

from __future__ import annotations

import os
import socket
import time
from dataclasses import dataclass

from ..awake import Awake
from .limits import free_memory

SHOWN = 10.0  # seconds after which a disk that machines share shows a new file to all


@dataclass(frozen=True)
class Facts:
    """What a node has."""

    host: str
    memory: float  # bytes for all packs on its cores
    gpus: tuple[str, ...]  # those that can be used, by name
    gpu_memory: float  # bytes for all packs on the smallest of them
    sees: bool  # the file that it was asked for


def facts(file: str | None, count_gpus: bool) -> Facts:
    """What this machine has. file: one to look for. count_gpus: whether Ray counts any; else none are looked for."""
    names: tuple[str, ...] = ()
    memory = 0.0
    if count_gpus:
        from .devices import gpu_memory, gpu_names

        show_gpus()
        names = gpu_names()
        memory = gpu_memory() if names else 0.0
    return Facts(socket.gethostname(), free_memory() / 2, names, memory, file is None or _seen(file))


def show_gpus() -> None:
    """Let this process see the GPUs, which Ray hides from a task that asks for none."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") == "":
        del os.environ["CUDA_VISIBLE_DEVICES"]


def _seen(file: str) -> bool:
    """Whether a file is here. A disk that machines share may show a new one after some seconds."""
    waited = Awake(1.0)
    while not os.path.exists(file):
        if waited() > SHOWN:
            return False
        time.sleep(0.5)
    return True
