"""Commands for a remote cluster, which runs the same `lfombench run` through Ray Jobs."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
from typing import Any

import click

from ..errors import UserError
from .options import ADDRESS, CLUSTER, JSON, with_options
from .run import HOW


@click.command()
@click.argument("sweep")
@ADDRESS
@click.option(
    "--out",
    required=True,
    metavar="URI",
    help="The store: a folder that all nodes share, or s3:// gs:// az://BUCKET/PREFIX.",
)
@click.option(
    "--code",
    type=click.Path(exists=True, file_okay=False),
    help="A folder with your tasks and solvers, to upload; without what its .gitignore and .rayignore name.",
)
@click.option("--name", metavar="NAME", help="The job's name. [default: the sweep's, and the time]")
@click.option("--env", multiple=True, metavar="NAME", help="A variable of this shell's that the job gets; repeatable.")
@click.option("--env-file", metavar="FILE", help="A file of variables that the job gets, NAME=VALUE in each line.")
@click.option("--wheel", is_flag=True, help="Send this lfombench along: nodes need what it needs, but not itself.")
@click.option("--no-wait", is_flag=True, help="Return at once instead of following the log.")
@click.option("--workers", type=click.IntRange(min=1), help="[default: one per core of the cluster, or some per GPU]")
@with_options(CLUSTER)
@with_options(HOW)
@click.pass_context
def submit(
    ctx: click.Context,
    /,
    sweep: str,
    address: str,
    out: str,
    code: str | None,
    name: str | None,
    env: tuple[str, ...],
    env_file: str | None,
    wheel: bool,
    no_wait: bool,
    **how: Any,
) -> None:
    """Run SWEEP on a cluster, through Ray Jobs, and follow its log. Ctrl-C ends the following, not the job."""
    from lfombench.cluster import jobs

    said = click.core.ParameterSource.COMMANDLINE
    words = [
        word
        for option in ctx.command.params
        if option.name in how and ctx.get_parameter_source(option.name) is said
        for word in _words(option, how[option.name])
    ]
    job = jobs.submit(
        sweep,
        address=address,
        out=out,
        code=code,
        name=name,
        env=env,
        env_file=env_file,
        wheel=wheel,
        options=words,
        tell=click.echo,
    )
    click.echo(f"submitted {job}; lfombench logs {job} --address {address}; lfombench stop {job} --address {address}")
    try:
        _read(sweep, code)
    except UserError:
        with contextlib.suppress(UserError):  # its driver refuses the sweep as well
            jobs.withdraw(job, address)
        raise
    if no_wait:
        return
    _follow(job, address)
    state = jobs.status(job, address)
    click.echo(f"{job}: {state.lower()}")
    sys.exit(jobs.ENDED.get(state, 1))


@click.command(name="jobs")
@ADDRESS
@JSON
def list_jobs(address: str, as_json: bool) -> None:
    """List the jobs of a cluster, the latest first: sweeps that were submitted, and others. Times are in UTC."""
    from rich.table import Table

    from lfombench.cluster import jobs

    from .terminal import console

    found = jobs.jobs(address)
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(job) for job in found], indent=1))
        return
    if not found:
        click.echo(f"no jobs on {address}; lfombench submit starts one")
        return
    table = Table("job", "status", "began", "ended", "store")
    for job in found:
        table.add_row(job.name, job.status.lower(), job.started, job.ended, job.out or "(not of lfombench)")
    console().print(table)


@click.command()
@click.argument("job")
@ADDRESS
@click.option("--follow", is_flag=True, help="Follow the log until the job ends.")
@click.option("--workers", is_flag=True, help="What its workers have printed, each for itself, instead.")
def logs(job: str, address: str, follow: bool, workers: bool) -> None:
    """Show the log of a submitted JOB."""
    from lfombench.cluster import jobs

    if follow and workers:
        raise click.UsageError("--workers shows what there is so far; leave out --follow")
    if workers:
        from lfombench.cluster.output import outputs

        for output in outputs(job, address):
            click.secho(f"-- {output.worker}", bold=True)
            click.echo(output.text, nl=not output.text.endswith("\n"))
    elif follow:
        _follow(job, address)
    else:
        click.echo(jobs.log(job, address), nl=False)


@click.command()
@click.argument("job")
@ADDRESS
def stop(job: str, address: str) -> None:
    """Stop a submitted JOB; what it has committed stays in the store."""
    from lfombench.cluster import jobs

    jobs.stop(job, address)
    click.echo(f"{job}: stopping; submit its sweep again to go on from what is committed")


def _read(sweep: str, code: str | None) -> None:
    """Read a sweep as its job does: while that starts, as what this imports takes seconds as well."""
    from ..spec.loader import load

    if code:
        sys.path.insert(0, code)
    load(sweep)


def _follow(job: str, address: str) -> None:
    from lfombench.cluster import jobs

    for text in jobs.follow(job, address, lambda said: click.echo(said, err=True)):
        click.echo(text, nl=False)


def _words(option: click.Parameter, value: Any) -> list[str]:
    """An option as words of a command."""
    if isinstance(value, tuple):  # of labels, each with its value
        return [word for label in value for word in (option.opts[0], "=".join(label))]
    return [option.opts[0]] if value is True else [option.opts[0], str(value)]
