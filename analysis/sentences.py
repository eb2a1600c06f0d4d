"""What a board says, in sentences that its statistics support."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from .axis import Along
from .board import TOLD, Board, Row
from .compare import FEW
from .leaders import Lead
from .overview import Overview
from .overview import short as value_in_words
from .rounding import at_most
from .titles import short as _short
from .verdicts import Difference

NAMED = 4  # solvers that are named, above which they are counted


def short(label: str) -> str:
    """A name in a sentence."""
    return _short(label, longest=160)


def of_board(board: Board) -> list[str]:
    """Who leads, by how much; how far from the bound; who is told more and is better for it; what was lost."""
    at = board.ranked_at
    if at is None:
        return ["The methods have no depth in common: there is no ranking."] if board.rows else []
    lines = []
    classes = dict.fromkeys(row.told for row in board.rows if row.competes and at in row.cells)
    for told in sorted(classes, key=lambda one: (one != "", one)):
        rows = [row for row in board.rows if row.competes and at in row.cells and row.told == told]
        lines += _leaders(board, rows, told, at)
    return [*lines, *_losses(board, at), *([] if lines else _alone(board, at))]


def _leaders(board: Board, rows: Sequence[Row], told: str, at: int) -> list[str]:
    """A sentence on those that lead a class, and one on how far they are from their bound."""
    first = [row for row in rows if row.cells[at].leads]
    among = f"Told {TOLD[told]}, " if told else ""
    if not first:
        return []
    names = listed(first)
    if len(first) == 1:
        behind = next((row for row in rows if row not in first and row.cells[at].ranks), None)
        gap = _gap(board, first[0], behind, at) if behind else None
        text = f"{among}{names} leads at depth {at}{f', {gap}' if gap else ''}."
    else:
        text = f"{among}{names}: {_apart(board, first)}."
        behind = next((row for row in rows if row not in first and row.cells[at].ranks), None)
        gap = _gap(board, first[-1], behind, at) if behind else None
        text += f" They lead at depth {at}{f', {gap}' if gap else ''}."
    return [text, *_bound(first, at)]


def _gap(board: Board, leader: Row, behind: Row, at: int) -> str | None:
    difference = board.rankings[at].difference(behind.solver, leader.solver)
    if difference.mean is None:
        return f"before {short(behind.title)}"
    return f"{size(difference.mean)} before {short(behind.title)}"


def _apart(board: Board, rows: Sequence[Row]) -> str:
    """How far solvers that lead together are from each other, at every depth that all have."""
    depths = sorted(set.intersection(*(set(row.cells) for row in rows)))
    pairs = list(combinations(rows, 2))
    differences = [
        (depth, board.rankings[depth].difference(b.solver, a.solver))
        for depth in depths
        if depth in board.rankings
        for a, b in pairs
    ]
    within = [(depth, each.within) for depth, each in differences if each.within is not None]
    if len(within) == len(differences) and all(x <= FEW for _, x in within if x is not None):
        largest = max(x for _, x in within if x is not None)
        return f"no difference beyond {at_most(largest)} at {'any depth' if len(depths) > 1 else f'depth {depths[0]}'}"
    return _undecided([(depth, each) for depth, each in differences])


def _undecided(differences: Sequence[tuple[int, Difference]]) -> str:
    real = sorted({depth for depth, each in differences if each.real and not each.equivalent})
    at = differences[-1][0]
    last = [each.within for depth, each in differences if depth == at]
    known = [x for x in last if x is not None]
    text = f"not told apart at depth {at}" + (f" (the difference may be up to {at_most(max(known))})" if known else "")
    if real:
        text += f", though they differ at {', '.join(map(str, real))}" if at not in real else ""
    return text


def _bound(rows: Sequence[Row], at: int) -> list[str]:
    """How far solvers are from the bound of their kind."""
    over = [row.cells[at].over for row in rows]
    known = [each for each in over if each is not None and each.within is not None and each.mean is not None]
    if len(known) < len(rows) or not known:
        return []
    bounds = {each.than for each in known}
    name = " and ".join(short(bound) for bound in sorted(bounds))
    they = "Both are" if len(rows) == 2 else "All are" if len(rows) > 2 else "It is"
    largest = max(each.within or 0.0 for each in known)
    if largest <= FEW:
        return [f"{they} within {at_most(largest)} of the bound, {name}."]
    gaps = sorted(each.mean or 0.0 for each in known)
    if not all(each.real for each in known):
        few = "It is" if len(rows) == 1 else "They are"
        return [f"{few} at most {at_most(largest)} above the bound, {name}."]
    spread = f"{size(gaps[0])} to {size(gaps[-1])}" if size(gaps[0]) != size(gaps[-1]) else size(gaps[0])
    return [f"{they} {spread} above the bound, {name}."]


def _losses(board: Board, at: int) -> list[str]:
    """Which methods lost seeds at a depth."""
    lost = [row for row in board.rows if row.competes and at in row.cells and row.cells[at].lost]
    each = [f"{short(row.title)} {row.cells[at].lost} of {row.cells[at].asked}" for row in lost]
    more = f" and {len(each) - NAMED} more" if len(each) > NAMED else ""
    return [f"Seeds were lost: {', '.join(each[:NAMED])}{more}."] if each else []


def _alone(board: Board, at: int) -> list[str]:
    rivals = [row for row in board.rows if row.competes and at in row.cells and row.cells[at].mean is not None]
    if len(rivals) == 1:
        return [f"{short(rivals[0].title)} is alone here: {rivals[0].cells[at].mean:.3f} at depth {at}."]
    if rivals and all(row.cells[at].seeds < 2 for row in rivals):
        return ["One seed each: nothing can be said of which is better."]
    return []


def of_axis(line: Along, chart: str, leads: Sequence[Lead]) -> list[str]:
    """Who leads where along an axis."""
    runs: list[tuple[list[Lead], tuple[str, ...]]] = []
    for lead in leads:
        if runs and set(runs[-1][1]) == set(lead.names):
            runs[-1][0].append(lead)
        else:
            runs.append(([lead], lead.names))
    title = f"{chart}: " if chart else ""
    said = [f"{_named(leads)} at {_range([lead.x for lead in leads])}" for leads, names in runs if names]
    return [f"{title}by {line.name}, leading: {'; '.join(said)}."] if said else []


def of_overviews(overviews: Sequence[Overview]) -> list[str]:
    """How often the first of two solvers is better, over all families and values, for each two that are compared."""
    said = []
    for names in dict.fromkeys(tuple(over.names) for over in overviews):
        ours = [over for over in overviews if tuple(over.names) == names]
        total = sum(len(over.found) for over in ours)
        counts = {verdict: sum(len(over.at(verdict)) for over in ours) for verdict in ("better", "worse", "even")}
        words = {"better": "better at", "worse": "worse at", "even": "not told apart at"}
        parts = [f"{words[verdict]} {count}" for verdict, count in counts.items() if count]
        families = f"{len(ours)} families and " if len(ours) > 1 else ""
        said.append(f"{names[0]} against {names[1]}, over {families}{total} values: {', '.join(parts)}.")
    return said


def _range(xs: Sequence[object]) -> str:
    words = [value_in_words(x) for x in xs]
    return f"{words[0]} to {words[-1]}" if len(words) > 2 else " and ".join(words)


def _named(leads: Sequence[Lead]) -> str:
    names = leads[0].names
    if len(names) == 1:
        return short(names[0])
    within = max(lead.within for lead in leads)
    apart = f"no difference beyond {at_most(within)}" if within <= FEW else "not told apart"
    if len(names) <= NAMED:
        return f"{', '.join(short(name) for name in names[:-1])} and {short(names[-1])} ({apart})"
    rest = sorted({name for lead in leads for name in lead.behind})
    if 0 < len(rest) <= NAMED:
        return f"all but {' and '.join(map(short, rest))} ({apart})"
    return f"{len(names)} methods, among them {short(names[0])} ({apart})" if rest else f"all methods ({apart})"


def listed(rows: Sequence[Row]) -> str:
    """Names of rows, the first few."""
    names = [short(row.title) for row in rows[:NAMED]]
    if len(rows) > NAMED:
        return f"{', '.join(names)} and {len(rows) - NAMED} more"
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]


def size(value: float) -> str:
    """A difference, with as many digits as mean something."""
    value = abs(value)
    if value >= 10:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 1 else f"{value:.2f}" if value >= 0.095 else f"{value:.2g}"
