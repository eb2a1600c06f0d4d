"""Where compiled programs are kept: on file systems that let no code run or are full, of others, or nowhere."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from lfombench.harness.compiler import cache
from tests.machine import NOBODY, mounts_needed, python, users_needed

# Compiles a program twice, runs it, and says where it is.
CODE = """
import ctypes, logging
logging.basicConfig(format="%(message)s")
from lfombench.harness.compiler import cache, cpp
number = (ctypes.c_int64 * 1)()
for word in ("7", "8"):
    try:
        cpp.ready('extern "C" void run(void**, const long* n) { *(long*)n = ' + word + '; }')[1](None, number)
        print(number[0], cache.folder())
    except cpp.NoCompiler as error:
        print("eager:", error)
"""
TEMPORARY = "for this run alone"


def numbers(done):
    """What the programs returned, and the folders they were kept in."""
    assert done.returncode == 0, done.stderr
    lines = [line.split(" ", 1) for line in done.stdout.splitlines()]
    return [word for word, _ in lines], {where for _, where in lines}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder for the cache."""
    path = tmp_path / "cache"
    path.mkdir()
    monkeypatch.setenv("LFOMBENCH_CACHE", str(path))
    return path


@mounts_needed()
@pytest.mark.parametrize(
    ("how", "said"), [("noexec", "lets no code run"), ("size=8k", "No space left"), ("ro", "Read-only file system")]
)
def test_a_folder_that_cannot_be_used_has_another_one_in_its_place(folder, how, said):
    done = python(CODE, mounts=[f"mount -t tmpfs -o {how} tmpfs {folder}"])
    found, where = numbers(done)
    assert found == ["7", "8"]
    assert str(folder) not in where
    assert (done.stderr.count(TEMPORARY), done.stderr.count(said)) == (1, 1), done.stderr
    assert not any(os.path.exists(path) for path in where)  # it ended with the process


@mounts_needed()
def test_a_folder_from_which_nothing_can_be_loaded_is_noticed_when_it_is_tried(folder):
    """As under rules of the system that no flag tells."""
    blind = "from lfombench.harness.compiler import cache; cache.NO_CODE = 0\n"
    done = python(blind + CODE, mounts=[f"mount -t tmpfs -o noexec tmpfs {folder}"])
    found, where = numbers(done)
    assert found == ["7", "8"]
    assert str(folder) not in where
    assert done.stderr.count(TEMPORARY) == 1


@mounts_needed()
def test_where_nothing_that_can_be_written_may_run_programs_are_not_compiled(folder, tmp_path):
    (tmp_path / "tmp").mkdir()
    places = [str(folder), str(tmp_path / "tmp"), *cache.ELSEWHERE]
    done = python(
        CODE,
        mounts=[f"mount -t tmpfs -o noexec tmpfs {place}" for place in places],
        environment=os.environ | {"TMPDIR": str(tmp_path / "tmp")},
    )
    found, _ = numbers(done)
    assert found == ["eager:", "eager:"]
    assert done.stdout.count("lets no code run") == 2
    assert done.stderr == ""


@users_needed()
@pytest.mark.parametrize("mode", [0o777, 0o700])
def test_a_folder_of_another_user_is_left_alone(mode):
    """Whether it can be written to or not: what is in it, others could have made."""
    with tempfile.TemporaryDirectory() as parent:
        os.chmod(parent, 0o755)
        folder = Path(parent) / "cache"
        folder.mkdir()
        folder.chmod(mode)
        done = python(CODE, user=NOBODY, environment=os.environ | {"LFOMBENCH_CACHE": str(folder)})
        assert numbers(done)[0] == ["7", "8"]
        assert done.stderr.count(TEMPORARY) == done.stderr.count("belongs to another user") == 1
        assert not list(folder.iterdir())


ARM = """\
processor\t: {core}
BogoMIPS\t: 243.75
Features\t: fp asimd {features}
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x1
CPU part\t: {part}
CPU revision\t: 1
"""


@mounts_needed()
def test_nodes_of_two_kinds_share_a_home_and_run_no_program_of_each_other(folder, tmp_path):
    """Of ARM, whose processors have neither a model's name nor flags, all were taken for one."""
    for name, part, features in (("older", "0xd0c", "lrcpc"), ("newer", "0xd40", "lrcpc sve")):
        info = "\n".join(ARM.format(core=core, part=part, features=features) for core in range(2))
        (tmp_path / name).write_text(info)
    for node, programs in (("older", 2), ("newer", 4), ("older", 4), ("newer", 4)):
        found, where = numbers(python(CODE, mounts=[f"mount --bind {tmp_path / node} /proc/cpuinfo"]))
        assert (found, where) == (["7", "8"], {str(folder)})
        assert len(list(folder.glob("*.so"))) == programs


@users_needed()
def test_nobody_without_a_home_in_an_empty_environment(tmp_path):
    """With a temporary home, whose cache is as good as any."""
    done = python(CODE, user=NOBODY, environment={"PATH": os.environ["PATH"]}, cwd="/")
    assert numbers(done)[0] == ["7", "8"]
    assert done.stderr == f"no home folder is set for user {NOBODY}: a temporary one takes its place\n"


def test_a_folder_that_goes_while_it_is_used_is_given_up(folder, caplog):
    cache.write("one", b"1")
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    try:
        assert cache.write("two", b"2").parent == cache.folder() != folder
        assert cache.read("two") == b"2"
        assert caplog.text.count(TEMPORARY) == 1
    finally:
        cache._folder.cache_clear()
