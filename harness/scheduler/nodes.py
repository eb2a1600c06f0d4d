"""The nodes of a cluster: what each has, as a process there finds it, and how many workers there is room for."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any

from ..awake import Awake
from ..errors import UserError
from .devices import PER_GPU
from .facts import Facts, facts
from .pools import MEMORY, Pool
from .resources import Resources
from .view import View, Viewer

log = logging.getLogger("lfombench")

PATIENCE = 60.0  # seconds that a run waits for what nodes say before it plans without those that are silent
TRIES = 3  # of a node that does not say what it has
NODE = "ray.io/node-id"  # the label of its id, which Ray gives every node


class Nodes:
    """The nodes that live, what is known of them, and those that get no work."""

    def __init__(self, ray: Any, resources: Resources, file: str | None = None) -> None:
        """file: one that every node must see."""
        self.ray, self.resources, self.file = ray, resources, file
        self.known: dict[str, Facts] = {}
        self.asked: dict[Any, str] = {}  # nodes that are asked what they have, by the result of the task there
        self.tries: dict[str, int] = {}
        self.left_out: dict[str, str] = {}  # nodes that get no work, and why
        self.blind: list[str] = []  # hosts that do not see the file
        self.viewer, self.view = Viewer(ray), View({}, frozenset(), {}, None)
        self.here = ray.get_runtime_context().get_node_id()

    def __str__(self) -> str:
        """What they have, for messages."""
        texts = []
        for name, node in self.living.items():
            host = self.known[name].host if name in self.known else node["NodeManagerHostname"]
            has = [f"{node['Resources'].get('CPU', 0):g} CPUs", f"{node['Resources'].get('GPU', 0):g} GPUs"]
            own = {label: x for label, x in node.get("Labels", {}).items() if not label.startswith("ray.io/")}
            texts.append(f"{host} has {', '.join(has + [f'{label}={x}' for label, x in own.items()])}")
        return "; ".join(texts)

    @property
    def living(self) -> Mapping[str, Mapping[str, Any]]:
        """The nodes that live, by id, as Ray describes them."""
        return self.view.living

    @property
    def leaving(self) -> frozenset[str]:
        """The nodes that have been told to end soon."""
        return self.view.leaving

    @property
    def free(self) -> int:
        """The cores of nodes that may get work that nobody uses."""
        return sum(self.view.free.get(node["NodeID"], 0) for node, _ in self.usable())

    def refresh(self) -> None:
        """Look which nodes live, from time to time; ask those that are new what they have."""
        if (view := self.viewer.look()) is None:
            return
        self.view = view
        waiting = {*self.asked.values()}
        for name, node in self.living.items():
            if self._chosen(node) and name not in self.known | self.left_out and name not in waiting:
                has_gpus = _claimed(node) > 0
                if name == self.here and not has_gpus:  # this process would hold on to a GPU that it has looked at
                    self._know(name, facts(self.file, has_gpus))
                    continue
                task = self.ray.remote(num_cpus=0, max_retries=0, max_calls=1 if has_gpus else 0)(facts)
                there = task.options(label_selector={NODE: name})
                self.asked[there.remote(self.file, has_gpus)] = name

    def hear(self, answer: Any) -> None:
        """Take what a node says."""
        name = self.asked.pop(answer)
        try:
            found: Facts = self.ray.get(answer)
        except self.ray.exceptions.RayError as error:
            again = not isinstance(error, self.ray.exceptions.RayTaskError)  # of Ray's, or of the machine
            self.tries[name] = self.tries.get(name, 0) + 1 if again else TRIES
            if name in self.living and self.tries[name] >= TRIES:
                self.leave_out(name, self.living[name]["NodeManagerHostname"], str(error).strip().splitlines()[-1])
            return
        self._know(name, found)

    def _know(self, name: str, found: Facts) -> None:
        """Note what a node has."""
        if not found.sees:
            self.blind.append(found.host)
            return self.leave_out(name, found.host, "it does not see --out")
        self.known[name] = found
        if _claimed(self.living.get(name, {})) and not found.gpus:
            log.warning(
                "Ray counts GPUs on %s that PyTorch cannot use there: only its cores are used. Is PyTorch installed "
                "with CUDA there, and is the driver new enough?",
                found.host,
            )

    def survey(self) -> None:
        """Wait until all nodes have said what they have, or for a minute. UserError where one does not see the file."""
        waited = Awake(1.0)
        self.refresh()
        while (self.asked or not self.living) and waited() < PATIENCE:
            ready, _ = self.ray.wait([*self.asked], timeout=0.2) if self.asked else ([], [])
            for answer in ready:
                self.hear(answer)
            if not ready:
                time.sleep(0.05)
            self.refresh()
        if self.blind:
            raise UserError(
                f"--out must be where every node of the cluster sees it, and {', '.join(self.blind)} does not: give a "
                "folder that all nodes share, or a prefix in s3://, gs:// or az://"
            )

    def leave_out(self, name: str, host: str, why: str) -> None:
        """Give a node no work: its numbers would be those of something else."""
        if name not in self.left_out:
            self.left_out[name] = f"{host}: {why}"
            log.warning("%s gets no work: %s", host, why)

    def usable(self) -> list[tuple[Mapping[str, Any], Facts]]:
        """The nodes that may get work, as Ray describes them and as they do."""
        out = self.left_out.keys() | self.leaving
        names = [name for name in self.living if name in self.known and name not in out]
        return [(self.living[name], self.known[name]) for name in names]

    def room(self, per_gpu: int) -> dict[str, int]:
        """How many workers there is room for, where so many share a GPU; each takes a core."""
        room = {"gpu": 0, "cpu": 0}
        for node, has in self.usable():
            cores = int(node["Resources"].get("CPU", 0))
            on_gpus = min(_gpus(node, has) * per_gpu, cores)
            room["gpu"] += on_gpus
            room["cpu"] += cores - on_gpus
        return room

    def grown(self, room: Mapping[str, int]) -> dict[str, int]:
        """The room with what an autoscaler may add: what was asked for, or else one more worker for each that there is.
        Without one, a worker at least, for which a node may come.
        """
        asked = {
            "cpu": self.resources.cpus or (None if self.resources.gpus else self.resources.workers),
            "gpu": self.resources.gpus and self.resources.gpus * (self.resources.per_gpu or 1),
        }
        if self.view.coming is not None:
            more = {"cpu": 2 * room["cpu"], "gpu": 2 * room["gpu"]}
            room = {kind: max(number, asked[kind] or more[kind]) for kind, number in room.items()}
        elif self.resources.labels:  # which those that may still come would not have either
            return {**room}
        return {**room} if any(room.values()) else {"gpu": 0, "cpu": 1}

    def pools(self) -> list[Pool]:
        """What there is to plan for; UserError where nothing is."""
        per_gpu = self.resources.per_gpu or PER_GPU
        room, nodes = self.resources.limit(self.grown(self.room(per_gpu)), per_gpu), self.usable()
        pools = []
        if room["gpu"]:
            names = [name for _, has in nodes for name in has.gpus] or ["gpu"]
            share = min((has.gpu_memory / per_gpu for _, has in nodes if has.gpus), default=MEMORY)
            pools.append(Pool("gpu", max(names, key=names.count), room["gpu"], share))
        if room["cpu"]:
            shares = [has.memory / cores for node, has in nodes if (cores := int(node["Resources"].get("CPU", 0)))]
            pools.append(Pool("cpu", "cpu", room["cpu"], min(shares, default=MEMORY)))
        if not pools:
            raise UserError(f"no node of the cluster has what was asked for: {self}")
        return pools

    def selector(self, kind: str) -> dict[str, str]:
        """Labels by which Ray chooses nodes for a worker."""
        out = self.left_out.keys() | self.leaving
        if kind == "gpu":
            out |= {name for name, has in self.known.items() if not has.gpus}
        return dict(self.resources.labels) | ({NODE: f"!in({','.join(sorted(out))})"} if out else {})

    def _chosen(self, node: Mapping[str, Any]) -> bool:
        """Whether a node has the labels that are asked for."""
        labels: Mapping[str, str] = node.get("Labels", {})
        return self.resources.labels.items() <= labels.items()


def _gpus(node: Mapping[str, Any], has: Facts) -> int:
    """The number of a node's GPUs that Ray gives away and PyTorch can use."""
    return min(_claimed(node), len(has.gpus))


def _claimed(node: Mapping[str, Any]) -> int:
    """The number of a node's GPUs that Ray counts."""
    return int(node.get("Resources", {}).get("GPU", 0))
