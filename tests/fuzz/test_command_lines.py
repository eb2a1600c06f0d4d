"""Whatever stands on the command line: the command ends with one of its exit codes, and leaves nothing lying about."""

from __future__ import annotations

import contextlib
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import example, given

from tests.builders import SMALL
from tests.commands import lfombench
from tests.fuzz.budget import examples, seconds
from tests.fuzz.command_words import lines

LIMIT = 60.0  # seconds of computing, for a command
WRITING = ("run", "merge", "report", "prune", "sync", "rebuild", "register")  # they may write into the store at --out


@dataclass(frozen=True)
class World:
    """Where commands run: an empty folder; beside it what the words STORE, SWEEP, ... on a line stand for."""

    here: Path
    beside: Path
    whole: Path

    def word(self, word: str) -> str:
        return re.sub(r"\b[A-Z]{4,}\b", lambda found: str(self.named().get(found[0], found[0])), word)

    def named(self) -> dict[str, Path]:
        names = (
            "STORE",
            "SWEEP",
            "BROKEN",
            "TEXTFILE",
            "EMPTYFOLDER",
            "LOCKED",
            "NEWSTORE",
            "MISSING",
            "PYTHONFILE",
            "BINARY",
        )
        return {name: self.beside / name.lower() for name in names} | {"SWEEP": self.beside / "sweep.yaml"}

    def again(self) -> None:
        """Everything as it was in the beginning."""
        for folder in (self.here, self.beside):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        named = self.named()
        shutil.copytree(self.whole, named["STORE"], ignore=shutil.ignore_patterns("mlflow.db", "report"))
        named["SWEEP"].write_text(SMALL)
        named["BROKEN"].write_text("name: [\n")
        named["TEXTFILE"].write_text("some words\n")
        named["PYTHONFILE"].write_text("sweep = 3\n")
        named["BINARY"].write_bytes(bytes(range(256)))
        named["EMPTYFOLDER"].mkdir()
        named["LOCKED"].mkdir(mode=0)


@pytest.fixture(scope="module")
def world(finished: str, tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("lines")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_ACCESS_KEY_ID": "nobody",
            "AWS_SECRET_ACCESS_KEY": "nothing",
        }.items():
            patch.setenv(name, value)
        yield World(folder / "here", folder / "beside", Path(finished))


def found(folder: Path) -> dict[str, tuple[int, int]]:
    """All files and folders below a folder, with sizes and times; of folders that change with what is in them, none."""
    with contextlib.suppress(OSError):
        (folder / "locked").chmod(0o700)
    states = {str(path.relative_to(folder)): path.lstat() for path in sorted(folder.rglob("*"))}
    return {
        name: (state.st_size, state.st_mtime_ns) if (folder / name).is_file() else (0, 0)
        for name, state in states.items()
    }


def outs(world: World, words: list[str]) -> set[Path]:
    """The folders that a line names as its store: all words that may be a value of --out."""
    names = ["out", *(word.partition("=")[2] if word.startswith("--out=") else word for word in words)]
    return {world.here / name.removeprefix("file://") for name in map(world.word, names) if 0 < len(name) < 250}


@examples(25)
@given(words=lines())
@example(words=["mlflow", "rebuild", "--out", "STORE", "--json"])
def test_a_command_line_ends_with_an_exit_code_and_leaves_nothing_behind(world, words):
    world.again()
    line, before = [world.word(word) for word in words], found(world.beside)
    with contextlib.chdir(world.here), seconds(LIMIT):
        done = lfombench(*line)
    said = f"{line}\nexit code {done.returncode}\n{done.stderr}"
    assert done.returncode in (0, 1, 2, 3), said
    assert "Traceback" not in done.stderr, said
    assert "fault of lfombench" not in done.stderr, said
    if done.returncode == 2:
        assert re.search(r"Usage: |Error: ", done.stderr), said
    elif done.returncode == 1:
        assert "Error: " in done.stderr or "doctor" in line, said
    after = {world.beside / name: state for name, state in found(world.beside).items()}
    after |= {world.here / name: state for name, state in found(world.here).items()}
    changed = [
        path
        for path, state in after.items()
        if before.get(str(path.relative_to(world.beside)) if path.is_relative_to(world.beside) else "") != state
    ]
    missing = [world.beside / name for name in before if world.beside / name not in after]
    may = outs(world, words) if set(words) & set(WRITING) else set()
    for path in changed + missing:
        assert any(path == out or out in path.parents or path in out.parents for out in may), (
            f"{path} was changed by {said}"
        )
