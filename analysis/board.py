"""The leaderboard: solvers by depth, ranked at each, with what the differences between them allow to say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, TypeVar

from .verdicts import Difference, Ranking

T = TypeVar("T")
COLUMNS = 8  # the most depths or values that are shown
TOLD = {"": "", "covariance": "Sigma", "edges": "edges", "prior": "prior", "bayes": "prior"}  # on boards


@dataclass(frozen=True)
class Cell:
    """A solver at one depth: seeds that are finite, of those asked for; the mean of their log errors, and the half
    width of its 95 % interval, None for one seed.

    Errors that are only rounding count as EXACT. Where prompts were redrawn (by data seed), the mean and its interval
    are over the draws, low and high are the least and largest of them, each a mean over seeds.
    """

    mean: float | None
    half_width: float | None
    seeds: int
    asked: int
    lost: int  # seeds that diverged or failed
    pending: int  # seeds that have no outcome yet
    median: float | None = None  # over seeds; a lost one is the largest
    typical: float | None = None  # the mean over seeds of the log of the median error of a prompt
    tail: bool = False  # whether the mean error is above the 99 % quantile: fewer than 1 in 100 prompts decide it
    outlier: bool = False  # whether one seed lies far from the others
    exact: bool = False  # whether the error of every seed is only rounding
    published: float | None = None
    low: float | None = None
    high: float | None = None
    redraws: int = 1
    tenth: float | None = None  # of the standard deviation over seeds: the paper draws it as a band
    suspect: str | None = None  # the bound that it is below, which should not be possible
    loose: bool = False  # whether it is a bound whose fit leaves more than 5 % of its error open
    ranks: tuple[int, int] | None = None  # the best and the worst rank that it may have among its class at this depth
    of: int = 0  # the number of solvers in that class that have a rank here
    group: str = ""  # letters of the ties that it is in; solvers with a common letter do not differ
    above: Difference | None = None  # to the method that ranks before it
    over: Difference | None = None  # to the bound of its kind

    @property
    def leads(self) -> bool:
        """Whether it may be the best of its class, by more than one seed, none of them lost."""
        return self.ranks is not None and self.ranks[0] == 1 and not self.lost and self.of > 1

    @property
    def order(self) -> tuple[bool, float, float]:
        """Sorts cells, the best first: those that lost no seed, then by the share that was lost, then by the mean."""
        ended = self.seeds + self.lost
        return self.mean is None, self.lost / ended if ended else 0.0, 0.0 if self.mean is None else self.mean


@dataclass(frozen=True)
class Row:
    """A solver at all its depths. told: what it is told of the distribution that others have to learn."""

    solver: str
    family: str
    params: dict[int, int]  # by depth
    cells: dict[int, Cell]  # by depth
    diverged: int
    title: str  # the name that the sweep gives it, or its label
    told: str = ""
    costs: dict[int, dict[str, float]] = field(default_factory=dict)  # of methods, by depth: those that are known

    @property
    def parameters(self) -> int:
        """The number of parameters at the deepest depth."""
        return self.params[max(self.params)] if self.params else 0

    @property
    def deepest(self) -> Cell:
        """The cell of its deepest depth."""
        return self.cells[max(self.cells)]

    @property
    def competes(self) -> bool:
        """Whether it is a method with a number of steps; bounds and controls are not."""
        return self.family in ("classical", "learned")


@dataclass(frozen=True)
class Board:
    """Solvers trained on one task under one protocol, on the same test prompts. ranked_at: the depth that rows are
    sorted by: the deepest that all methods have; None where they have none in common. shared: whether all seeds have
    the same prompts, so that intervals say nothing of other training prompts. extended: whether seeds were added until
    something was decided, so that intervals are confidence sequences. limits: what methods may cost at most: then each
    has one cell, that of the deepest it may be, and these are ranked among each other.
    """

    task: str
    test: str
    protocol: str
    rows: list[Row]
    ranked_at: int | None = None
    shared: bool = False
    extended: bool = False
    rankings: dict[int, Ranking] = field(default_factory=dict)  # of methods, by depth; none where there is one alone
    limits: Mapping[str, float] = field(default_factory=dict)
    left: Sequence[str] = ()  # why methods are not among those within the limits

    @property
    def depths(self) -> list[int]:
        """The depths to show: all, or where these are too many an even selection of those that every method has."""
        every = {depth for row in self.rows for depth in row.cells}
        having = [set(row.cells) for row in self.rows if row.competes]
        common = set.intersection(*having) if having else set()
        return evenly(sorted(common if len(every) > COLUMNS and len(common) > 1 else every))

    @property
    def published(self) -> bool:
        """Whether the paper has values to compare with."""
        return any(cell.published is not None for row in self.rows for cell in row.cells.values())

    @property
    def drawable(self) -> bool:
        """Whether a chart has anything to show."""
        return any(cell.mean is not None and not cell.exact for row in self.rows for cell in row.cells.values())

    @property
    def memorised(self) -> bool:
        """Whether the solvers were tested on the prompts they were trained on."""
        return "test_on=training" in self.protocol

    @property
    def redraws(self) -> int:
        """The number of times that the prompts were drawn."""
        return max((cell.redraws for row in self.rows for cell in row.cells.values()), default=1)

    @property
    def suspects(self) -> list[str]:
        """Descriptions of the rows that are below a bound."""
        return [
            f"{row.solver} at depth {depth} is below {cell.suspect}"
            for row in self.rows
            for depth, cell in row.cells.items()
            if cell.suspect
        ]

    def leaders(self, depth: int) -> set[str]:
        """The methods that may be the best at a depth, each among those that are told the same."""
        return {row.solver for row in self.rows if depth in row.cells and row.cells[depth].leads}

    @property
    def notes(self) -> list[str]:
        """What a reader must know of rows, in words."""
        cells = [(row, depth, cell) for row in self.rows for depth, cell in sorted(row.cells.items())]
        tails = [f"{row.title} at {depth}" for row, depth, cell in cells if cell.tail and not cell.exact]
        alone = [f"{row.title} at {depth}" for row, depth, cell in cells if cell.outlier and row.competes]
        return [
            *([f"fewer than 1 in 100 prompts decide the mean of {listed(tails)}"] if tails else []),
            *([f"one seed lies far from the others of {listed(alone)}"] if alone else []),
        ]


def listed(names: list[str]) -> str:
    """Names in a sentence, four of them and the number of the others."""
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def evenly(values: list[T]) -> list[T]:
    """All values, or an even selection of as many as a table holds, first and last included."""
    if len(values) <= COLUMNS:
        return values
    return [values[round(i * (len(values) - 1) / (COLUMNS - 1))] for i in range(COLUMNS)]


@dataclass(frozen=True)
class Boards:
    """All boards of a sweep, and how many of its jobs they are based on."""

    sweep: str
    about: str
    wanted: int
    done: int
    boards: list[Board]
    skipped: list[dict[str, Any]]
    mixed: list[str]  # source files of which different versions computed its results
    stray: list[str]  # solvers with losses that are not finite, which something else than lfombench wrote

    @property
    def partial(self) -> bool:
        """Whether jobs are still missing."""
        return self.done < self.wanted

    @property
    def diverged(self) -> int:
        """The number of jobs whose training diverged."""
        return sum(row.diverged for board in self.boards for row in board.rows if board.test == board.task)

    @property
    def suspects(self) -> list[str]:
        """Descriptions of the rows that are below a bound, on any board."""
        return [f"{board.protocol}: {text}" for board in self.boards for text in board.suspects]

    def as_json(self) -> dict[str, Any]:
        """The boards as plain values, for scripts."""
        plain = replace(self, boards=[replace(board, rankings={}) for board in self.boards])
        values = asdict(plain) | {"partial": self.partial, "suspects": self.suspects}
        for board, made in zip(values["boards"], self.boards, strict=True):
            board["notes"] = made.notes
            del board["rankings"]
            for row, kept in zip(board["rows"], made.rows, strict=True):
                for depth, cell in kept.cells.items():
                    for name in ("above", "over"):
                        if difference := getattr(cell, name):
                            said = {"verdict": difference.verdict, "words": difference.words}
                            row["cells"][depth][name] |= said
        return values
