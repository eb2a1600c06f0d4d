"""The command that shows what a solver becomes."""

from __future__ import annotations

import click


@click.command(name="compile")
@click.argument("solver")
@click.option("--task", default="linear_regression: {d: 5, n: 20}", show_default=True, help="As in a sweep.")
@click.option("--protocol", default="rigorous", show_default=True, help="A protocol, as in a sweep.")
@click.option("--test", is_flag=True, help="Show the test step. [default: the training step of what is trained]")
@click.option("--form", type=click.Choice(["unrolled", "looped"]), help="Show this form. [default: the cheapest]")
@click.option("--gpu", is_flag=True, help="Show the CUDA kernel; no GPU is needed.")
def compile_solver(solver: str, task: str, protocol: str, test: bool, form: str | None, gpu: bool) -> None:
    """Print the C++ program of a solver's step, or its CUDA kernel, with the model's lines beside it.

    SOLVER is written as in a sweep: a name, or "memformer: {memory: cgd, preconditioner: full, depth: 2}".
    """
    from ..spec.loader import parse
    from ..spec.yaml_source import read_text
    from ..training.listing import listing

    text = f"name: compile\nseeds: 1\ntasks: [{{{task}}}]\nsolvers: [{{{solver}}}]\nprotocol: {{use: {protocol}}}\n"
    job = next(iter(parse(read_text(text, "compile")).jobs()))
    shown = test or not job.solver.trains
    found = listing(job, test=shown, form=form, on_gpu=gpu)  # type: ignore[arg-type]  # one of Form, by its option
    click.echo(found.source)
    for line in found.why.splitlines():
        click.echo(f"// {line}")
