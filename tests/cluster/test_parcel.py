"""What goes along to a cluster, and what is refused, before anything is sent."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from lfombench.cluster import parcel
from lfombench.cluster.jobs import submit
from lfombench.harness.errors import UserError
from lfombench.harness.redact import has_secret, redacted
from tests.commands import lfombench

NOWHERE = "http://127.0.0.1:1"


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """A folder of code with what git and Ray ignore, folders that never go along, and a store of results."""
    root = tmp_path / "code"
    for name, text in {
        "mine.py": "1",
        "inner/other.py": "22",
        "inner/kept.log": "k",
        "inner/.gitignore": "!kept.log\nsecret.txt\n",
        "inner/secret.txt": "no",
        "some.log": "no",
        ".gitignore": "*.log\n/data/\n",
        ".rayignore": "notes.md\n",
        "notes.md": "no",
        "data/big.bin": "no",
        ".git/config": "no",
        "__pycache__/mine.pyc": "no",
        "inner/__pycache__/x.pyc": "no",
        ".venv/bin/python": "no",
        "out/store.json": "{}",
        "out/results/a.parquet": "no",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def packed(tmp_path: Path, code: Path, **variables: str) -> tuple[list[str], parcel.Contents]:
    into = tmp_path / "into"
    into.mkdir()
    _, contents = parcel.pack(into, "fig1", str(code), variables)
    names = sorted(str(path.relative_to(into)) for path in into.rglob("*") if path.is_file())
    return [name for name in names if name != parcel.ENVIRONMENT], contents


def test_code_goes_along_without_what_git_and_ray_ignore(code, tmp_path):
    names, contents = packed(tmp_path, code)
    assert names == ["inner/kept.log", "inner/other.py", "mine.py"]
    assert contents == parcel.Contents(3, 4)


def test_what_links_lead_to_goes_along(code, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "theirs.py").write_text("333")
    (code / "linked").symlink_to(tmp_path / "elsewhere")
    assert "linked/theirs.py" in packed(tmp_path, code)[0]


def dangling(code: Path) -> None:
    (code / "gone.py").symlink_to("/nowhere/gone.py")


def circle(code: Path) -> None:
    (code / "inner" / "around").symlink_to(code)


def pipe(code: Path) -> None:
    os.mkfifo(code / "inner" / "pipe")


def huge(code: Path) -> None:
    (code / "weights").mkdir()
    with (code / "weights" / "all.bin").open("wb") as file:
        file.truncate(600 << 20)  # without blocks on the disk


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (
            dangling,
            r"gone.py is a link to /nowhere/gone.py, which is not there; remove it, or name it in .*\.rayignore",
        ),
        (circle, r"inner/around is a link to a folder around it"),
        (pipe, r"inner/pipe is neither a file nor a folder"),
        (huge, r"is 629 MB, of 210 at most. The largest there: weights \(629 MB\)"),
    ],
)
def test_what_cannot_go_along_is_named(code, tmp_path, fault, said):
    """Each was called a fault of lfombench."""
    fault(code)
    with pytest.raises(UserError, match=said):
        packed(tmp_path, code)
    (code / ".rayignore").write_text("gone.py\naround\npipe\nweights/\nnotes.md\n")
    (tmp_path / "into").rmdir()
    assert packed(tmp_path, code)[0] == ["inner/kept.log", "inner/other.py", "mine.py"]


def test_variables_go_along_in_a_file_that_others_cannot_read(code, tmp_path, monkeypatch):
    monkeypatch.setenv("KEY", "key's value")
    file = tmp_path / "some.env"
    file.write_text("# credentials\nexport ID='an id'\nURL=http://h/?a=b#c\nKEY\nEMPTY=\n")
    found = parcel.environment(["KEY"], str(file))
    assert found == {"ID": "an id", "URL": "http://h/?a=b#c", "KEY": "key's value", "EMPTY": ""}
    packed(tmp_path, code, **found)
    kept = tmp_path / "into" / parcel.ENVIRONMENT
    assert json.loads(kept.read_text()) == found
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("names", "text", "said"),
    [
        (["NOT_SET_HERE"], None, "--env NOT_SET_HERE: NOT_SET_HERE is not set here"),
        (["KEY=value"], None, "--env KEY: give the name alone"),
        ([], "NOT_SET_HERE\n", "NOT_SET_HERE is not set here"),
        ([], "a-b=c\n", "'a-b' is no name of a variable"),
    ],
)
def test_variables_that_are_none(tmp_path, names, text, said):
    file = tmp_path / "some.env"
    file.write_text(text or "")
    with pytest.raises(UserError, match=said) as error:
        parcel.environment(names, str(file) if text else None)
    assert "value" not in str(error.value).replace("its value", "")
    with pytest.raises(UserError, match="there is no such file"):
        parcel.environment([], str(tmp_path / "none.env"))


SECRETS = [
    "s3://ID:very%2Fhidden@bucket/prefix",
    "s3://bucket/prefix?access_key=ID&secret_key=very-hidden",
    "s3://bucket/prefix?region=x&session_token=very-hidden",
    "az://container/prefix?sig=very-hidden",
]


@pytest.mark.parametrize("uri", SECRETS)
def test_a_secret_in_the_store_s_uri_is_refused_and_shown_to_nobody(uri):
    """It was in the list of processes, in the job's description and in its log."""
    assert has_secret(uri)
    done = lfombench("submit", "fig1", "--address", NOWHERE, "--out", uri)
    assert done.returncode == 1
    assert "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY by --env NAME or --env-file FILE" in done.stderr
    assert "hidden" not in done.stderr + done.stdout
    assert "hidden" not in redacted(f"Error: {uri}: denied", uri)


def test_so_it_is_in_that_of_mlflow():
    with pytest.raises(UserError, match="MLFLOW_TRACKING_URI by --env NAME") as error:
        submit("fig1", address=NOWHERE, out="s3://b/p", options=["--mlflow", "postgresql://me:hidden@db/mlflow"])
    assert "hidden" not in str(error.value)


@pytest.mark.parametrize("uri", ["s3://bucket/prefix", "s3://bucket/token=s", "/shared/me@lab:x", "https://user@host"])
def test_what_has_none_is_not_refused(uri):
    assert not has_secret(uri)


@pytest.mark.parametrize("out", ["out", "./out", "../out", "results/fig1"])
def test_a_store_in_the_job_s_own_folder_is_refused(out):
    """It was written to a folder that Ray deletes, and lost."""
    done = lfombench("submit", "fig1", "--address", NOWHERE, "--out", out)
    assert done.returncode == 1
    assert f"--out {out}: on a cluster a store is in a folder that all nodes share" in done.stderr
