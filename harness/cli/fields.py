"""Print tasks, solvers and protocols with their fields, types and defaults, as text or JSON."""

from __future__ import annotations

import inspect
import json
import types
from collections import Counter
from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import click

from lfombench.solvers import Solver
from lfombench.tasks import Task

from ..spec.labels import label, plain
from ..spec.protocol import PROTOCOLS, Protocol

PARTS = {
    "task": "list of tasks, each {name: {field: value}}",
    "solver": "{name: {field: value}}",
    "expert": "list of experts, each {solver: ..., task: ..., protocol: ...} or a name under the sweep's `experts`",
}
LIMITS = (("ge", ">="), ("gt", ">"), ("le", "<="), ("lt", "<"))


def show(table: Mapping[str, type[Any]], as_json: bool, named: Mapping[str, Any] | None = None) -> None:
    """Print every class of a table: its docstring, its fields with types and defaults, and its named instances."""
    modules = Counter(cls.__module__ for cls in table.values())
    entries = {name: _entry(cls, alone=modules[cls.__module__] == 1) for name, cls in table.items()}
    for name, cls in table.items():
        instances = {key: label(part) for key, part in (named or {}).items() if type(part) is cls}
        entries[name] |= {"named": instances} if named else {}
    if as_json:
        click.echo(json.dumps(entries, indent=1))
        return
    for name, entry in entries.items():
        click.echo(f"{click.style(name, bold=True)}: {entry['about']}")
        for key, field in entry["fields"].items():
            default = "" if field["required"] else f"; default {json.dumps(field['default'])}"
            click.echo(f"    {key}: {field['type']}{default}")
        click.echo("    " + entry["doc"].replace("\n", "\n    "))
        for key, instance in entry.get("named", {}).items():
            click.echo(f"    {click.style(key, bold=True)} = {instance}")
        click.echo()


def show_protocols(as_json: bool) -> None:
    """Print every named protocol with the values of its fields, then what the fields mean."""
    if as_json:
        click.echo(json.dumps({name: plain(protocol) for name, protocol in PROTOCOLS.items()}, indent=1))
        return
    for name, protocol in PROTOCOLS.items():
        click.echo(click.style(name, bold=True))
        for key, value in plain(protocol).items():
            if key != "use":
                click.echo(f"    {key}: {json.dumps(value)}")
        click.echo()
    click.echo(inspect.getdoc(Protocol))


def _entry(cls: type[Any], *, alone: bool) -> dict[str, Any]:
    """A class as JSON: a line about it, its docstring, its fields. alone: whether it is the only one of its module,
    whose docstring then gives the line.
    """
    about = (inspect.getdoc(inspect.getmodule(cls) if alone else cls) or "").split("\n")[0].rstrip(":.")
    own = [c for c in cls.__mro__ if "__dataclass_params__" in vars(c) and vars(c).get("__annotations__")]
    described_by = dict.fromkeys([cls, *(c for c in own if c not in (Task, Solver))])
    doc = "\n\n".join(inspect.cleandoc(c.__doc__ or "") for c in described_by)
    hints = get_type_hints(cls, include_extras=True)
    described = {
        f.name: {
            "type": PARTS[f.metadata["part"]] if "part" in f.metadata else describe(hints[f.name]),
            "required": f.default is MISSING,
            "default": None if f.default is MISSING else f.default,
        }
        for f in fields(cls)
    }
    return {"about": about, "doc": doc, "fields": described}


def describe(hint: Any) -> str:
    """A type in words: `whole number >= 1`, `scalar | diagonal | full`, `list of numbers > 0 (or null)`."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hasattr(hint, "__metadata__"):
        limits = [f" {sign} {getattr(m, key)}" for m in hint.__metadata__ for key, sign in LIMITS if hasattr(m, key)]
        return describe(arguments[0]) + "".join(limits)
    if origin is Literal:
        return " | ".join(map(str, arguments))
    if origin in (Union, types.UnionType):
        null = " (or null)" if type(None) in arguments else ""
        return " or ".join(describe(a) for a in arguments if a is not type(None)) + null
    if origin is tuple:
        return "list of " + describe(arguments[0]).replace("number", "numbers", 1)
    return {int: "whole number", float: "number", str: "text", bool: "true | false"}.get(hint, str(hint))
