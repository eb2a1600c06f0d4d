"""Stores that a reader must refuse, and stores that are not finished."""

from __future__ import annotations

import shutil

import pytest

from lfombench.analysis.opened import Results
from lfombench.harness.errors import UserError
from tests.commands import lfombench

COMMANDS = [
    ["board", "small"],
    ["query", "SELECT COUNT(*) FROM results"],
    ["report"],
    ["status"],
    ["compare", "memformer", "conjugate_gradient"],
    ["reproduce", "conjugate_gradient@1"],
]


@pytest.fixture(scope="module")
def copied(finished, tmp_path_factory):
    return shutil.copytree(finished, tmp_path_factory.mktemp("copied") / "out")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"schema": 3}', "was written by a newer lfombench: its schema is 3, this one reads 2"),
        ('{"schema": 1}', "was written by an older lfombench: its schema is 1, this one reads 2"),
        ("garbage", 'is damaged: it must read {"schema": 2}'),
        ("", 'is damaged: it must read {"schema": 2}'),
    ],
    ids=["newer", "older", "garbage", "empty"],
)
def test_every_reader_refuses_a_store_of_another_version(copied, content, said):
    (copied / "store.json").write_text(content)
    for command in COMMANDS:
        done = lfombench(*command, "--out", str(copied))
        assert done.returncode == 1, command
        assert said in done.stderr, command
    with pytest.raises(UserError, match=r"store\.json|schema"):
        Results(str(copied))
