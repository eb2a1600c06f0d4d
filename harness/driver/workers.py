"""The workers of a run: of this machine, or of a cluster."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import secrets
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from ..scheduler.devices import gpus, here
from ..scheduler.executors import Executor, InProcess
from ..scheduler.on_gpus import OnGpus
from ..scheduler.pools import Pool
from ..store.filesystem import local
from ..store.folder import TEMPORARY
from ..store.store import Store
from .doctor import troubles
from .options import Options

if TYPE_CHECKING:
    from ..scheduler.on_ray import OnRay

log = logging.getLogger("lfombench")

SUBMITTED = "LFOMBENCH_CODE"  # a variable that is set where `submit` started the run


class Workers:
    """Those of this machine start when the first pack needs them; a cluster is joined before the run is planned."""

    def __init__(self, sweep: str, store: Store, options: Options) -> None:
        self.sweep, self.store, self.options = sweep, store, options
        self.seen = contextlib.ExitStack()  # the file that every node must see, those too that come later

    def join(self) -> None:
        """Ask the nodes of a cluster what they have: they answer while this process does something else."""
        if self.options.address is not None:
            self._cluster  # noqa: B018 - joins it

    def pools(self) -> Sequence[Pool]:
        """What there is room for, once the nodes of a cluster have said so."""
        if self.options.address is None:
            return [here(self.options.workers)]
        return self._cluster.pools

    @functools.cached_property
    def executor(self) -> Executor:
        """In this process, in its threads on its GPUs, or on Ray; without it where it cannot start on this machine."""
        if self.options.address is not None:
            return self._cluster
        if self.options.workers != 0:
            from ..scheduler.on_ray import OnRay
            from ..scheduler.ray_start import NoRay

            try:
                return OnRay(workers=self.options.workers)
            except NoRay as error:
                log.warning("%s. Going on without it, in this process", error)
                for finding in troubles():
                    log.warning("lfombench doctor: %s", finding)
        return OnGpus(gpus()) if gpus() else InProcess()

    def close(self) -> None:
        """Let go of those that have started."""
        for name in ("executor", "_cluster"):
            if name in vars(self):
                getattr(self, name).close()
        self.seen.close()

    @functools.cached_property
    def _cluster(self) -> OnRay:
        from ..scheduler.on_ray import OnRay

        options = self.options
        assert options.address is not None
        file = self.seen.enter_context(self._file())
        return OnRay(options.address, options.workers, options.resources, self.sweep, options.priority, file)

    @contextlib.contextmanager
    def _file(self) -> Iterator[str | None]:
        """A file of the store that every node must see, where the run itself is on one of them: its folder would go
        with that node.
        """
        place = self.store.place
        if not os.environ.get(SUBMITTED) or local(self.store.out) is None:
            yield None
            return
        name = f"{TEMPORARY}{secrets.token_hex(6)}-seen"
        place.create(name, b"")
        try:
            yield place.path(name)
        finally:
            place.delete(name)
