"""Jobs and cases: a job is one (task, solver, protocol, seed) with a canonical form and an id; a case has no seed."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from itertools import product
from typing import Any

from lfombench.solvers import Estimated, Solver
from lfombench.tasks import Task

from ..errors import SpecError, nearest
from .labels import DIGEST, FAMILIES, label, plain, shape_of, spec_of, text
from .protocol import TUNABLE, Protocol
from .validation import build


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """A job without its seed: a task, a solver and a protocol that fit together. Fields are validated and coerced here,
    so that specs of equal meaning give equal jobs; a million seeds of one case cost a single validation.
    """

    task: Task
    solver: Solver
    protocol: Protocol
    validated: bool = False  # whether the parts are known to be valid: a sweep has each in many cases

    def __post_init__(self) -> None:
        if not self.validated:
            for name in ("task", "solver", "protocol"):
                part = getattr(self, name)
                object.__setattr__(self, name, build(type(part), plain(part)))
            object.__setattr__(self, "validated", True)
        self.task.check()
        self.protocol.check()
        self.solver.check(self.task.d, self.task.n)
        lacking(self.solver, self.task, self.protocol)
        self._check_experts()
        if self.solver.family not in FAMILIES:
            raise SpecError(f"family: got {self.solver.family!r}; {nearest(str(self.solver.family), FAMILIES)}")
        if self.protocol.withheld >= self.task.n:
            raise SpecError(
                f"protocol withheld={self.protocol.withheld} leaves none of the task's n = {self.task.n} examples"
            )

    def _check_experts(self) -> None:
        """Raise SpecError unless each expert fits the task's dimensions and trains without tuning its own floats."""
        for k, expert in enumerate(self.experts, start=1):
            own = expert.task
            if own.d != self.task.d:
                raise SpecError(f"expert {k} is trained on {label(own)} of d = {own.d}, the task has d = {self.task.d}")
            if expert.solver.context and own.n != self.task.n:
                raise SpecError(
                    f"expert {k}, {label(expert.solver)}, has parameters for each of n = {own.n} examples, the task "
                    f"has n = {self.task.n}"
                )
            tuned = set(expert.trials[0]) & set(tunable(expert.solver))
            if tuned:
                raise SpecError(
                    f"expert {k}: its {', '.join(sorted(tuned))} is tuned, and may differ from seed to seed"
                )

    @functools.cached_property
    def experts(self) -> tuple[Case, ...]:
        """The cases that train a mixture's experts. An expert without a data seed takes the mixture's."""
        cases = []
        for expert in getattr(self.solver, "experts", ()):
            own, seed = expert.protocol, self.protocol.data_seed
            protocol = replace(own, data_seed=seed) if own.data_seed is None and seed is not None else own
            task = expert.task or self.task
            cases.append(Case(task=task, solver=expert.solver, protocol=protocol, validated=True))
        return tuple(cases)

    @functools.cached_property
    def parts(self) -> dict[str, Any]:
        """The task, solver and protocol as plain values, for JSON."""
        return {
            "task": spec_of(self.task),
            "solver": spec_of(self.solver),
            "protocol": plain(self.protocol),
        }

    @functools.cached_property
    def names(self) -> dict[str, Any]:
        """The labels of task, solver and protocol, and the depth, as the store's rows hold them."""
        depth = {"depth": self.solver.depth}
        return {"task": label(self.task), "solver": label(self.solver), "protocol": label(self.protocol)} | depth

    def spec(self, seed: int) -> str:
        """The canonical form of the job with this seed, JSON: everything that decides its numbers."""
        before, after, _ = self._around
        return f"{before}{seed}{after}"

    def id(self, seed: int) -> str:
        """The id of the job with this seed: a hash of its canonical form, of which only the seed is hashed anew."""
        _, after, hasher = self._around
        hasher = hasher.copy()
        hasher.update(f"{seed}{after}".encode())
        return str(hasher.hexdigest())

    @functools.cached_property
    def _around(self) -> tuple[str, str, Any]:
        """The canonical form before and after the seed, and a hash object that has consumed the part before it."""
        protocol, solver, task = (text(one) for one in (self.protocol, self.solver, self.task))
        before, after = f'{{"protocol": {protocol}, "seed": ', f', "solver": {solver}, "task": {task}}}'
        return before, after, hashlib.blake2b(before.encode(), digest_size=DIGEST)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_around"}  # a hash cannot be pickled

    @property
    def floors(self) -> list[str]:
        """Labels of bounds that a solver of this kind cannot beat in the mean, on prompts of the job's own task.

        Empty for bounds and controls, and where the test prompts are the training prompts.
        """
        if self.protocol.test_on == "training" or self.solver.family in ("bound", "control"):
            return []
        bounds, span = ["bayes"] if "bayes" in self.task.facts else [], self.solver.span
        if span and "quadratic" in self.task.facts:
            bounds += [f"best_lfom(preconditioner={span.known})"] if span.fixed else []
            bounds += [f"best_krylov(preconditioner={span.known})"] if "linear" in self.task.facts else []
        return bounds

    @property
    def told(self) -> str:
        """What the solver is told of the distribution that others have to learn: the fact, or nothing. What it
        estimates from prompts it is not told.
        """
        facts = frozenset() if isinstance(self.solver, Estimated) else self.solver.needs
        return next((fact for fact in ("bayes", "prior", "covariance", "edges") if fact in facts), "")

    @functools.cached_property
    def trials(self) -> tuple[dict[str, float], ...]:
        """The trials of the protocol: each a value for every float that it tunes, by name."""
        learned = self.solver.trains
        axes = [[("learning_rate", rate) for rate in self.protocol.learning_rates]] if learned else []
        known = set(tunable(self.solver)) | (set(TUNABLE) if learned else set())
        axes += [[(name, value) for value in values] for name, values in self.protocol.tune if name in known]
        return tuple(dict(point) for point in product(*axes))

    @functools.cached_property
    def structure(self) -> str:
        """JSON of what shapes the program. Jobs of one structure run as one pack: their floats and seeds are data."""
        return json.dumps([shape_of(self.task), shape_of(self.solver), shape_of(self.protocol)], sort_keys=True)

    def tried(self, trial: int) -> Case:
        """The case with the values that a trial has for the solver's floats."""
        return self.with_floats(self.trials[trial])

    def with_floats(self, floats: Mapping[str, float]) -> Case:
        """The case with these values for the solver's floats; names that the solver does not have are ignored."""
        changes: dict[str, Any] = {name: x for name, x in floats.items() if name in tunable(self.solver)}
        key = tuple(sorted(changes.items()))
        if key not in self._filled:
            self._filled[key] = replace(self, solver=replace(self.solver, **changes)) if changes else self
        return self._filled[key]

    @functools.cached_property
    def _filled(self) -> dict[Any, Case]:
        return {}


