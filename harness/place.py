"""Where a store lies: a folder, or a prefix in an object store."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from pyarrow import fs

from .errors import UserError


def locate(out: str) -> tuple[fs.FileSystem, str]:
    """The file system of an `--out`, and the path there."""
    if not out:
        raise UserError("--out is empty; give a folder")
    if "://" in out:
        try:
            files, root = fs.FileSystem.from_uri(out)
        except (ValueError, OSError) as error:
            raise UserError(f"--out {out}: not a place for a store: {error}") from error
        return files, str(root)
    return fs.LocalFileSystem(), str(Path(out).expanduser().absolute())


def within(out: str, name: str) -> str:
    """A file of the store as people write it, without the credentials or options of a URI."""
    if "://" not in out:
        return f"{out.rstrip('/')}/{name}"
    parts = urlsplit(out)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}/{name}"
