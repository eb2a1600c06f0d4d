"""A job: one (task, solver, protocol, seed), its canonical form, its identity; what it is without its seed, a case."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib
import inspect
import json
import math
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass, replace
from itertools import product
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from pydantic import TypeAdapter, ValidationError

from lfombench.solvers import SOLVERS, Method, Solver, TokenModel
from lfombench.tasks import TASKS, Task

from .errors import SpecError, nearest
from .protocol import OWN, PROTOCOLS, Protocol

T = TypeVar("T")
FAMILIES = ("classical", "learned", "bound", "control")
DIGEST = 10  # bytes


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """What a job is without its seed: a task, a solver and a protocol that fit together. Fields are validated and
    coerced here, so that equal meanings are equal jobs; a million seeds of a case cost no second look.
    """

    task: Task
    solver: Solver
    protocol: Protocol

    def __post_init__(self) -> None:
        for name in ("task", "solver", "protocol"):
            part = getattr(self, name)
            if _BUILT.get(id(part)) is not part:
                object.__setattr__(self, name, build(type(part), plain(part)))
        self.task.check()
        self.protocol.check()
        self.solver.check(self.task.d, self.task.n)
        lacking(self.solver, self.task, self.protocol)
        if self.solver.family not in FAMILIES:
            raise SpecError(f"family: got {self.solver.family!r}; {nearest(str(self.solver.family), FAMILIES)}")
        if self.protocol.withheld >= self.task.n:
            raise SpecError(
                f"protocol withheld={self.protocol.withheld} leaves none of the task's n = {self.task.n} examples"
            )

    @functools.cached_property
    def parts(self) -> dict[str, Any]:
        """Task, solver and protocol as JSON."""
        return {
            "task": spec_of(self.task),
            "solver": spec_of(self.solver),
            "protocol": plain(self.protocol),
        }

    @functools.cached_property
    def names(self) -> dict[str, Any]:
        """The same in words, as rows have them."""
        depth = {"depth": self.solver.depth}
        return {"task": label(self.task), "solver": label(self.solver), "protocol": label(self.protocol)} | depth

    def spec(self, seed: int) -> str:
        """The canonical form of a job as JSON: everything that decides the numbers."""
        before, after, _ = self._around
        return f"{before}{seed}{after}"

    def id(self, seed: int) -> str:
        """`digest` of that form, of which only the seed is hashed anew."""
        _, after, hasher = self._around
        hasher = hasher.copy()
        hasher.update(f"{seed}{after}".encode())
        return str(hasher.hexdigest())

    @functools.cached_property
    def _around(self) -> tuple[str, str, Any]:
        """What stands before the seed and behind it, and a hash of the first."""
        mark = -1234567890123456789
        before, after = json.dumps(self.parts | {"seed": mark}, sort_keys=True).split(str(mark))
        return before, after, hashlib.blake2b(before.encode(), digest_size=DIGEST)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_around"}  # a hash cannot be pickled

    @property
    def floors(self) -> list[str]:
        """Labels of bounds that a solver of this kind cannot beat in the mean, on prompts of the job's own task.

        None where it is tested on what it was trained on.
        """
        if self.protocol.test_on == "training" or self.solver.family in ("bound", "control"):
            return []
        found, span = ["bayes"] if "bayes" in self.task.facts else [], self.solver.span
        if span and "quadratic" in self.task.facts:
            found += [f"best_lfom(preconditioner={span.known})"] if span.fixed else []
            found += [f"best_krylov(preconditioner={span.known})"] if "linear" in self.task.facts else []
        return found

    @functools.cached_property
    def trials(self) -> tuple[dict[str, float], ...]:
        """What the protocol tries for a job: a value for each float that it tunes, by name."""
        learned = self.solver.family == "learned"
        axes = [[("learning_rate", rate) for rate in self.protocol.learning_rates]] if learned else []
        mine = set(tunable(self.solver)) | (set(OWN) if learned else set())
        axes += [[(name, value) for value in values] for name, values in self.protocol.tune if name in mine]
        return tuple(dict(point) for point in product(*axes))

    @functools.cached_property
    def structure(self) -> str:
        """What shapes the program. Jobs of one structure run as one pack: their floats and seeds are data."""
        return json.dumps([shape_of(self.task), shape_of(self.solver), shape_of(self.protocol)], sort_keys=True)

    def tried(self, trial: int) -> Case:
        """The case with the solver's floats of a trial."""
        return self.having(self.trials[trial])

    def having(self, floats: Mapping[str, float]) -> Case:
        """The case with those of these floats that its solver has."""
        mine: dict[str, Any] = {name: x for name, x in floats.items() if name in tunable(self.solver)}
        key = tuple(sorted(mine.items()))
        if key not in self._having:
            self._having[key] = replace(self, solver=replace(self.solver, **mine)) if mine else self
        return self._having[key]

    @functools.cached_property
    def _having(self) -> dict[Any, Case]:
        return {}


