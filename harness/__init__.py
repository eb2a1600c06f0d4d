"""Sweeps, and the machinery that runs them, in eight rooms: see `docs/architecture.md`.

Names load on first use, so that `lfombench --help` stays quick.
"""

from importlib import import_module
from typing import Any

_HOMES = {
    "Job": "spec.job",
    "Protocol": "spec.protocol",
    "PROTOCOLS": "spec.protocol",
    "Sweep": "spec.sweep",
    "load": "spec.loader",
    "run": "driver.run",
}
__all__ = ["PROTOCOLS", "Job", "Protocol", "Sweep", "load", "run"]  # see __getattr__


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
