"""What a cluster says of itself, asked in a thread: where all of Ray was told to end, an answer would take a minute."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..awake import Awake
from .autoscaler import coming

EVERY = 5.0  # seconds from one look to the next


@dataclass(frozen=True)
class View:
    """A cluster at a moment. Nodes go by their ids."""

    living: Mapping[str, Mapping[str, Any]]  # nodes as Ray describes them
    leaving: frozenset[str]  # nodes that have been told to end soon
    free: Mapping[str, int]  # cores that nobody uses
    coming: int | None  # nodes that the autoscaler is starting, if there is one


class Viewer:
    """Looks at a cluster again and again, and lets nobody wait for it."""

    def __init__(self, ray: Any) -> None:
        self.ray, self.clock = ray, Awake(1.0)
        self.latest: View | None = None
        self.thread: threading.Thread | None = None
        self.begun = -EVERY

    def look(self) -> View | None:
        """A new view of the cluster, once there is one; None at all other times."""
        latest, self.latest = self.latest, None
        if (self.thread is None or not self.thread.is_alive()) and self.clock() - self.begun >= EVERY:
            self.begun = self.clock()
            self.thread = threading.Thread(target=self._look, name="view of the cluster", daemon=True)
            self.thread.start()
        return latest

    def _look(self) -> None:
        state = self.ray._private.state
        try:
            nodes, draining, free = (
                self.ray.nodes(),
                state.state.get_draining_nodes(),
                state.available_resources_per_node(),
            )
        except Exception:  # no answer, or Ray has ended meanwhile: the next look may have one
            return
        living = {node["NodeID"]: node for node in nodes if node["Alive"]}
        leaving = frozenset(name for name in draining if name in living)
        cores = {name: int(there.get("CPU", 0)) for name, there in free.items()}
        self.latest = View(living, leaving, cores, coming(self.ray))