@dataclass(frozen=True, slots=True)
class Job:
    """A case with a seed: trained once, tested on its own task and any others."""

    case: Case = field(compare=False)
    seed: int = field(compare=False)
    id: str = field(init=False)  # twenty hexadecimal digits that depend on the canonical form alone

    def __post_init__(self) -> None:
        object.__setattr__(self, "id", self.case.id(self.seed))

    @staticmethod
    def of(*, task: Task, solver: Solver, protocol: Protocol, seed: int) -> Job:
        """A job from its parts."""
        return Job(Case(task=task, solver=solver, protocol=protocol), seed)

    def having(self, **changes: Any) -> Job:
        """With another task, solver or protocol."""
        return Job(replace(self.case, **changes), self.seed)

    @property
    def task(self) -> Task:
        """Trained on."""
        return self.case.task

    @property
    def solver(self) -> Solver:
        """What solves it."""
        return self.case.solver

    @property
    def protocol(self) -> Protocol:
        """How."""
        return self.case.protocol

    @property
    def spec(self) -> str:
        """The canonical form, JSON."""
        return self.case.spec(self.seed)

    @property
    def trials(self) -> tuple[dict[str, float], ...]:
        """Of the case."""
        return self.case.trials

    @property
    def structure(self) -> str:
        """Of the case."""
        return self.case.structure

    def tried(self, trial: int) -> Job:
        """The job with the solver's floats of a trial."""
        return Job(self.case.tried(trial), self.seed)


NEEDS = {
    "quadratic": "needs a quadratic risk",
    "covariance": "needs Sigma^{-1}",
    "linear": "needs a teacher that is linear in x",
    "edges": "takes its steps from where the spectrum ends (theory)",
    "prior": "needs to know the teacher's covariance and the noise",
}


def lacking(solver: Solver, task: Task, protocol: Protocol) -> None:
    """SpecError where a task has not what a solver or protocol must count on."""
    for fact in sorted(solver.needs - task.facts):
        raise SpecError(f"{label(solver)} {NEEDS.get(fact, f'needs {fact}')}, which {label(task)} does not have")
    if protocol.draw == "statistics" and "statistics" not in task.facts:
        raise SpecError(
            f"protocol draw=statistics needs Gaussian covariates, independent examples and a linear teacher, which "
            f"{label(task)} does not have; draw: shortest does it where it can"
        )


def tunable(solver: Solver) -> list[str]:
    """Its float fields."""
    return [f.name for f in fields(solver) if isinstance(getattr(solver, f.name), float)]


def digest(spec: Any) -> str:
    """A short hash of anything that is JSON."""
    return hashlib.blake2b(json.dumps(spec, sort_keys=True).encode(), digest_size=DIGEST).hexdigest()


def spec_of(part: Any) -> dict[str, Any]:
    """A task or solver as JSON."""
    return {name_of(part): plain(part)}


def plain(part: Any) -> dict[str, Any]:
    """Its fields as plain values. `asdict` does the same, and copies every number on the way: twice the time."""
    return {f.name: _plain(getattr(part, f.name)) for f in fields(part)}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return tuple(map(_plain, value))
    return plain(value) if is_dataclass(value) else value


def shape_of(part: Any) -> Any:
    """A part's structure: its class and fields, with floats reduced to their presence or number."""

    def reduce(value: Any) -> Any:
        if isinstance(value, float):
            return "float"
        if isinstance(value, tuple) and value and all(isinstance(v, float) for v in value):
            return f"{len(value)} floats"
        return value

    return [
        name_of(part),
        {f.name: reduce(getattr(part, f.name)) for f in fields(part) if f.name not in ("use", "data_seed")},
    ]


# ---- names ----------------------------------------------------------------------------------------------------------


def find(kind: str, name: str) -> type[Any]:
    """The class of a task or solver: its name in the table, or `package.module:Class`."""
    table: Mapping[str, type[Any]] = TASKS if kind == "task" else SOLVERS
    if name in table:
        return table[name]
    if ":" not in name:
        raise SpecError(f"unknown {kind} {name!r}; {nearest(name, table)}; your own: package.module:Class")
    module, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (Exception, SystemExit) as error:
        raise SpecError(f"{kind} {name!r} cannot be imported: {type(error).__name__}: {error}") from error
    base: Any = Task if kind == "task" else Solver
    if not (isinstance(found, type) and issubclass(found, base)):
        bases = (Task,) if kind == "task" else (Method, TokenModel)
        wanted = " or ".join(f"lfombench.{kind}s.{b.__name__}" for b in bases)
        raise SpecError(f"{name!r} is not a {kind}: it must be a subclass of {wanted}")
    if "__dataclass_params__" not in vars(found):
        raise SpecError(f"{kind} {name!r} needs @dataclass(frozen=True, kw_only=True) above its class")
    if inspect.isabstract(found):
        raise SpecError(f"{kind} {name!r} lacks {', '.join(sorted(vars(found)['__abstractmethods__']))}")
    if base is Solver and not hasattr(found, "family"):
        raise SpecError(f"solver {name!r} lacks family, one of {', '.join(FAMILIES)}")
    return found


