"""What people see in the terminal: plans, progress and boards."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar
from rich.table import Table
from rich.text import Text

from lfombench.analysis.axis import along
from lfombench.analysis.board import Board, Boards, Cell, boards
from lfombench.analysis.overview import overview
from lfombench.analysis.results import Tables, Wanted, leaves, sweeps

from .format import counted, duration
from .tables import show_line

if TYPE_CHECKING:
    from ..driver.plan import Plan
    from ..scheduler.packing import Estimate
    from ..scheduler.progress import Progress
    from ..store.store import Store
    from ..tracking.tracker import Tracker

FIRST_BOARD = 30.0  # seconds into a run; then after four times as long, and so on
LINE_EVERY = 5.0  # seconds between plain progress lines


def expected(estimate: Estimate) -> str:
    """An estimate in words."""
    source = "from this store's history" if estimate.measured else "not yet calibrated on this machine"
    bounds = f"{duration(estimate.low)} to {duration(estimate.high)}"
    return f"about {duration(estimate.seconds)} on {counted(estimate.workers, 'worker')} ({bounds}, {source})"


def state(plan: Plan) -> str:
    """`fig1: 320 jobs, 300 done, 20 to run (15 new, 5 stale: solvers/memformer.py changed)`."""
    why = ", ".join(f"{jobs} {reason}" for reason, jobs in plan.why.items() if reason != "new" or len(plan.why) > 1)
    others = f", {plan.elsewhere} the share of other drivers" if plan.elsewhere else ""
    why = f" ({why})" if why else ""
    return f"{plan.sweep.name}: {plan.jobs} jobs, {plan.done} done{others}, {plan.to_run} to run{why}"


def show_sweep(console: Console, tables: Tables, wanted: Wanted) -> Boards:
    """A sweep's boards; or, where it has an axis and names for its solvers, what stands along that, as boards of all
    values would be too many.
    """
    found = boards(tables, wanted)
    console.print(Text(found.sweep, style="bold"))
    line = along(tables, wanted) if wanted.named else None
    if line:
        show_line(console, line, overview(tables, wanted, line))
    else:
        _show_boards(console, found)
    for text in found.suspects:
        console.print(Text(f"suspect: {text}", style="bold red"))
    if found.skipped:
        console.print(f"{counted(len(found.skipped), 'combination')} skipped, as the sweep asks", style="dim")
    if found.mixed:
        text = f"mixed: results come from different versions of {', '.join(found.mixed)}"
        console.print(Text(text, style="bold red"))
    if found.partial:
        console.print(
            Text(f"partial: {found.done} of {found.wanted} jobs of {found.sweep} are done", style="bold yellow")
        )
    return found


def _show_boards(console: Console, found: Boards) -> None:
    for board in found.boards:
        console.print(_table(board, narrow=console.width < 56 + 17 * len(board.depths)))
    if found.boards:
        paper = "; in parentheses the paper's value" if any(board.published for board in found.boards) else ""
        loose = "; ~: a bound whose own fit leaves more than 5 % open" if found.loose else ""
        console.print(
            "natural log of the mean squared error at the query, by depth; lower is better; mean over seeds ± half of\n"
            f"the 95 % interval{paper}; bold: the best of a depth and all whose interval reaches it{loose}",
            style="dim",
            highlight=False,
        )


def show_profile(console: Console, seconds: dict[str, float]) -> None:
    """Where the workers' time went."""
    whole = sum(value for name, value in seconds.items() if name != "commit")
    table = Table(
        "", "seconds", "share", "", box=SIMPLE_HEAD, title="where the workers' time went", title_justify="left"
    )
    for column in table.columns[1:3]:
        column.justify = "right"
    for name, value in seconds.items():
        share = value / whole if whole else 0.0
        label = f"{name} (driver)" if name == "commit" else name
        table.add_row(label, f"{value:.1f}", f"{share:.1%}", "█" * round(40 * share))
    console.print(table)


