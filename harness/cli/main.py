"""The command line: its commands and its exit codes. Commands import heavy modules only when they run."""

from __future__ import annotations

import io
import os
import sys
import traceback

import click

from ..errors import UserError, nearest
from ..signals import ignore_signals
from ..spec.user_modules import look_here
from ..unexpected import explained, is_ours
from .catalog import protocols, solvers, sweeps, tasks
from .cluster import list_jobs, logs, stop, submit
from .compare import compare
from .compile import compile_solver
from .doctor import doctor
from .extend import extend
from .maintain import merge, prune, why
from .plain import make_plain
from .plan import plan
from .read import board, query, report
from .reproduce import reproduce
from .run import run
from .status import status
from .view import group as mlflow
from .view import ui

# Threads of NumPy's and SciPy's BLAS sleep while there is no work: they took a quarter of a second of each command.
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")


class Commands(click.Group):
    """A group of commands that suggests the nearest one for an unknown name."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command by its name; an unknown name is a usage error that suggests the nearest one."""
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            ctx.fail(f"no command {args[0]!r}; {nearest(args[0], self.commands)}")
        return super().resolve_command(ctx, args)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="lfombench")
@click.option("--debug", is_flag=True, help="Show tracebacks. It may stand anywhere on the line.")
def cli(debug: bool) -> None:
    """Benchmark learned linear first-order methods: thousands of training jobs from one file.

    SWEEP is a YAML or Python file, or the name of a shipped sweep.

    Exit codes: 0 all jobs done, 1 error, 2 usage, 3 finished but jobs failed, diverged or are missing, a row is better
    than its bound allows, an audit found numbers changed, or MLflow differs from the store.
    """


ALL = (
    *(run, extend, plan, status, board, compare, query, report, ui, mlflow, why, reproduce, merge, prune),
    *(submit, list_jobs, logs, stop, sweeps, tasks, solvers, protocols, compile_solver, doctor),
)
for command in ALL:
    cli.add_command(command)


def main() -> None:
    """Run the command line and exit with its code: the console script."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # nothing that is printed may end a run
    make_plain()
    code = invoke(sys.argv[1:])
    ignore_signals()
    sys.exit(code)


def invoke(words: list[str]) -> int | str | None:
    """Run a command given as words, print its errors for the user, and return its exit code."""
    debug = "--debug" in words
    arguments = [word for word in words if word != "--debug"]
    look_here()  # tasks and solvers named package.module:Class may be in the current folder
    try:
        return cli.main(arguments, prog_name="lfombench", standalone_mode=False) or 0
    except SystemExit as end:
        return end.code
    except click.ClickException as error:
        error.show()
        return 2
    except (click.Abort, KeyboardInterrupt):
        ignore_signals()
        click.echo("stopped; what was committed is safe, and the same command goes on from there", err=True)
        exec("")  # else an interrupt that passed through an exec, as in torch's tracing, crashes CPython at exit
        return 3
    except UserError as error:
        if debug:
            traceback.print_exc()
        click.echo(f"Error: {error}", err=True)
        return error.exit_code
    except Exception as error:
        if debug:
            raise
        click.echo(f"Error: {explained(error)}", err=True)
        if not is_ours(error):
            from ..driver.doctor import troubles

            for finding in troubles():
                click.echo(f"lfombench doctor: {finding}", err=True)
        return 1


if __name__ == "__main__":
    main()
