"""A sweep is a named set of jobs: its fields, their validation, its jobs. `loader.py` reads it from a file."""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import product
from typing import Any, no_type_check

from lfombench.solvers import Solver
from lfombench.tasks import Task

from ..errors import SpecError, nearest
from .job import Case, Job, tunable
from .labels import label, name_of, nested, plain
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


@dataclass(frozen=True)
class Skipped:
    """An impossible combination, with the reason."""

    task: Task
    solver: Solver
    protocol: Protocol
    reason: str


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
                cases.append(possible(task, solver, protocol, self.tests))
            except SpecError as error:
                skipped.append(Skipped(task, solver, protocol, str(error)))
        return cases, skipped

    @functools.cached_property
    def _mixtures(self) -> list[tuple[Case, list[tuple[Case, int]]]]:
        """The cases of mixtures, each with its experts, and how far their seeds are from its own; an expert's experts
        come before it.
        """

        def below(case: Case) -> Iterator[tuple[Case, int]]:
            for expert, entry in zip(case.experts, getattr(case.solver, "experts", ()), strict=True):
                yield from ((one, entry.apart + apart) for one, apart in below(expert))
                yield expert, entry.apart

        return [(case, list(below(case))) for case in self._combinations[0] if case.experts]

    @functools.cached_property
    def _own(self) -> set[str]:
        """The ids of the sweep's own cases."""
        return {case.id(0) for case in self._combinations[0]}

    def _experts(self) -> Iterator[Job]:
        """The experts' jobs that are not among the sweep's own combinations, each once."""
        seen: set[str] = set()
        for _, experts in self._mixtures:
            for seed in self.seeds:
                for case, apart in experts:
                    expert = Job(case, seed + apart)
                    if expert.id not in seen:
                        seen.add(expert.id)
                        if expert.seed not in self._seed_set or case.id(0) not in self._own:
                            yield expert

    def _expert_seeds(self) -> Iterator[tuple[Case, Container[int]]]:
        """The same by case, with the seeds of each."""
        seen: set[tuple[str, int]] = set()
        for _, experts in self._mixtures:
            for case, apart in experts:
                name = case.id(0)
                if (name, apart) not in seen:
                    seen.add((name, apart))
                    yield case, _Apart(self._seed_set, apart, self._seed_set if name in self._own else ())

    @functools.cached_property
    def _transferred(self) -> dict[Case, tuple[Task, ...]]:
        return {}

    def _transfers(self, expert: Case) -> tuple[Task, ...]:
        """The sweep's tasks that an expert can be tested on, where the axis is a field of the task; else none. The
        expert's own task may be among them, so that experts of all tasks are tested alike, and in one pack.
        """
        if not (self.axis or "").startswith("task."):
            return ()
        if expert not in self._transferred:
            tasks = []
            for task in self.tasks:
                with contextlib.suppress(SpecError):
                    possible(expert.task, expert.solver, expert.protocol, [task])
                    tasks.append(task)
            self._transferred[expert] = tuple(tasks)
        return self._transferred[expert]

    @property
    def skipped(self) -> list[Skipped]:
        """The impossible combinations of the sweep and of its parts."""
        return [skip for part in self.parts for skip in part.skipped] if self.parts else self._combinations[1]

    def __len__(self) -> int:
        return (
            len({job.id for job in self.jobs()})
            if self.parts
            else len(self.seeds) * len(self._combinations[0]) + sum(1 for _ in self._experts())
        )

    def jobs(self) -> Iterator[Job]:
        """Iterate over every job once, protocols outermost, seeds innermost."""
        return (job for job, _ in self.entries())

    def entries(self) -> Iterator[tuple[Job, tuple[Task, ...]]]:
        """Iterate over every job once, with the further tasks it is tested on; a grid is never in memory as a whole."""
        if not self.parts:
            tests = tuple(self.tests)
            for job in self._experts():
                yield job, self._transfers(job.case)
            for case in self._combinations[0]:
                for seed in self.seeds:
                    yield Job(case, seed), tests
            return
        grids = list(self._grids())
        places: dict[str, list[tuple[int, Container[int], tuple[Task, ...]]]] = {}  # by case: grids, seeds and tests
        for i, grid in enumerate(grids):
            for case, seeds in grid._expert_seeds():
                places.setdefault(case.id(0), []).append((i, seeds, grid._transfers(case)))
            for case in grid._combinations[0]:
                places.setdefault(case.id(0), []).append((i, grid._seed_set, tuple(grid.tests)))
        for i, grid in enumerate(grids):
            for job, _ in grid.entries():
                here = [(k, tests) for k, seeds, tests in places[job.case.id(0)] if job.seed in seeds]
                if here[0][0] == i:  # else an earlier grid has had it
                    yield job, tuple(dict.fromkeys(test for _, tests in here for test in tests))

    def _grids(self) -> Iterator[Sweep]:
        """The grids that this sweep consists of."""
        if not self.parts:
            yield self
        for part in self.parts:
            yield from part._grids()

    @functools.cached_property
    def _seed_set(self) -> Container[int]:
        seeds = list(self.seeds)
        return range(len(seeds)) if seeds == list(range(len(seeds))) else frozenset(seeds)


@dataclass(frozen=True)
class _Apart:
    """Seeds that are so far from others, without some."""

    seeds: Container[int]
    apart: int
    without: Container[int]

    def __contains__(self, seed: object) -> bool:
        return isinstance(seed, int) and seed - self.apart in self.seeds and seed not in self.without


def check_name(name: str) -> None:
    """Raise SpecError where a sweep's name cannot be the name of a file."""
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}", name):
        raise SpecError(f"name: got {name!r}; allowed: up to 100 letters, digits, '.', '_' and '-', no '.' in front")


def possible(task: Task, solver: Solver, protocol: Protocol, tests: Sequence[Task] = ()) -> Case:
    """The case of a task, solver and protocol; SpecError where they do not fit together, or do not fit a test task."""
    try:
        case = Case(task=task, solver=solver, protocol=protocol, validated=True)
        for k in range(len(case.trials)):
            case.tried(k)
    except (SpecError, ValueError) as error:
        raise SpecError(f"{title(solver)} on {label(task)}: {error}") from None
    for test in tests:
        if solver.context and test.n != task.n:
            raise SpecError(
                f"{title(solver)} has parameters for each of n = {task.n} examples and cannot be tested on "
                f"{label(test)}, which has n = {test.n}"
            )
        try:
            Case(task=test, solver=solver, protocol=protocol, validated=True)
        except (SpecError, ValueError) as error:
            raise SpecError(f"{title(solver)} on {label(test)}: {error}") from None
    return case


def title(part: Any) -> str:
    """The label of a task, solver or protocol; a solver's with its depth."""
    return f"{label(part)} of depth {part.depth}" if isinstance(part, Solver) else label(part)


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
