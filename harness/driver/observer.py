"""Observers of a run: what they are told."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from ..scheduler.progress import Progress
from ..store.store import Store
from ..tracking.follow import Follower
from .plan import Plan


@runtime_checkable
class Observer(Protocol):
    """Told of a run's progress."""

    def planned(self, store: Store, plan: Plan, progress: Progress) -> None:
        """Called before the first pack."""

    def committed(self, progress: Progress) -> None:
        """Called after each pack that is safe in the store."""

    def tracking(self, follower: Follower) -> None:
        """Called again and again when all packs are done, while MLflow does not show everything."""


class Silent:
    """An observer that shows nothing."""

    def planned(self, store: Store, plan: Plan, progress: Progress) -> None:
        """Show nothing."""

    def committed(self, progress: Progress) -> None:
        """Show nothing."""

    def tracking(self, follower: Follower) -> None:
        """Show nothing."""