def _table(board: Board, narrow: bool) -> Table:
    where = board.task if board.test == board.task else f"{board.task}, tested on {board.test}"
    title = Text.assemble((board.protocol, "bold"), "  ", (where, "dim"))
    made = Table(title=title, title_justify="left", title_style="", box=SIMPLE_HEAD)
    made.add_column("solver", overflow="fold")
    for depth in board.depths:
        made.add_column(str(depth), justify="right", no_wrap=True)
    for row in board.rows:
        name = Text(row.title.replace("(", "\n  (") if narrow else row.title)
        if not row.competes:
            name.append(f"  {row.family}", style="dim")
        if row.diverged:
            name.append(f"  {row.diverged} diverged", style="bold red")
        cells = [_cell(row.cells.get(depth), row.solver in board.leaders(depth), narrow) for depth in board.depths]
        made.add_row(name, *cells, style="" if row.competes else "italic")
    return made


def _cell(cell: Cell | None, best: bool, narrow: bool) -> Text:
    if cell is None:
        return Text()
    if cell.exact:
        return Text("exact", style="bold green" if best else "")
    text = Text(f"{'~' if cell.loose else ''}{cell.mean:.3f}", style="bold green" if best else "")
    if cell.redraws > 1:
        text.append(f"{chr(10) if narrow else ' '}{cell.low:.2f}..{cell.high:.2f}", style="not bold dim")
    elif cell.half_width is not None:
        text.append(f"{chr(10) if narrow else ' '}±{cell.half_width:.3f}", style="not bold dim")
    if cell.published is not None:
        text.append(f"\n({cell.published:.2f})" if narrow else f" ({cell.published:.2f})", style="not bold dim")
    if cell.suspect:
        text.append(" suspect", style="bold red")
    return text


def pace(progress: Progress) -> str:
    """`3.2 jobs/s, 40 s left, 1 failed`."""
    failed = f", {len(progress.failed)} failed" if progress.failed else ""
    return f"{progress.rate:.1f} jobs/s, {duration(progress.left)} left{failed}"


class Terminal:
    """Tells a terminal how a run goes: a bar where it can, plain lines where it cannot."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.bar: Bar | None = None
        self.next_board = FIRST_BOARD
        self.last_line = 0.0

    def planned(self, store: Store, plan: Plan, progress: Progress) -> None:
        """Say what is done and what is left."""
        self.store, self.plan = store, plan
        tail = f" in {counted(len(plan.packs), 'pack')}, {expected(plan.estimate)}" if plan.packs else ""
        self.console.print(state(plan) + tail, highlight=False)
        if plan.packs and self.console.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(bar_width=None), TextColumn("{task.fields[rest]}"))
            self.bar = Bar(*columns, console=self.console, expand=True, transient=True)
            self.task = self.bar.add_task(f"0/{plan.to_run} jobs", total=progress.total, rest="starting workers")
            self.bar.start()

    def committed(self, progress: Progress) -> None:
        """Advance."""
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

    def tracking(self, tracker: Tracker) -> None:
        """Wait for MLflow in sight."""
        self.stop()
        if tracker.behind or tracker.waiting.qsize() > 2:
            self.console.print("writing the last runs to MLflow", highlight=False)

    def stop(self) -> None:
        """Take the bar away."""
        if self.bar:
            self.bar.stop()
            self.bar = None

    def show(self) -> list[Boards]:
        """The boards of the sweep and its parts as they are now."""
        out, tables = self.store.out, Tables(self.store.out)
        return [show_sweep(self.console, tables, one) for one in leaves(out, sweeps(out, self.plan.sweep.name))]


def console() -> Console:
    """The terminal; where there is none, wide enough for a board."""
    found = Console(soft_wrap=True, markup=False)
    return found if found.is_terminal else Console(soft_wrap=True, markup=False, width=150)