def name_of(part: Any) -> str:
    """The inverse of `find`."""
    for table in (TASKS, SOLVERS):
        for name, known in table.items():
            if type(part) is known:
                return name
    return "protocol" if isinstance(part, Protocol) else f"{type(part).__module__}:{type(part).__qualname__}"


def label(part: Any) -> str:
    """Name and non-default fields, depth apart: `memformer(memory=cgd, preconditioner=full)`."""
    if isinstance(part, Protocol):
        base = plain(PROTOCOLS[part.use])
        name, shown = part.use, {k: v for k, v in plain(part).items() if v != base[k]}
    else:
        name = name_of(part)
        shown = {f.name: getattr(part, f.name) for f in fields(part) if f.name != "depth"}
        shown = {
            f.name: shown[f.name]
            for f in fields(part)
            if f.name in shown and (f.default is MISSING or shown[f.name] != f.default)
        }
    return f"{name}({', '.join(f'{k}={_show(v)}' for k, v in shown.items())})" if shown else name


def _show(value: Any) -> str:
    if isinstance(value, tuple | list):
        return "[" + ", ".join(map(_show, value)) + "]"
    return repr(value).removesuffix(".0") if isinstance(value, float) else str(value)


# ---- validation -----------------------------------------------------------------------------------------------------


class FieldError(SpecError):
    """A field that does not fit; `path` leads to it from the part's top."""

    def __init__(self, message: str, path: tuple[str | int, ...] = ()) -> None:
        super().__init__(message)
        self.path = path


_BUILT: WeakValueDictionary[int, Any] = WeakValueDictionary()  # what needs no second look


def build(cls: type[T], values: Mapping[str, Any]) -> T:
    """An instance of a frozen dataclass from plain values: strict types, no unknown keys."""
    known = {f.name for f in fields(cls)}  # type: ignore[arg-type]
    for key in values:
        if key not in known:
            raise FieldError(f"unknown key {key!r}; {nearest(str(key), known)}", (key,))
    for key, value in values.items():
        for number in value if isinstance(value, list | tuple) else [value]:
            if isinstance(number, float) and not math.isfinite(number):
                raise FieldError(f"{key}: got {number}, must be finite", (key,))
    try:
        part: T = _adapter(cls).validate_json(json.dumps(values), strict=True)  # type: ignore[arg-type]  # classes hash
        with contextlib.suppress(TypeError):  # a class with slots
            _BUILT[id(part)] = part
        return part
    except ValidationError as errors:
        [error, *others] = errors.errors()
        alike = [other for other in others if other["loc"][:1] == error["loc"][:1]]
        if alike and len(error["loc"]) > 1 and isinstance(error["loc"][1], str):  # one of several types
            raise FieldError(_explain_choice([error, *alike]), (error["loc"][0],)) from None
        raise FieldError(_explain(error), tuple(error["loc"])) from None


@functools.cache
def _adapter(cls: Any) -> TypeAdapter[Any]:
    return TypeAdapter(cls)


def _explain_choice(errors: list[Any]) -> str:
    """A value that fits none of the types a field may have."""
    given, [field, *_] = errors[0]["input"], errors[0]["loc"]
    wanted, words = [], []
    for error in errors:
        if error["type"] == "literal_error":
            words += error["ctx"]["expected"].replace(" or ", ", ").replace("'", "").split(", ")
        elif len(error["loc"]) == 2:
            wanted.append(error["msg"].removeprefix("Input should be ").replace("a valid array", "a list"))
    must = " or ".join(dict.fromkeys(wanted))
    return f"{field}: got {json.dumps(given)}, must be {must}; or {nearest(str(given), words)}"


def _explain(error: Any) -> str:
    field = ".".join(map(str, error["loc"]))
    if error["type"] in ("missing", "missing_keyword_only_argument"):
        return f"{field} is missing"
    given, wanted = json.dumps(error["input"]), error["msg"].removeprefix("Input ").replace("should be", "must be")
    wanted = wanted.replace("a valid array", "a list, such as [0.1]")
    if error["type"] == "literal_error":
        allowed = error["ctx"]["expected"].replace(" or ", ", ").replace("'", "").split(", ")
        return f"{field}: got {given}; {nearest(str(error['input']), allowed)}"
    grid = "; for a grid write {each: [...]}" if isinstance(error["input"], list) else ""
    return f"{field}: got {given}, {wanted}{grid}"
