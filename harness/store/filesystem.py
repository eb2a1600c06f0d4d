"""Where a store's files are, from what the user says: in a folder, or under a prefix in a bucket of a cloud."""

from __future__ import annotations

from pathlib import Path

from ..errors import UserError, nearest
from .bucket import Bucket
from .clouds import OPTIONS, checked
from .folder import Folder
from .place import Place
from .uri import URI


def local(out: str) -> Path | None:
    """The folder that a value of `--out` names; None where it is no path."""
    return None if "://" in out else Path(out).expanduser().absolute()


def place(out: str) -> Place:
    """The place that a value of `--out` names; UserError where it cannot be one."""
    if not out:
        raise UserError("--out is empty; give a folder")
    try:
        out.encode()
        folder = local(out)
    except UnicodeEncodeError:
        raise UserError(f"--out {out!r} is no text in UTF-8; give another folder") from None
    except RuntimeError as error:  # ~NAME of nobody
        raise UserError(f"--out {out}: {error}") from None
    if folder is not None:
        return Folder(str(folder))
    scheme = URI.of(out).scheme
    if scheme in OPTIONS:
        return Bucket(checked(out))
    if scheme == "file":
        raise UserError(f"--out {out}: give the folder itself, without file://")
    hint = nearest(scheme, OPTIONS)
    raise UserError(f"--out {URI.of(out).shown}: a store is a folder, or a bucket of one of these kinds; {hint}")


def join(out: str, name: str) -> str:
    """The path of a file in a store as it is shown to people: without the credentials and options of a URI."""
    return f"{out.rstrip('/') if local(out) else URI.of(out).shown}/{name}"
