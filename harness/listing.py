"""Tables of tasks, solvers and protocols, for people and scripts."""

from __future__ import annotations

import inspect
import json
import types
from collections.abc import Mapping
from dataclasses import MISSING, asdict, fields
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import click

from .protocol import PROTOCOLS, Protocol

LIMITS = (("ge", ">="), ("gt", ">"), ("le", "<="), ("lt", "<"))


def show(table: Mapping[str, type[Any]], as_json: bool) -> None:
    """Every name with its fields, types and defaults, and what it is."""
    entries = {name: _entry(cls) for name, cls in table.items()}
    if as_json:
        click.echo(json.dumps(entries, indent=1))
        return
    for name, entry in entries.items():
        click.echo(f"{click.style(name, bold=True)}: {entry['about']}")
        for key, field in entry["fields"].items():
            default = "" if field["required"] else f"; default {json.dumps(field['default'])}"
            click.echo(f"    {key}: {field['type']}{default}")
        click.echo("    " + entry["doc"].replace("\n", "\n    ") + "\n")


def show_protocols(as_json: bool) -> None:
    """Every named protocol with the values of its fields."""
    if as_json:
        click.echo(json.dumps({name: asdict(protocol) for name, protocol in PROTOCOLS.items()}, indent=1))
        return
    for name, protocol in PROTOCOLS.items():
        click.echo(click.style(name, bold=True))
        for key, value in asdict(protocol).items():
            if key != "use":
                click.echo(f"    {key}: {json.dumps(value)}")
        click.echo()
    click.echo(inspect.getdoc(Protocol))


def _entry(cls: type[Any]) -> dict[str, Any]:
    module = inspect.getmodule(cls)
    about = (inspect.getdoc(module) or "").split("\n")[0].rstrip(":.")
    hints = get_type_hints(cls, include_extras=True)
    described = {
        f.name: {
            "type": describe(hints[f.name]),
            "required": f.default is MISSING,
            "default": None if f.default is MISSING else f.default,
        }
        for f in fields(cls)
    }
    return {"about": about, "doc": inspect.getdoc(cls) or "", "fields": described}


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
