"""Tables of tasks and solvers, for people and scripts."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

import click


def show(table: Mapping[str, type[Any]], as_json: bool) -> None:
    """Every name with its fields, types and defaults, and what it is."""
    entries = {name: _entry(cls) for name, cls in table.items()}
    if as_json:
        click.echo(json.dumps(entries, indent=1))
        return
    for name, entry in entries.items():
        click.echo(f"{click.style(name, bold=True)}: {entry['about']}")
        for key, field in entry["fields"].items():
            default = "" if field["required"] else f" = {field['default']}"
            click.echo(f"    {key}: {field['type']}{default}")
        click.echo("    " + entry["doc"].replace("\n", "\n    ") + "\n")


def _entry(cls: type[Any]) -> dict[str, Any]:
    module = inspect.getmodule(cls)
    about = (inspect.getdoc(module) or "").split("\n")[0].rstrip(":.")
    described = {
        f.name: {
            "type": str(f.type),
            "required": f.default is MISSING,
            "default": None if f.default is MISSING else f.default,
        }
        for f in fields(cls)
    }
    return {"about": about, "doc": inspect.getdoc(cls) or "", "fields": described}
