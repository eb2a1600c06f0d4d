"""Where a store lies: a folder, or a prefix in an object store."""

from __future__ import annotations

from pathlib import Path

from pyarrow import fs


def locate(out: str) -> tuple[fs.FileSystem, str]:
    """The file system of an `--out`, and the path there."""
    if "://" in out:
        files, root = fs.FileSystem.from_uri(out)
        return files, str(root)
    return fs.LocalFileSystem(), str(Path(out).expanduser().absolute())
