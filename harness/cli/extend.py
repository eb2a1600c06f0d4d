"""The command that adds seeds to a sweep until its boards can tell solvers apart."""

from __future__ import annotations

import signal
import sys
from shlex import quote
from typing import TYPE_CHECKING, Any

import click

from ..signals import Draining, listen
from .options import CLUSTER, OUT, Number, resources, with_options

if TYPE_CHECKING:
    from lfombench.analysis.separation import Standing

    from ..driver.extend import Wanted

SHOWN = 8  # undecided pairs that are named


@click.command()
@click.argument("sweep")
@OUT
@click.option("--until-separated", is_flag=True, default=True, help="What this command does; it may be left out.")
@click.option(
    "--alpha",
    type=Number(0, 0.5, min_open=True),
    default=0.05,
    show_default=True,
    help="Error rate of all pairs together.",
)
@click.option(
    "--margin",
    type=Number(0, min_open=True),
    default=0.01,
    show_default=True,
    help="Nat of log error within which two solvers count as equivalent.",
)
@click.option("--max-seeds", type=click.IntRange(3, 10_000), default=64, show_default=True, help="Most seeds each.")
@click.option("--max-minutes", type=Number(0, min_open=True), default=20.0, show_default=True, help="Most minutes.")
@click.option("--depth", "depths", type=click.IntRange(min=1), multiple=True, help="Decide at this depth; repeatable.")
@click.option("--test", help="Decide on this further test task, by its label, and not on training tasks.")
@click.option("--address", metavar="HOST:PORT", help="A Ray cluster, as for run.")
@click.option("--workers", type=click.IntRange(min=0), help="Number of workers, as for run.")
@with_options(CLUSTER)
@click.option("--mlflow", metavar="URI", help="A tracking server, or off, as for run.")
def extend(sweep: str, out: str, until_separated: bool, **options: Any) -> None:
    """Add seeds to SWEEP where they decide something: until of each two methods one is better, or they are equivalent.

    Seeds go only to methods that are not told apart yet. Error rates hold although one looks again and again, and
    however often the command is stopped and begun anew. The boards of a sweep that was extended allow for it.
    """
    from ..driver.extend import Goal
    from ..driver.extend import extend as start
    from ..driver.reports import write_report
    from ..spec.loader import load
    from .sweeps import known_sweeps
    from .terminal import Terminal, console

    listen(signal.SIGINT, signal.SIGTERM)
    running = {"resources": resources(options)}
    running |= {name: options.pop(name) for name in ("address", "workers", "priority", "mlflow")}
    current, goal = load(sweep), Goal(**options)
    terminal = Terminal(console())
    stop = Draining("stopping: what runs stops where it can go on, what is done is committed; once more stops at once")

    def told(standing: Standing, wanted: Wanted) -> None:
        terminal.stop()
        click.echo(round_in_words(standing, wanted, goal.max_seeds))

    try:
        standing, summary = start(current, out, goal, told, stop=stop, observer=terminal, **running)
    finally:
        terminal.stop()
        stop.over()
    if stop():
        raise KeyboardInterrupt
    terminal.show()
    open_pairs = standing.named(standing.undecided)
    for name in open_pairs[:SHOWN]:
        click.echo(f"undecided: {name}")
    if len(open_pairs) > SHOWN:
        click.echo(f"undecided: {len(open_pairs) - SHOWN} more")
    if open_pairs:
        click.echo("budget spent: --max-seeds and --max-minutes allow more, and go on from these seeds")
    click.echo(
        f"report: {write_report(out, known_sweeps(out, current.name))}; board: lfombench board {quote(current.name)}"
    )
    sys.exit(3 if open_pairs or summary.failed else 0)


def round_in_words(standing: Standing, wanted: Wanted, most: int) -> str:
    """`28 pairs: 20 separated, 3 equivalent within 0.01, 5 undecided; next: 6 methods to 8 seeds at most; ...`."""
    separated, equivalent = int(standing.separated.sum()), int(standing.equivalent.sum())
    many = len(standing.separated)
    parts = [
        f"{many} pairs: {separated} separated, {equivalent} equivalent within {standing.margin:g}, "
        f"{many - separated - equivalent} undecided"
    ]
    if wanted:
        pairs = zip(standing.forecast, standing.undecided, strict=True)
        expected = [seeds for seeds, undecided in pairs if undecided]
        within = [seeds for seeds in expected if seeds <= most]
        parts.append(f"next: {len(wanted)} methods to {max(wanted.values())} seeds at most")
        if within:
            parts.append(f"about {max(within)} seeds expected to decide {len(within)} of them")
        if len(within) < len(expected):
            parts.append(f"{len(expected) - len(within)} may need more than {most}")
    return "; ".join(parts)
