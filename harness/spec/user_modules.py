"""The user's own modules in the current folder: found before installed ones, and in the way of nothing.

A `mine.py` there wins over an installed `mine`, but a `torch.py`, a folder `ray/` or another clone of lfombench never
over what lfombench stands on. So the folder is not put on `sys.path`: a finder of its own looks into it.
"""

from __future__ import annotations

import functools
import os
import re
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import PackageNotFoundError, distribution
from types import ModuleType
from typing import Any

PACKAGE = "lfombench"


class CurrentFolder(MetaPathFinder):
    """Finds top-level modules in the current folder that neither Python nor lfombench needs."""

    def find_spec(self, name: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """The module of this name in the current folder; None where another one must win."""
        if path is not None or name == PACKAGE or name in sys.stdlib_module_names:
            return None
        mine = PathFinder.find_spec(name, [os.getcwd()])
        if mine is None:
            return None
        installed = PathFinder.find_spec(name)
        is_folder = mine.loader is None  # without __init__.py: any folder may be of that name
        if installed and installed.loader and (is_folder or name in needed()):
            return None
        return mine


def look_here() -> None:
    """Let imports find the user's modules in the current folder, from now on."""
    if not any(isinstance(finder, CurrentFolder) for finder in sys.meta_path):
        before = sys.meta_path.index(PathFinder) if PathFinder in sys.meta_path else 0
        sys.meta_path.insert(before, CurrentFolder())


@functools.cache
def needed() -> frozenset[str]:
    """The top-level modules of all distributions that lfombench requires, by whatever way."""
    modules: set[str] = set()
    seen: set[str] = set()
    waiting = [PACKAGE]
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        try:
            found = distribution(name)
        except PackageNotFoundError:  # for another system, or an extra
            continue
        required = [one for one in found.requires or () if "extra ==" not in one]
        waiting += [re.split(r"[\s;<>=!~\[(]", one, maxsplit=1)[0].lower() for one in required]
        modules |= {
            file.parts[0].partition(".")[0] for file in found.files or () if file.suffix in (".py", ".so", ".pyd")
        }
    return frozenset(name for name in modules if name.isidentifier()) - {PACKAGE}
