"""Commands for a remote cluster, which runs the same `lfombench run` through Ray Jobs."""

from __future__ import annotations

import sys

import click

from .options import ADDRESS


@click.command()
@click.argument("sweep")
@ADDRESS
@click.option(
    "--out", required=True, metavar="URI", help="The store: a folder that all nodes share, or s3://bucket/prefix."
)
@click.option(
    "--code", type=click.Path(exists=True, file_okay=False), help="A folder with your tasks and solvers, to upload."
)
@click.option("--workers", type=click.IntRange(min=1), help="[default: one per core of the cluster, or some per GPU]")
@click.option("--mlflow", metavar="URI", help="A tracking server, or off.")
@click.option("--no-wait", is_flag=True, help="Return at once instead of following the log.")
def submit(
    sweep: str, address: str, out: str, code: str | None, workers: int | None, mlflow: str | None, no_wait: bool
) -> None:
    """Run SWEEP on a cluster, through Ray Jobs, and follow its log."""
    from lfombench.cluster import jobs

    from ..spec.loader import load

    if code:
        sys.path.insert(0, code)
    load(sweep)
    options = (["--workers", str(workers)] if workers else []) + (["--mlflow", mlflow] if mlflow else [])
    job = jobs.submit(sweep, address=address, out=out, code=code, options=options)
    click.echo(f"submitted {job}; lfombench logs {job} --address {address}; lfombench stop {job} --address {address}")
    if no_wait:
        return
    for text in jobs.follow(job, address):
        click.echo(text, nl=False)
    state = jobs.status(job, address)
    click.echo(f"{job}: {state.lower()}")
    sys.exit(jobs.ENDED.get(state, 1))


@click.command()
@click.argument("job")
@ADDRESS
@click.option("--follow", is_flag=True, help="Follow the log until the job ends.")
def logs(job: str, address: str, follow: bool) -> None:
    """Show the log of a submitted JOB."""
    from lfombench.cluster import jobs

    if not follow:
        click.echo(jobs.log(job, address), nl=False)
        return
    for text in jobs.follow(job, address):
        click.echo(text, nl=False)


@click.command()
@click.argument("job")
@ADDRESS
def stop(job: str, address: str) -> None:
    """Stop a submitted JOB; what it has committed stays in the store."""
    from lfombench.cluster import jobs

    jobs.stop(job, address)
    click.echo(f"{job}: stopping; submit its sweep again to go on from what is committed")
