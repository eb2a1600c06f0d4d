"""A sweep is a named set of jobs: its fields, their validation, its jobs. `loader.py` reads it from a file."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import product
from typing import Any, no_type_check

from lfombench.solvers import Solver
from lfombench.tasks import Task

from ..errors import SpecError, nearest
from .combinations import Skipped, combined, title
from .job import Case, Job, tunable
from .labels import label, name_of, nested, plain
from .listing import Listing, together
from .protocol import PROTOCOLS, TUNABLE, Protocol
from .validation import build

KINDS: dict[str, type[Any]] = {"tasks": Task, "solvers": Solver, "protocols": Protocol, "tests": Task}
AXES = ("task", "solver", "protocol")


class ImpossibleError(SpecError):
    """A sweep has impossible combinations and does not skip them, or has no possible ones; `skipped` lists them."""

    def __init__(self, skipped: Sequence[Skipped], skip: bool) -> None:
        reason = skipped[0].reason
        super().__init__(f"no combination is possible; the first: {reason}" if skip else reason)
        self.skipped, self.skip = skipped, skip


@no_type_check  # by the tests' run-time checker: `__post_init__` checks types, and tells users what is allowed
@dataclass(frozen=True, kw_only=True)
class Sweep:
    """Every solver on every task under every protocol with every seed, each also tested on the `tests`; or, instead of
    all that, `parts`: sweeps whose jobs together are the jobs of this one.

    skip: leave out impossible combinations, and record why, instead of refusing the sweep.
    axis: the field that the sweep varies, such as task.noise: the report draws losses against it, in one chart for
        each value of the fields that are named in `split`.
    named: names of solvers for boards: each stands for the label of one solver, or for several labels, of which the
        best solver counts.
    extended: whether seeds were added until pairs of solvers were separated, so that boards must allow for it.
    crossover: two of these names. The place along the axis where their ranking changes is refined with further tasks.
    """

    name: str
    tasks: Sequence[Task] = ()
    solvers: Sequence[Solver] = ()
    protocols: Sequence[Protocol] = (PROTOCOLS["rigorous"],)
    seeds: Sequence[int] = (0,)
    tests: Sequence[Task] = ()
    parts: Sequence[Sweep] = ()
    about: str = ""
    skip: bool = False
    axis: str | None = None
    split: Sequence[str] = ()
    named: Mapping[str, Sequence[str]] = field(default_factory=dict)
    crossover: Sequence[str] = ()
    extended: bool = False

    def __post_init__(self) -> None:
        check_name(self.name)
        if self.parts:
            if self.tasks or self.solvers or self.tests:
                raise SpecError("parts: a sweep has either parts, or tasks and solvers of its own")
            return
        if isinstance(self.seeds, int):
            raise SpecError(f"seeds: got {self.seeds}, must be a list of seeds, such as range({self.seeds})")
        for kind in ("tasks", "solvers", "protocols", "seeds"):
            if not getattr(self, kind):
                raise SpecError(f"{kind}: none given")
        for kind, base in KINDS.items():
            for part in getattr(self, kind):
                if not isinstance(part, base):
                    hint = f", such as PROTOCOLS[{part!r}]" if part in tuple(PROTOCOLS) else ""
                    raise SpecError(f"{kind}: got {part!r}, must be a {base.__name__}{hint}")
        for kind in KINDS:
            try:
                parts = [build(type(part), plain(part)) for part in getattr(self, kind)]
                for part in parts:
                    if isinstance(part, Task | Protocol):
                        part.check()
            except ValueError as error:
                raise SpecError(f"{kind}: {error}") from None
            object.__setattr__(self, kind, parts)
        for kind in (*KINDS, "seeds"):
            seen: set[Any] = set()
            for part in getattr(self, kind):
                if part in seen:
                    raise SpecError(f"{kind}: {part if isinstance(part, int) else title(part)} is given twice")
                seen.add(part)
        self._check_classes()
        for test, task in product(self.tests, self.tasks):
            if test.d != task.d:
                raise SpecError(
                    f"tests: {label(test)} has d = {test.d}, the training task {label(task)} has d = {task.d}"
                )
        self._check_names()
        if self.skipped and (not self.skip or not self._combinations[0]):
            raise ImpossibleError(self.skipped, skip=self.skip)

    def _check_classes(self) -> None:
        """Raise SpecError where two classes share a name, as those that a function defines may: a store could not tell
        their jobs apart.
        """
        classes: dict[str, type[Any]] = {}
        for part in (*self.tasks, *self.tests, *self.solvers):
            for inner in nested(part):
                name = name_of(inner)
                if classes.setdefault(name, type(inner)) is not type(inner):
                    raise SpecError(f"two classes are named {name!r}: give each a name of its own in its module")

    def _check_names(self) -> None:
        """Raise SpecError where `tune`, `axis`, `split`, `named` or `crossover` refers to what the sweep lacks."""
        floats = {name for solver in self.solvers for name in tunable(solver)} | set(TUNABLE)
        for protocol in self.protocols:
            for name, _ in protocol.tune:
                if name not in floats:
                    raise SpecError(f"protocol tune: no solver here has a float {name!r}; {nearest(name, floats)}")
        if isinstance(self.split, str):
            raise SpecError(f"split: got {self.split!r}, must be a list of fields")
        for key, path in (*((("axis", self.axis),) if self.axis else ()), *(("split", path) for path in self.split)):
            kind, _, name = path.partition(".")
            if kind not in AXES:
                raise SpecError(f"{key}: got {path!r}; allowed: {', '.join(f'{a}.FIELD' for a in AXES)}")
            parts: Sequence[Any] = getattr(self, f"{kind}s")
            known = sorted({f.name for part in parts for f in fields(part)})
            if name not in known:
                raise SpecError(f"{key}: no {kind} here has a field {name!r}; {nearest(name, known)}")
        labels = {label(solver) for solver in self.solvers}
        for name, solver_labels in self.named.items():
            for solver_label in solver_labels:
                if solver_label not in labels:
                    raise SpecError(f"named: {name!r} stands for {solver_label!r}, which is no solver here")
        if self.crossover and (len(self.crossover) != 2 or not self.axis):
            raise SpecError("crossover: it is of two named solvers along an axis")
        for name in self.crossover:
            if name not in self.named:
                raise SpecError(f"crossover: no solver is named {name!r}; {nearest(name, self.named)}")

    @functools.cached_property
    def _combinations(self) -> tuple[list[Case], list[Skipped]]:
        """The cases of possible combinations, protocols outermost and solvers innermost; and the impossible ones."""
        cases, skipped = [], []
        for protocol, task, solver in product(self.protocols, self.tasks, self.solvers):
            try:
                cases.append(combined(task, solver, protocol, self.tests))
            except SpecError as error:
                skipped.append(Skipped(task, solver, protocol, str(error)))
        return cases, skipped

    @functools.cached_property
    def _listing(self) -> Listing:
        along = (self.axis or "").startswith("task.")
        return Listing(self._combinations[0], self.seeds, tuple(self.tests), self.tasks if along else ())

    @property
    def skipped(self) -> list[Skipped]:
        """The impossible combinations of the sweep and of its parts."""
        return [skip for part in self.parts for skip in part.skipped] if self.parts else self._combinations[1]

    def __len__(self) -> int:
        alone = not self.parts and not self._listing.experts
        return len(self.seeds) * len(self._combinations[0]) if alone else sum(1 for _ in self.entries())

    def jobs(self) -> Iterator[Job]:
        """Iterate over every job once, protocols outermost, seeds innermost."""
        return (job for job, _ in self.entries())

    def entries(self) -> Iterator[tuple[Job, tuple[Task, ...]]]:
        """Iterate over every job once, with the further tasks it is tested on; a grid is never in memory as a whole."""
        return together([grid._listing for grid in self._grids()])

    @property
    def own_grids(self) -> list[Sweep]:
        """What makes jobs under the sweep's name: itself, or its parts without a name of their own."""
        return [part for part in self.parts if part.name == self.name] or ([] if self.parts else [self])

    @property
    def cases(self) -> list[Case]:
        """The possible combinations of a grid, protocols outermost and solvers innermost."""
        return self._combinations[0]

    def _grids(self) -> Iterator[Sweep]:
        """The grids that this sweep consists of."""
        if not self.parts:
            yield self
        for part in self.parts:
            yield from part._grids()


def check_name(name: str) -> None:
    """Raise SpecError where a sweep's name cannot be the name of a file."""
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}", name):
        raise SpecError(f"name: got {name!r}; allowed: up to 100 letters, digits, '.', '_' and '-', no '.' in front")


def compared(first: Sweep, second: Sweep) -> list[dict[str, Any]]:
    """A row for each task, solver and protocol, all depths together: the number of jobs that are only in the first
    sweep, in both, and only in the second.
    """
    groups: dict[tuple[str, str, str], tuple[set[str], set[str], set[int]]] = {}
    for i, sweep in enumerate((first, second)):
        for job in sweep.jobs():
            key = label(job.task), label(job.solver), label(job.protocol)
            first_ids, second_ids, depths = groups.setdefault(key, (set(), set(), set()))
            (second_ids if i else first_ids).add(job.id)
            depths.add(job.solver.depth)
    names = ("task", "solver", "protocol")
    return [
        dict(zip(names, key, strict=True))
        | {"depths": sorted(depths), "first": len(a - b), "both": len(a & b), "second": len(b - a)}
        for key, (a, b, depths) in sorted(groups.items())
    ]
