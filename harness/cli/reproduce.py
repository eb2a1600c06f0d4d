"""The command that runs one number again."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

import click

from .options import ALLOW_CODE, JSON, OUT


@click.command()
@click.argument("what", metavar="JOB|CELL")
@click.option("--task", help="The cell's task, by its label, where it has several.")
@click.option("--protocol", help="The cell's protocol, by its label, where it has several.")
@click.option("--test", help="The task to compare on, by its label, where it is not the cell's own.")
@OUT
@ALLOW_CODE
@JSON
def reproduce(what: str, task: str | None, protocol: str | None, test: str | None, out: str, as_json: bool) -> None:
    """Run again what is behind one number, each job alone, and compare: equal, within tolerance, or different and why.

    JOB is an id or its beginning. CELL is SOLVER@DEPTH, such as 'memformer(memory=cgd, preconditioner=full)@4'.
    """
    from lfombench.analysis.sheets import Line, Part, Sheet

    from ..driver.reproduce import reproduce as run_again
    from .maintain import opened
    from .tables import show_sheet
    from .terminal import console

    found = run_again(opened(out), what, task, protocol, test)
    if as_json:
        rows = [asdict(job) | {"verdict": job.verdict} for job in found.jobs]
        answer = {"what": found.what, "answer": found.words, "passed": found.passed, "jobs": rows}
        click.echo(json.dumps(answer | {"differences": list(found.differences)}, indent=1))
        sys.exit(0 if found.passed else 3)
    lines = [
        Line(
            [
                [Part(str(job.seed))],
                [Part(job.job)],
                [Part("lost" if job.stored is None else f"{job.stored:.6f}")],
                [Part("lost" if job.now is None else f"{job.now:.6f}")],
                [Part(f"{job.deviation:.1e}")],
                [Part(job.verdict, "bad" if job.verdict == "different" else "")],
            ]
        )
        for job in found.jobs
    ]
    notes = [] if all(job.same for job in found.jobs) else list(found.differences)
    head = ["seed", "job", "stored", "now", "largest deviation", ""]
    show_sheet(console(), Sheet(found.what, "", head, lines, notes, (1, 5)))
    click.echo(found.words)
    sys.exit(0 if found.passed else 3)
