"""Options that several commands share."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import click

from ..errors import nearest
from ..scheduler.resources import Resources
from ..spec.trust import allowing_code


class Number(click.FloatRange):
    """A number in a range; neither nan, which no range keeps out, nor infinity."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number; a usage error where it is none."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value!r} must be a finite number.", param, ctx)
        return number


class Label(click.ParamType[Any]):
    """A label of nodes and its value: `zone=a`."""

    name = "label"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        """The label and its value; a usage error where there is no value."""
        name, sign, wanted = str(value).partition("=")
        if not (name and sign and wanted):
            self.fail(f"{value!r} must be a label, =, and its value, such as zone=a.", param, ctx)
        return name, wanted


class Limit(click.ParamType[Any]):
    """A cost and a number that it may be at most: `params=50`."""

    name = "limit"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, float]:
        """The cost and the number; a usage error where it is no cost, or no number."""
        from lfombench.analysis.costs import COSTS

        cost, sign, most = str(value).partition("=")
        if not sign:
            self.fail(f"{value!r} must be a cost, =, and a number, such as params=50.", param, ctx)
        if cost not in COSTS:
            self.fail(f"no cost {cost!r}; {nearest(cost, COSTS)}", param, ctx)
        return cost, Number(min=0).convert(most.replace("_", ""), param, ctx)


OUT = click.option(
    "--out",
    default="out",
    show_default=True,
    metavar="DIR",
    help="The store: a folder, or s3:// gs:// az://BUCKET/PREFIX.",
)
CLUSTER = (  # what part of a cluster a run may use
    click.option("--cpus", type=click.IntRange(min=0), metavar="N", help="Of a cluster, use N cores at most; 0: none."),
    click.option("--gpus", type=click.IntRange(min=0), metavar="N", help="Of a cluster, use N GPUs at most; 0: none."),
    click.option(
        "--gpu-fraction",
        type=Number(0, 1, min_open=True),
        metavar="SHARE",
        help="The share of a GPU that a worker takes. [default: as much as keeps it busy]",
    ),
    click.option(
        "--labels",
        type=Label(),
        multiple=True,
        metavar="NAME=VALUE",
        help="Use only nodes of a cluster with this label; repeatable.",
    ),
    click.option(
        "--priority",
        type=click.IntRange(-1000, 1000),
        default=0,
        show_default=True,
        help="Where several sweeps want a cluster's workers, those of a higher priority come first.",
    ),
)

STALE = click.option(
    "--stale",
    type=click.Choice(["rerun", "keep"]),
    default="rerun",
    show_default=True,
    help="What to do with results whose code has changed since.",
)


def with_options(options: Sequence[Callable[[Any], Any]]) -> Callable[[Any], Any]:
    """Decorates a command with options, in this order."""
    return lambda command: functools.reduce(lambda decorated, option: option(decorated), reversed(options), command)


def resources(options: dict[str, Any]) -> Resources:
    """The part of a cluster that options choose, which are taken out of them. A usage error where there is none."""
    part: dict[str, Any] = {name: options.pop(name) for name in ("cpus", "gpus", "gpu_fraction", "labels")}
    if not options["address"] and any(value not in (None, ()) for value in part.values()):
        raise click.UsageError("--cpus, --gpus, --gpu-fraction and --labels choose a part of a cluster at --address")
    if part["cpus"] == 0 and part["gpus"] == 0:
        raise click.UsageError("--cpus 0 and --gpus 0 leave no worker; leave one of them out, or give more")
    return Resources(**part | {"labels": dict(part["labels"])})


ALLOW_CODE = click.option(
    "--allow-code",
    is_flag=True,
    expose_value=False,
    callback=lambda ctx, param, value: ctx.with_resource(allowing_code()) if value else None,
    help="Import tasks and solvers of your own that the store names: its author chooses what runs.",
)
SWEEP = click.argument("sweep", required=False)
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
ADDRESS = click.option(
    "--address", required=True, metavar="URL", help="The cluster's dashboard, such as http://head:8265."
)
