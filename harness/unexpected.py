"""Exceptions that nobody expected, in words: whose fault they can be, and what to do."""

from __future__ import annotations

import platform
import sqlite3
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, metadata, version

PACKAGES = ("lfombench", "torch", "ray", "mlflow", "polars", "pyarrow")
UNREADABLE, MEMORY = "a file of the store cannot be read", "this machine is out of memory"
THREADS, BROKEN = "this machine allows no more threads", "a part of the installation is missing or broken"
REFUSED, CLOUD = "this machine refused something", "the bucket of the store did not do what was asked"
KINDS: dict[str, Callable[[BaseException], bool]] = {
    UNREADABLE: lambda error: type(error).__module__.partition(".")[0] in ("pyarrow", "polars"),
    MEMORY: lambda error: isinstance(error, MemoryError) or "out of memory" in str(error).lower(),
    THREADS: lambda error: isinstance(error, RuntimeError) and "can't start new thread" in str(error),
    BROKEN: lambda error: isinstance(error, ImportError),
    CLOUD: lambda error: type(error).__name__ == "CloudError",
    REFUSED: lambda error: isinstance(error, OSError | EOFError | sqlite3.Error),
}
REMEDIES = {
    UNREADABLE: "Delete it and run again; ",
    MEMORY: "Fewer --workers need less; ",
    THREADS: "ulimit -u says how many; ",
    BROKEN: "Install lfombench anew; ",
    CLOUD: "Its name, the credentials, and the endpoint if there is one, are what to look at; ",
    REFUSED: "",
}
LOOK = "lfombench doctor looks at this machine; --debug shows where it happened"


def explained(error: BaseException) -> str:
    """An exception as a message for the user. A fault of lfombench is only what cannot be anything else."""
    said = f"{type(error).__name__}: {error}"
    for kind, holds in KINDS.items():
        if holds(error):
            return f"{kind}: {said}\n{REMEDIES[kind]}{LOOK}"
    ask = f"This looks like a fault of lfombench. Please report it{_where()}, with what --debug shows and"
    return f"{said}\n{ask}\n{versions()}"


def is_ours(error: BaseException) -> bool:
    """Whether it can be nothing but a fault of lfombench."""
    return not any(holds(error) for holds in KINDS.values())


def versions() -> str:
    """What is installed, and on what: for reports of faults."""
    found = [f"Python {platform.python_version()}", f"{platform.system()} {platform.release()} {platform.machine()}"]
    for name in PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"no {name}")
    return ", ".join(found)


def _where() -> str:
    """Where to report faults, as the package itself tells; nothing where it does not."""
    try:
        urls = [one.partition(", ") for one in metadata("lfombench").get_all("Project-URL") or ()]
    except PackageNotFoundError:
        return ""
    return next((f" at {url}" for label, _, url in urls if label.lower() in ("issues", "bug tracker")), "")
