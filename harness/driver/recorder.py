"""What a run keeps while it goes: what workers are sent, and what is done with what they send back."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import replace
from typing import Protocol

from ..scheduler.executors import device_name
from ..scheduler.progress import Progress
from ..spans import Span
from ..store.store import Store
from ..tracking.tracker import Tracker
from ..training.checkpoint import Checkpoint
from ..training.cost import structure
from ..training.execute import Outcome
from ..training.pack import Pack
from .checkpoints import Shelf
from .plan import Plan
from .weights import settle

log = logging.getLogger("lfombench")


class Observer(Protocol):
    """Told of a run's progress."""

    def planned(self, store: Store, plan: Plan, progress: Progress) -> None:
        """Before the first pack."""

    def committed(self, progress: Progress) -> None:
        """After a pack is safe in the store."""

    def tracking(self, tracker: Tracker) -> None:
        """All packs are done; MLflow may not be."""


class Silent:
    """An observer that says nothing."""

    def planned(self, store: Store, plan: Plan, progress: Progress) -> None:
        """Nothing."""

    def committed(self, progress: Progress) -> None:
        """Nothing."""

    def tracking(self, tracker: Tracker) -> None:
        """Nothing."""


class Desk:
    """What a scheduler asks of the store while it runs."""

    def __init__(self, store: Store, shelf: Shelf) -> None:
        self.store, self.shelf = store, shelf

    def ready(self, pack: Pack) -> Pack:
        """A pack as it is sent to a worker."""
        ready = settle(self.store, pack)
        return ready if pack.trained else replace(ready, resume=self.shelf.resume(pack))

    def keep(self, pack: Pack, checkpoint: Checkpoint) -> None:
        """A pack is so far. A full disk is no reason to stop it."""
        try:
            self.shelf.keep(pack, checkpoint)
        except OSError as error:
            log.warning("a checkpoint cannot be written: %s", error)

    def too_wide(self, pack: Pack) -> None:
        """A pack ran out of memory."""
        self.store.too_wide(device_name(), structure(pack.first), len(pack.jobs))


class Finished:
    """What is done with packs that are safe in the store."""

    def __init__(
        self,
        progress: Progress,
        shelf: Shelf,
        observer: Observer,
        tracker: Tracker | None,
        spans: list[Span] | None = None,
    ) -> None:
        """spans: where to note what packs spent their time on."""
        self.progress, self.shelf, self.observer, self.tracker = progress, shelf, observer, tracker
        self.spans = spans

    def take(self, committed: Iterable[tuple[Pack, Outcome]]) -> None:
        """These are."""
        for pack, outcome in committed:
            self.shelf.done(job.id for job in pack.jobs)
            if self.spans is not None:
                self.spans += outcome.spans
            self.progress.took(outcome.jobs, outcome.failed, pack.expected.seconds if pack.expected else 0.0)
            self.observer.committed(self.progress)
            if self.tracker:
                self.tracker.add(outcome.tables)


class Unrecorded:
    """A desk for packs that leave nothing behind."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def ready(self, pack: Pack) -> Pack:
        """With its experts, if it has such."""
        return settle(self.store, pack)

    def keep(self, pack: Pack, checkpoint: Checkpoint) -> None:
        """Nothing."""

    def too_wide(self, pack: Pack) -> None:
        """Nothing."""
