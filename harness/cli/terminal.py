"""Show a run in the terminal: its plan in words, its progress, and its boards while they fill."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar
from rich.segment import Segment

from lfombench.analysis.board import Boards
from lfombench.analysis.results import Tables, leaves, sweeps

from .format import counted, duration, remaining
from .plain import plain, raw
from .tables import show_sweep

if TYPE_CHECKING:
    from ..driver.plan import Plan
    from ..scheduler.estimate import Estimate
    from ..scheduler.progress import Progress
    from ..store.store import Store
    from ..tracking.follow import Follower

FIRST_BOARD = 30.0  # seconds from a run's begin to its first boards; the next come after four times as long, and so on
LINE_EVERY = 5.0  # seconds between plain progress lines


def estimated(estimate: Estimate) -> str:
    """An estimate in words: `about 45 s on 2 workers (30 s to 1 min 10 s, from this store's history)`."""
    source = "from this store's history" if estimate.measured else "not yet calibrated on this machine"
    bounds = f"{duration(estimate.low)} to {duration(estimate.high)}"
    return f"about {duration(estimate.seconds)} on {counted(estimate.workers, 'worker')} ({bounds}, {source})"


def state(plan: Plan) -> str:
    """A plan in words: `fig1: 320 jobs, 315 done, 5 to run (5 stale: solvers/memformer.py:Memformer changed)`."""
    reasons = ", ".join(f"{jobs} {why}" for why, jobs in plan.why.items() if why != "new" or len(plan.why) > 1)
    others = f", {plan.elsewhere} the share of other drivers" if plan.elsewhere else ""
    reasons = f" ({reasons})" if reasons else ""
    return f"{plan.sweep.name}: {plan.jobs} jobs, {plan.done} done{others}, {plan.to_run} to run{reasons}"


def pace(progress: Progress) -> str:
    """The pace of a run in words: `3.2 jobs/s, 40 s left, 1 failed`."""
    failed = f", {len(progress.failed)} failed" if progress.failed else ""
    return f"{progress.rate:.1f} jobs/s, {remaining(progress.left)}{failed}"


class Terminal:
    """Observes a run and shows it: with a progress bar in a terminal, else in plain lines, as also for a screen reader
    (TERM=dumb).
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self.bar: Bar | None = None
        self.next_board = FIRST_BOARD
        self.last_line = 0.0
        self.last_told = time.monotonic()

    def planned(self, store: Store, plan: Plan, progress: Progress) -> None:
        """Print what is done and what is left, and start the progress bar."""
        self.store, self.plan = store, plan
        tail = f" in {counted(len(plan.packs), 'pack')}, {estimated(plan.estimate)}" if plan.packs else ""
        self.console.print(state(plan) + tail, highlight=False)
        if plan.packs and self.console.is_terminal and not self.console.is_dumb_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(bar_width=None), TextColumn("{task.fields[rest]}"))
            self.bar = Bar(*columns, console=self.console, expand=True, transient=True)
            self.task = self.bar.add_task(f"0/{plan.to_run} jobs", total=progress.total, rest="starting workers")
            self.bar.start()

    def committed(self, progress: Progress) -> None:
        """Show the progress after another pack is committed, and the boards from time to time."""
        done, rest, elapsed = f"{progress.tried}/{progress.to_run} jobs", pace(progress), progress.elapsed
        if self.bar:
            self.bar.update(self.task, completed=progress.worked, description=done, rest=rest)
        elif elapsed - self.last_line > LINE_EVERY or progress.tried == progress.to_run:
            self.last_line = elapsed
            self.console.print(f"{done} after {duration(elapsed)}, {rest}", highlight=False)
            sys.stdout.flush()
        if elapsed > self.next_board and progress.tried < progress.to_run:
            self.next_board = 4 * elapsed
            self.show()

    def tracking(self, follower: Follower) -> None:
        """Remove the progress bar, and say from time to time how far MLflow is."""
        self.stop()
        now = time.monotonic()
        if now - self.last_told > LINE_EVERY:
            if follower.error:
                self.console.print(f"MLflow: waiting for {follower.where.shown}: {follower.error}", highlight=False)
            elif follower.left is not None and follower.written < follower.to_write:
                left = duration(follower.left)
                self.console.print(
                    f"MLflow: {follower.written} of {follower.to_write} runs, {left} left", highlight=False
                )
            self.last_told = now

    def stop(self) -> None:
        """Remove the progress bar."""
        if self.bar:
            self.bar.stop()
            self.bar = None

    def show(self) -> list[Boards]:
        """Print and return the boards of the sweep and its parts, from what is committed so far."""
        out, tables = self.store.out, Tables(self.store.out)
        return [show_sweep(self.console, tables, leaf) for leaf in leaves(out, sweeps(out, self.plan.sweep.name))]


class PlainConsole(Console):
    """A console whose own colours and moves of the cursor stand, and no others."""

    def __init__(self, **options: Any) -> None:
        super().__init__(file=raw(sys.stdout), soft_wrap=True, markup=False, **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """What is shown, plain."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(plain(segment.text), segment.style)


def console() -> Console:
    """A console on the terminal; where there is none, a console that is wide enough for a board."""
    terminal = PlainConsole()
    return terminal if terminal.is_terminal else PlainConsole(width=150)
