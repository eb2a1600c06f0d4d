"""The devices here: what packs run on, how many at once, and how much memory they may take."""

from __future__ import annotations

import functools
import logging
import math
import os
import warnings
from collections.abc import Collection
from statistics import median

import torch

from ..training.pack import Pack
from . import limits
from .pools import Pool

log = logging.getLogger("lfombench")

PER_GPU = 4  # packs on one GPU at most, each in a process
THREADS = 8  # packs on one GPU, in threads of one process
BUSY = 1 << 20  # numbers in a vector of a step (members x prompts x d) from which one pack keeps a GPU busy


def device() -> torch.device:
    """The device that packs run on in this process."""
    return next(iter(gpus()), torch.device("cpu"))


@functools.cache
def gpus() -> tuple[torch.device, ...]:
    """The GPUs here that can be used; of others a warning says why not, once."""
    if not torch.backends.cuda.is_built():
        return ()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        seen = torch.cuda.device_count() if torch.cuda.is_available() else 0
    for warning in said:  # of PyTorch's, such as that the driver is too old
        log.warning("no GPU is used: %s", str(warning.message).splitlines()[0])
    return tuple(gpu for i in range(seen) if _usable(gpu := torch.device("cuda", i)))


def _usable(gpu: torch.device) -> bool:
    try:
        torch.zeros(1, device=gpu).item()
        return True
    except RuntimeError as error:  # in exclusive use, without memory, or broken
        log.warning(
            "%s is not used: %s; nvidia-smi shows who has it, and CUDA_VISIBLE_DEVICES chooses others",
            *(gpu, str(error).splitlines()[0]),
        )
        return False


def here(workers: int | None) -> Pool:
    """The workers of this machine: on its GPUs, or else its cores. workers: their number; 0 runs in this process; None
    for as many as there is room for.
    """
    number = slots() if workers is None else workers or places()
    kind = "gpu" if gpus() else "cpu"
    return Pool(kind, device_name(), number, (gpu_memory() if gpus() else limits.free_memory() / 2) / number)


def device_name() -> str:
    """The name of the device here, as the jobs table has it."""
    return torch.cuda.get_device_name(device()) if gpus() else "cpu"


def gpu_names() -> tuple[str, ...]:
    """The names of the GPUs here."""
    return tuple(torch.cuda.get_device_name(gpu) for gpu in gpus())


def packs_per_gpu(packs: Collection[Pack]) -> int:
    """Number of packs that share a GPU: as many as keep it busy. While one is compiled another runs."""
    sizes = [pack.members * pack.first.protocol.batch * pack.first.task.d for pack in packs]
    return max(1, min(PER_GPU, math.ceil(BUSY / median(sizes)))) if sizes else 1


def slots() -> int:
    """Number of packs that this machine runs at once at most: one a core, or several a GPU."""
    return PER_GPU * len(gpus()) or cores()


def places() -> int:
    """Number of packs that this process runs at once without others: one, or several a GPU."""
    return THREADS * len(gpus()) or 1


def cores() -> int:
    """Number of cores that this process may use, of which a container may have a part."""
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(here, limits.cpus())))


def gpu_memory() -> float:
    """Bytes that all packs at once may take on the GPUs: half of what the smallest has to give."""
    return min(float(torch.cuda.mem_get_info(gpu)[0]) for gpu in gpus()) / 2
