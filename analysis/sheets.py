"""Boards as tables of words, the same in the terminal, in Markdown, in LaTeX and in the report's plain parts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from .board import TOLD, Board, Boards, Cell, Row
from .costs import COSTS
from .statistics import ALPHA
from .titles import short
from .verdicts import Difference

LONGEST = 80  # letters of a short name in a table
Style = Literal["", "strong", "soft", "bad"]


class Part(NamedTuple):
    """A piece of a table's cell. brief: the same in few letters, for narrow terminals."""

    text: str
    style: Style = ""
    brief: str = ""


@dataclass(frozen=True)
class Line:
    """A row of a table. soft: whether it is no rival, as bounds and controls are."""

    cells: Sequence[Sequence[Part]]
    soft: bool = False


@dataclass(frozen=True)
class Sheet:
    """A table: its title, what is said beside it, its columns, and what is said below. words: the columns that hold
    words, which may be broken; the others hold numbers.
    """

    title: str
    about: str
    head: Sequence[str]
    lines: Sequence[Line]
    notes: Sequence[str] = ()
    words: Sequence[int] = (0,)


def sheet_of(board: Board) -> Sheet:
    """A board as a table: ranks and ties, losses by depth, and the difference to the method before."""
    if board.limits:
        return _within(board)
    ranked = board.ranked_at is not None and any(row.cells[board.ranked_at].ranks for row in _with(board))
    head = ["solver", *map(str, board.depths)]
    head = [f"rank at {board.ranked_at}", *head, f"to the method before, at {board.ranked_at}"] if ranked else head
    counts = Counter((cell.seeds, cell.asked) for row in board.rows for cell in row.cells.values())
    usual = counts.most_common(1)[0][0]
    lines = []
    for row in board.rows:
        values = [_cell(row.cells.get(depth), usual) for depth in board.depths]
        at = row.cells.get(board.ranked_at) if board.ranked_at is not None else None
        lines.append(
            Line(
                [_rank(row, at), _name(row), *values, _above(at)] if ranked else [_name(row), *values],
                not row.competes,
            )
        )
    tasks = board.task if board.test == board.task else f"{board.task}, tested on {board.test}"
    about = [tasks, seeds_in_words(*usual) + (", unless said otherwise" if len(counts) > 1 else "")]
    words = (0, 1, len(head) - 1) if ranked else (0,)
    return Sheet(board.protocol, "; ".join(about), head, lines, [*board.notes, *_shared(board)], words)


def _within(board: Board) -> Sheet:
    """A board under limits: each method at the deepest that they allow, with what it takes."""
    usual = Counter((c.seeds, c.asked) for row in board.rows for c in row.cells.values()).most_common(1)
    costs = [name for name in board.limits if name != "steps"]
    lines = []
    for row in board.rows:
        [(depth, cell)] = row.cells.items()
        values = [[Part(f"{row.costs[depth][name]:,.0f}")] for name in costs]
        shown = _cell(cell, usual[0][0])
        lines.append(Line([_rank(row, cell), _name(row), [Part(str(depth))], *values, shown, _above(cell)]))
    limits = " and ".join(f"{most:,.12g} {COSTS[name]}" for name, most in board.limits.items())
    tasks = board.task if board.test == board.task else f"{board.task}, tested on {board.test}"
    about = [tasks, *(seeds_in_words(*counts) for counts, _ in usual)]
    about.append(f"each method at its deepest with at most {limits}")
    head = ["rank", "solver", "depth", *costs, "loss", "to the method before"]
    none = [] if lines else ["no method is known to be within the limits"]
    notes = [*none, *board.notes, *board.left, *_shared(board)]
    return Sheet(board.protocol, "; ".join(about), head, lines, notes, (0, 1, len(head) - 1))


def seeds_in_words(seeds: int, asked: int) -> str:
    """`5 of 5 seeds`."""
    return f"{seeds} of {asked} seed{'s' if asked != 1 else ''}"


def _with(board: Board) -> list[Row]:
    return [row for row in board.rows if board.ranked_at in row.cells]


def _shared(board: Board) -> list[str]:
    if not board.shared or board.redraws > 1:
        return []
    return [
        "all seeds have the same prompts, up to a rotation: intervals and verdicts hold for other test prompts and "
        "seeds, and say nothing of other training prompts"
    ]


