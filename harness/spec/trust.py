"""What a store or a model names is not imported: whoever wrote it would choose what runs here.

A sweep that the user names himself is another thing: he has its classes, and means them.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from contextvars import ContextVar

from ..errors import UserError

ALLOWED = "LFOMBENCH_ALLOW_CODE"  # a variable that allows it, as for `mlflow models serve`
_by_a_store: ContextVar[bool] = ContextVar("by_a_store", default=False)
_allowed: ContextVar[bool] = ContextVar("allowed", default=False)


@contextlib.contextmanager
def named_by_a_store() -> Iterator[None]:
    """Within it, classes are named by a store: those of lfombench alone, and what is imported already, may be used."""
    token = _by_a_store.set(True)
    try:
        yield
    finally:
        _by_a_store.reset(token)


@contextlib.contextmanager
def allowing_code() -> Iterator[None]:
    """Within it, whatever a store names may be imported."""
    token = _allowed.set(True)
    try:
        yield
    finally:
        _allowed.reset(token)


def check(kind: str, name: str) -> None:
    """UserError where a class must not be imported. name: `module:Class`."""
    module = name.partition(":")[0]
    if _by_a_store.get() and not (_allowed.get() or os.environ.get(ALLOWED)) and module not in sys.modules:
        raise UserError(
            f"the store names a {kind} of other code than lfombench's, {name}, and to import that would run it. If you "
            f"trust both, say --allow-code, or set {ALLOWED}=1"
        )