@dataclass(frozen=True, slots=True)
class Job:
    """A case with a seed: trained once, then tested on its own task and on any further tasks."""

    case: Case = field(compare=False)
    seed: int = field(compare=False)
    id: str = field(init=False)  # twenty hexadecimal digits that depend on the canonical form alone

    def __post_init__(self) -> None:
        object.__setattr__(self, "id", self.case.id(self.seed))

    @staticmethod
    def of(*, task: Task, solver: Solver, protocol: Protocol, seed: int) -> Job:
        """A job from its task, solver, protocol and seed, which are validated."""
        return Job(Case(task=task, solver=solver, protocol=protocol), seed)

    def changed(self, **changes: Any) -> Job:
        """The job with another task, solver or protocol and the same seed."""
        return Job(replace(self.case, **changes, validated=False), self.seed)

    @property
    def task(self) -> Task:
        """The task that the solver is trained on."""
        return self.case.task

    @property
    def solver(self) -> Solver:
        """The solver that is trained and tested."""
        return self.case.solver

    @property
    def protocol(self) -> Protocol:
        """The protocol by which the solver is trained, tuned and tested."""
        return self.case.protocol

    @property
    def experts(self) -> tuple[Job, ...]:
        """The jobs that train a mixture's experts and are done before it: their seed is this one plus `apart`."""
        experts = getattr(self.solver, "experts", ())
        return tuple(Job(case, self.seed + e.apart) for case, e in zip(self.case.experts, experts, strict=True))

    @property
    def spec(self) -> str:
        """The canonical form of the job, JSON: what its id is the hash of."""
        return self.case.spec(self.seed)

    @property
    def trials(self) -> tuple[dict[str, float], ...]:
        """The trials of the job's case: each a value for every float that the protocol tunes, by name."""
        return self.case.trials

    @property
    def structure(self) -> str:
        """The structure of the job's case; jobs of one structure run as one pack."""
        return self.case.structure

    def tried(self, trial: int) -> Job:
        """The job with the values that a trial has for the solver's floats."""
        return Job(self.case.tried(trial), self.seed)


NEEDS = {
    "quadratic": "needs a quadratic risk",
    "covariance": "needs Sigma^{-1}",
    "linear": "needs a teacher that is linear in x",
    "edges": "takes its steps from where the spectrum ends (theory)",
    "prior": "needs to know the teacher's covariance and the noise",
}


def lacking(solver: Solver, task: Task, protocol: Protocol) -> None:
    """Raise SpecError where the task lacks what the solver or the protocol needs."""
    for fact in sorted(solver.needs - task.facts):
        raise SpecError(f"{label(solver)} {NEEDS.get(fact, f'needs {fact}')}, which {label(task)} does not have")
    if protocol.batch == 0 and (solver.trains or (solver.fits and solver.family != "bound")):
        raise SpecError(f"{label(solver)} has parameters to train, and protocol batch=0 gives no prompts for it")
    if protocol.labels == "context" and (solver.trains or solver.fits) and solver.family != "bound":
        if "quadratic" not in task.facts:
            raise SpecError(f"protocol labels=context needs labels that are targets, which {label(task)} does not have")
        if task.n < 2:
            raise SpecError(f"protocol labels=context leaves none of the task's n = {task.n} examples")
        if solver.context:
            raise SpecError(
                f"{label(solver)} has parameters for each example, and protocol labels=context leaves one out"
            )
    if protocol.draw == "statistics" and "statistics" not in task.facts:
        raise SpecError(
            f"protocol draw=statistics needs Gaussian covariates, independent examples and a linear teacher, which "
            f"{label(task)} does not have; draw: shortest does it where it can"
        )


def tunable(solver: Solver) -> list[str]:
    """The names of a solver's float fields, which a protocol can tune."""
    return [f.name for f in fields(solver) if isinstance(getattr(solver, f.name), float)]
