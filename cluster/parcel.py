"""What a job takes along to the cluster: the sweep's file, a folder of code, variables of the environment, and
lfombench itself where the cluster has none.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import shutil
import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from pathspec import GitIgnoreSpec

from lfombench.harness.errors import UserError

IGNORE = (".gitignore", ".rayignore")  # as git and Ray read them
NEVER = (".git/", "__pycache__/", ".venv/", ".mypy_cache/", ".ruff_cache/", ".pytest_cache/")
MOST = 200 << 20  # bytes: the cluster's head keeps them in memory, and every node fetches them
ENVIRONMENT = ".lfombench-environment.json"
ROOMS = ("harness", "tasks", "solvers", "analysis", "cluster")


class Contents(NamedTuple):
    """How much of a folder goes along."""

    files: int
    bytes: int


def pack(
    into: Path, sweep: str, code: str | None, variables: Mapping[str, str], wheel: bool = False
) -> tuple[str, Contents]:
    """Put together what a job takes along. into: an empty folder. wheel: lfombench itself too. The name of the sweep
    there, and what of `code` is there. UserError where it cannot go along.
    """
    found = Contents(0, 0)
    if code:
        files = list(_files(Path(code)))
        found = Contents(len(files), sum(size for _, size in files))
        if found.bytes > MOST:
            by_entry: Counter[str] = Counter()
            for name, size in files:
                by_entry[name.partition("/")[0]] += size
            largest = ", ".join(f"{name} ({size / 1e6:.0f} MB)" for name, size in by_entry.most_common(3))
            raise UserError(
                f"--code {code} is {found.bytes / 1e6:.0f} MB, of {MOST / 1e6:.0f} at most. The largest there: "
                f"{largest}; name in {code}/.rayignore what jobs do not need, and put data where all nodes see it"
            )
        for name, _ in files:
            (into / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(Path(code) / name, into / name)
    if wheel:
        if (into / "lfombench").exists():
            raise UserError(
                f"--code {code} has an lfombench in it, where that of --wheel would be; name it in {code}/.rayignore"
            )
        _unpacked_wheel(into)
    if Path(sweep).is_file():
        sweep = Path(shutil.copy(sweep, into)).name
    kept = into / ENVIRONMENT
    kept.touch(0o600)
    kept.write_text(json.dumps(dict(variables)))
    return sweep, found


def _unpacked_wheel(into: Path) -> None:
    """The lfombench that runs here, as a wheel of it would be unpacked."""
    for room in ("", *ROOMS):  # which an editable installation has in different places
        found = importlib.util.find_spec(f"lfombench.{room}".rstrip("."))
        assert found is not None, room
        for source in found.submodule_search_locations or ():
            shutil.copytree(
                source, into / "lfombench" / room, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True
            )
    here = importlib.metadata.distribution("lfombench")
    about = into / f"lfombench-{here.version}.dist-info"
    about.mkdir()
    for name in ("METADATA", "entry_points.txt"):
        (about / name).write_text(here.read_text(name) or "")


def environment(names: Iterable[str], file: str | None) -> dict[str, str]:
    """Variables for the job: those of these names as they are here, and those of a file. UserError where one is not set
    here, or the file is none.
    """
    from dotenv import dotenv_values

    found: dict[str, str] = {}
    if file:
        if not Path(file).is_file():
            raise UserError(f"--env-file {file}: there is no such file; it has a NAME=VALUE in each line")
        for name, value in dotenv_values(file, interpolate=False).items():
            if not name.isidentifier():
                raise UserError(f"--env-file {file}: {name!r} is no name of a variable; each line is NAME=VALUE")
            found[name] = _here(name, f"--env-file {file}") if value is None else value
    for name in names:
        if not name.isidentifier():
            alone = name.partition("=")[0]
            raise UserError(f"--env {alone}: give the name alone; its value is taken from here, where nobody sees it")
        found[name] = _here(name, f"--env {name}")
    return found


def _here(name: str, source: str) -> str:
    if name not in os.environ:
        raise UserError(f"{source}: {name} is not set here; export it, or give its value in --env-file")
    return os.environ[name]


def _files(
    root: Path, folder: str = "", around: tuple[str, ...] = (), ignored: tuple[_Ignored, ...] = ()
) -> Iterator[tuple[str, int]]:
    """The files below a folder that go along, by their path from the root, with their sizes; where links lead, too.
    around: the real paths of the folders around it. ignored: what their ignore files say.
    """
    here = root / folder
    around = (*around, os.path.realpath(here))
    ignored = (*ignored, *_ignored(here, folder))
    for entry in sorted(os.scandir(here), key=lambda entry: entry.name):
        name = f"{folder}/{entry.name}".lstrip("/")
        path = root / name
        is_folder = entry.is_dir()
        if _is_ignored(name + "/" * is_folder, ignored) or entry.name in IGNORE:
            continue
        if entry.is_symlink() and not path.exists():
            raise _unfit(path, f"is a link to {os.readlink(path)}, which is not there", root)
        if is_folder and os.path.realpath(path) in around:
            raise _unfit(path, "is a link to a folder around it", root)
        if is_folder:
            if not (path / "store.json").is_file():  # a store of results
                yield from _files(root, name, around, ignored)
        elif stat.S_ISREG(path.stat().st_mode):
            if not os.access(path, os.R_OK):
                raise _unfit(path, "cannot be read", root)
            yield name, path.stat().st_size
        else:
            raise _unfit(path, "is neither a file nor a folder", root)


class _Ignored(NamedTuple):
    """What an ignore file says of what is below its folder."""

    folder: str
    patterns: GitIgnoreSpec


def _ignored(here: Path, folder: str) -> Iterator[_Ignored]:
    if not folder:
        yield _Ignored("", GitIgnoreSpec.from_lines(NEVER))
    for name in IGNORE:
        if (here / name).is_file():
            lines = (here / name).read_text(errors="replace").splitlines()
            yield _Ignored(f"{folder}/" if folder else "", GitIgnoreSpec.from_lines(lines))


def _is_ignored(name: str, ignored: tuple[_Ignored, ...]) -> bool:
    """As git has it: the last pattern that matches decides, and that of the innermost folder is last."""
    last = False
    for one in ignored:
        result = one.patterns.check_file(name.removeprefix(one.folder))
        last = last if result.include is None else result.include
    return last


def _unfit(path: Path, why: str, root: Path) -> UserError:
    return UserError(f"--code {root}: {path} {why}; remove it, or name it in {root}/.rayignore")
