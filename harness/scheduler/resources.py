"""What part of a cluster a run may use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Resources:
    """What part of a cluster a run may use; what is left out is not limited.

    workers: on cores and GPUs together. cpus: cores, each with a worker; 0 for none. gpus: 0 for none. gpu_fraction: of
    a GPU, for a worker; by default as much as keeps it busy. labels: that Ray's nodes must have.
    """

    workers: int | None = None
    cpus: int | None = None
    gpus: int | None = None
    gpu_fraction: float | None = None
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def per_gpu(self) -> int | None:
        """The number of workers that share a GPU, if it is given."""
        return max(1, int(1 / self.gpu_fraction)) if self.gpu_fraction else None

    def limit(self, room: Mapping[str, int], per_gpu: int) -> dict[str, int]:
        """Of the room for workers, what may be used; GPUs come first."""
        most = sum(room.values()) if self.workers is None else self.workers
        on_gpus = min(room["gpu"], most if self.gpus is None else min(most, self.gpus * per_gpu))
        on_cores = min(room["cpu"], most - on_gpus)
        return {"gpu": on_gpus, "cpu": on_cores if self.cpus is None else min(on_cores, self.cpus)}
