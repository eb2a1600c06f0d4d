"""Whether there is a store, and of a version that this lfombench reads: what `store.json` says."""

from __future__ import annotations

import json

from ..errors import UserError
from . import schema
from .place import Place

FILE = "store.json"
CONTENT = json.dumps({"schema": schema.VERSION})


def is_store(place: Place, out: str) -> bool:
    """Whether there is a store, which is called `out`; UserError where its version is another one, or unreadable."""
    content = place.read(FILE)
    if content is None:
        return False
    try:
        version = json.loads(content)["schema"]
    except (ValueError, TypeError, KeyError, IndexError):
        version = None
    if type(version) is not int or version < 1:
        raise UserError(f"{out}/{FILE} is damaged: it must read {CONTENT}")
    if version != schema.VERSION:
        age = "a newer" if version > schema.VERSION else "an older"
        raise UserError(
            f"{out} was written by {age} lfombench: its schema is {version}, this one reads {schema.VERSION}"
        )
    return True
