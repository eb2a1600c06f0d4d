"""The command that compares solvers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from ..errors import UserError
from .options import JSON, OUT
from .sweeps import known_sweeps, name_in

if TYPE_CHECKING:
    from lfombench.analysis.compare import Comparison
    from lfombench.analysis.sheets import Sheet

MANY = 12  # solvers, above which a matrix of them does not fit a terminal
USAGE = "compare A B [SWEEP] compares two solvers, compare A B C ... [SWEEP] more, compare SWEEP all of a sweep"


@click.command()
@click.argument("words", nargs=-1, metavar="A B ... [SWEEP]")
@click.option("--test", help="Only tests on this task: its label, or a part of it.")
@OUT
@JSON
def compare(words: tuple[str, ...], test: str | None, out: str, as_json: bool) -> None:
    """Say whether solver A is better than B, by how much and how surely; of more than two, who wins how often.

    A and B are labels or names as boards show them, or a part that no other name has. Wherever both were tested on the
    same task at the same depth under the same protocol they are paired by seed.
    """
    from lfombench.analysis.meetings import Solvers, compared, gathered, matrix
    from lfombench.analysis.results import Tables, leaves

    from .tables import show_sheet
    from .terminal import console

    known = {manifest.name for manifest in known_sweeps(out, None)}
    *names, last = words or ("",)
    sweep = name_in(last) if last else ""
    names = [*names, *([last] if last and sweep not in known else [])]
    tables, manifests = Tables(out), leaves(out, known_sweeps(out, sweep if sweep in known else None))
    frame = gathered(tables, manifests, test)
    solvers = Solvers.of(frame, manifests, f"sweep {sweep}" if sweep in known else "this store")
    if sweeps := [name for name in names if name in known and not solvers.begins(name)]:
        raise UserError(f"sweep {sweeps[0]!r} must come last, and alone; {USAGE}")
    found = [solvers.find(name) for name in names]
    if twice := next((name for name in found if found.count(name) > 1), None):
        raise UserError(f"got {', '.join(map(repr, names))}, of which two stand for {twice}; {USAGE}")
    if len(found) == 1:
        raise UserError(f"got {', '.join(map(repr, names))}; {USAGE}")
    if len(found) == 2:
        one = compared(tables, frame, solvers, found[0], found[1])
        if as_json:
            click.echo(json.dumps(as_values(one), indent=1))
            return
        for words_of in one.words:
            click.echo(words_of)
        show_sheet(console(), table_of(one))
        click.echo(one.advice or "", nl=bool(one.advice))
        return
    rivals = found or solvers.rivals(frame)
    counts = matrix(tables, frame, solvers, rivals)
    if as_json:
        keys = ("wins", "ties", "losses")
        rows = [{"solver": a, "against": b} | dict(zip(keys, n, strict=True)) for (a, b), n in counts.items()]
        click.echo(json.dumps(rows, indent=1))
        return
    show_sheet(console(), matrix_of(counts, rivals))


def as_values(comparison: Comparison) -> dict[str, Any]:
    """A comparison as plain values, for scripts."""
    meetings = [
        asdict(one) | {"verdict": one.difference.verdict, "words": one.difference.words} for one in comparison.meetings
    ]
    head: dict[str, Any] = {"first": comparison.first, "second": comparison.second, "words": comparison.words}
    return head | {"advice": comparison.advice, "extended": comparison.extended, "meetings": meetings}


def table_of(comparison: Comparison) -> Sheet:
    """A line for each place and depth at which two solvers meet."""
    from lfombench.analysis.losses import EXACT
    from lfombench.analysis.sheets import Line, Part, Sheet, difference_in_words, number

    tasks, protocols = ({one.place[:2] for one in comparison.meetings}, {one.protocol for one in comparison.meetings})
    lines = []
    for one in comparison.meetings:
        task = one.task if one.task == one.test else f"{one.task}, tested on {one.test}"
        where = [*([Part(one.protocol)] if len(protocols) > 1 else []), *([Part(task)] if len(tasks) > 1 else [])]
        means = [[Part("lost" if mean is None else "exact" if mean <= EXACT else number(mean))] for mean in one.means]
        p = "" if one.difference.p is None else f"{one.difference.p:.2g}"
        values = [[Part(str(one.depth))], *means, [Part(str(one.difference.seeds))], [Part(p)]]
        lines.append(Line([*([where] if where else []), *values, difference_in_words(one.difference)]))
    exact = any(mean is not None and mean <= EXACT for one in comparison.meetings for mean in one.means)
    place = ["where"] * (max(len(tasks), len(protocols)) > 1)
    head = [*place, "depth", "first", "second", "seeds", "p", "difference, first to second"]
    notes = [
        f"first: {comparison.first}; second: {comparison.second}",
        "difference of log errors, below 0 the first is better, ± half of its own 95 % interval; paired by seed; "
        f"p: {'t test' if not comparison.extended else 't test, of an extended sweep one over the e value'}, Holm over "
        f"all lines{f'; exact: only rounding, which counts as {EXACT:g}' if exact else ''}",
    ]
    task, test, protocol = comparison.meetings[0].place
    about = task if task == test else f"{task}, tested on {test}"
    title = protocol if len(protocols) == 1 else "under several protocols"
    return Sheet(title, about if len(tasks) == 1 else "", head, lines, notes, (*range(len(place)), len(head) - 1))


def matrix_of(counts: dict[tuple[str, str], tuple[int, int, int]], names: Sequence[str]) -> Sheet:
    """Wins, ties and losses of each solver against each."""
    from lfombench.analysis.sheets import Line, Part, Sheet

    totals = {a: [sum(counts[a, b][i] for b in names if (a, b) in counts) for i in range(3)] for a in names}
    shown = len(names) <= MANY
    order = sorted(names, key=lambda name: (totals[name][2] - totals[name][0], name))
    lines = []
    for i, a in enumerate(order):
        cells = [[Part("/".join(map(str, counts[a, b])) if (a, b) in counts else "")] for b in order]
        total = [Part("/".join(map(str, totals[a])))]
        lines.append(Line([[Part(str(i + 1))], [Part(a)], total, *(cells if shown else [])]))
    head = ["", "solver", "all", *(str(i + 1) for i in range(len(order)) if shown)]
    notes = [
        f"wins/ties/losses {'against the solver of that number' if shown else 'against all others'}, over tasks, "
        "protocols and depths: paired by seed, Holm over all",
        *([] if shown else ["--json has every pair"]),
    ]
    return Sheet("who beats whom", "", head, lines, notes, (1,))
