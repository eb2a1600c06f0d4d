"""A view: a tracking store of MLflow that shows a store. Two kinds: a database that is written to itself, and whatever
MLflow's own client reaches.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from ..errors import UserError
from .page import Page
from .shown import Points, Shown


class Unreachable(UserError):
    """A tracking store that does not answer, or not now."""


class Refused(UserError):
    """Something that a tracking store does not take, however often it is asked."""


@dataclass(frozen=True)
class Known:
    """A run of ours that an experiment has. digest: empty where it is not complete; None where an older lfombench wrote
    it, for this store or another one.
    """

    run: str
    job: str
    digest: str | None
    active: bool = True


@dataclass(frozen=True)
class Stored:
    """What a tracking store has of a run."""

    run: str
    name: str
    status: str
    begin: int | None
    end: int | None
    tags: dict[str, str]
    params: dict[str, str]
    metrics: Points
    latest: dict[str, float]  # the last value of each metric, which tables show
    datasets: list[tuple[str, str]]  # name and digest of each


@runtime_checkable
class View(Protocol):
    """What a tracking store is asked. Experiments are ids. Raises Unreachable, Refused, or another UserError."""

    at_once: int  # runs that are written at a time
    answered: bool  # whether the tracking store has ever answered

    def known(self) -> dict[str, list[Known]]:
        """The runs of the store that is shown, by the name of their experiment, which may be deleted; and those of
        older versions of lfombench, which did not say whose they are.
        """

    def open(self, name: str) -> str:
        """The id of an experiment, which is made where there is none, and restored where it was deleted."""

    def write(self, experiment: str, runs: Sequence[Shown], instead: Mapping[str, Sequence[str]]) -> None:
        """Write runs, each in the place of those that show the same job."""

    def remove(self, runs: Sequence[str]) -> None:
        """Delete runs, as MLflow does: the UI has them among the deleted ones."""

    def read(self, runs: Sequence[str]) -> Iterator[Stored]:
        """All that is there of these runs."""

    def described(self, name: str) -> str | None:
        """The mark of the page that an experiment has, if it has one."""

    def describe(self, name: str, page: Page) -> None:
        """Write what an experiment shows beside its runs, and its summary run."""

    def close(self) -> None:
        """Close connections."""