def legend(boards: Boards) -> list[str]:
    """How to read the tables of a sweep."""
    every = [cell for board in boards.boards for row in board.rows for cell in row.cells.values()]
    paper = "; in parentheses the paper's value" if any(cell.published is not None for cell in every) else ""
    lines = [
        "natural log of the mean squared error at the query, by depth; lower is better; mean over seeds ± half of the "
        f"95 % interval{paper}"
    ]
    if any(board.extended for board in boards.boards):
        lines.append(
            "seeds were added until something was decided: intervals are confidence sequences and verdicts rest on e "
            "values, which hold wherever one stops"
        )
    if any(cell.ranks for cell in every):
        lines.append(
            "rank: the places that a method may have among those that are told the same (Sigma, edges of its spectrum, "
            "the prior); methods with a letter in common do not differ: paired by seed, Holm over all pairs, "
            f"{ALPHA:.0%}; *: may be the best"
        )
    if any(cell.outlier for cell in every):
        lines.append("med: median of seeds, one of which lies far from the others")
    if any(cell.tail for cell in every):
        lines.append("typ: log of the median error of a prompt, typically, where few prompts decide the mean")
    if any(cell.loose for cell in every):
        lines.append("~: a bound whose own fit leaves more than 5 % open")
    return lines


def number(value: float, digits: int = 3) -> str:
    """A loss as tables show it."""
    return f"{value:.{digits}f}"


def difference_in_words(difference: Difference) -> list[Part]:
    """`+0.012 ±0.004`, and the verdict."""
    if difference.mean is None:
        return [Part(difference.words, "bad" if difference.lost else "")]
    interval = f" ±{number(difference.half_width)}" if difference.half_width is not None else ""
    words = Part(difference.words, "" if difference.real else "soft")
    return [Part(f"{difference.mean:+.3f}{interval}"), words]


def _above(cell: Cell | None) -> list[Part]:
    return difference_in_words(cell.above) if cell and cell.above else []


def _rank(row: Row, cell: Cell | None) -> list[Part]:
    """`1-2 a`; with what the solver is told, `Sigma 1`."""
    if cell is None or cell.ranks is None:
        return []
    best, worst = cell.ranks
    rank = f"{best}-{worst}" if worst > best else str(best)
    parts = [Part(f"{TOLD[row.told]} {rank}".strip())]
    return [*parts, Part(cell.group, "soft")] if cell.group else parts


def _name(row: Row) -> list[Part]:
    parts = [Part(row.title, brief=short(row.title, LONGEST))]
    if not row.competes:
        parts.append(Part(row.family, "soft"))
    return [*parts, Part(f"{row.diverged} diverged", "bad")] if row.diverged else parts


def _cell(cell: Cell | None, usual: tuple[int, int]) -> list[Part]:
    """A loss. usual: the seeds there are and were asked for of most cells, which is said once for all."""
    if cell is None:
        return []
    said = (cell.seeds, cell.asked) == usual and cell.mean is not None
    counts = [] if said else [Part(f"{cell.seeds} of {cell.asked}", "bad" if cell.lost else "soft")]
    if cell.mean is None:
        return [Part("lost" if cell.lost else "to come", "bad" if cell.lost else "soft"), *counts]
    strong: Style = "strong" if cell.leads else ""
    star = "*" if cell.leads else ""
    if cell.exact:
        return [Part(f"exact{star}", strong), *counts]
    parts = [Part(f"{'~' if cell.loose else ''}{number(cell.mean)}{star}", strong)]
    if cell.low is not None and cell.high is not None:
        parts.append(Part(f"{number(cell.low, 2)}..{number(cell.high, 2)}", "soft"))
    elif cell.half_width is not None:
        parts.append(Part(f"±{number(cell.half_width)}", "soft"))
    if cell.published is not None:
        parts.append(Part(f"({number(cell.published, 2)})", "soft"))
    if cell.outlier and cell.median is not None:
        parts.append(Part(f"med {number(cell.median, 2)}", "soft"))
    if cell.tail and cell.typical is not None:
        parts.append(Part(f"typ {number(cell.typical, 2)}", "soft"))
    return [*parts, *counts, Part("suspect", "bad")] if cell.suspect else [*parts, *counts]
