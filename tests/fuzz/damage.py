"""What may happen to the files of a store."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from hypothesis import strategies as st

TABLES = ("results", "jobs", "curves", "weights")
FOLDERS = ("log", *TABLES, "sweeps", "code", "drivers", "checkpoints", "stale", "report", ".")
FOREIGN = (
    "notes.txt", ".DS_Store", ".hidden.json", "notes.json", "Thumbs.db", "00000099.json.bak", "copy of 00000001.json",
    "00000001 (1).json", "00000099.json", "99999999999999999999.json", "-1.json", "٣.json", "1_0.json", " 7.json",
    "00000099-abc0.parquet", "x.parquet", "é 'quoted' \"name\".json", "[*?].json", "%2e.json", "a\nb.json", ".json",
    "fig1.json", "x" * 200 + ".json", "widths.json", ".writing-abc-00000001.json", "index.html", "second.json",
)  # fmt: skip
CONTENTS = (
    b"", b"{}", b"[]", b"null", b"3", b'"text"', b"\xff\xfe\x00", b"{", b'{"files": {}}', b'{"files": []}',
    b'{"files": null}', b'{"files": {"results": [["gone.parquet", 1, 10]]}}',
    b'{"files": {"results": [["../store.json", 1, 12]]}}', b'{"files": {"results": [[1, 2, 3]]}}',
    b'{"files": {"results": [[null, null, null]]}}', b'{"files": {"foreign": []}}', b'{"files": {"results": "text"}}',
    b'{"schema": 0}', b'{"schema": 99}', b'{"schema": true}', b'{"schema": "1"}',
    b'{"host": 1, "machine": 2, "pid": "x", "started": [], "sweep": {}, "since": 0, "beat": "b", "progress": []}',
    b'{"host": "elsewhere", "machine": "", "pid": -1, "started": "", "sweep": "", "since": "",'
    b' "beat": 0, "progress": null}',
    b'{"name": "x", "about": null, "jobs": 3, "protocols": {}, "tests": "t", "skipped": 1, "axis": 5, "split": "s",'
    b' "named": [], "crossover": {}, "parts": ["x"]}',
    b'{"name": "fig1", "about": "", "jobs": ["a"], "protocols": ["p"], "tests": [], "skipped": [], "axis": "task.n",'
    b' "split": [],'
    b' "named": {}, "crossover": [], "parts": ["fig1", "small", "gone"]}',
    b"PAR1", b"PAR1\x00\x00\x00\x00PAR1", b"[" * 100_000, b"9" * 5000, b'{"a": NaN}', b'{"cpu": {"x": "y"}}',
    b'{"cpu": 3}',
)  # fmt: skip


@dataclass(frozen=True)
class Damage:
    """One thing that happens to a store. `where` and `other` choose among its files, `amount` among a file's bytes."""

    how: str
    where: int
    other: int = 0
    amount: float = 0.0
    folder: str = "."
    name: str = "notes.txt"
    content: bytes = b""

    def do(self, out: Path, second: Path) -> list[str]:
        """Do it to the store; second: another store. The names of what was damaged."""
        files = sorted(path for path in out.rglob("*") if path.is_file() and "report" not in path.parts)
        if self.how in ("add", "folder"):
            return self.add(out)
        if not files:
            return []
        groups = sorted({path.parent for path in files})  # a folder first: data files are many, store.json is one
        here = [path for path in files if path.parent == groups[self.where % len(groups)]]
        path = here[self.where // len(groups) % len(here)]
        name, content = str(path.relative_to(out)), path.read_bytes()
        at = int(self.amount * max(len(content) - 1, 0))
        if self.how == "flip" and content:
            path.write_bytes(content[:at] + bytes([content[at] ^ (1 << self.other % 8)]) + content[at + 1 :])
        elif self.how == "zeros" and content:
            path.write_bytes(
                (content[:at] + bytes(1 + self.other % 64) + content[at + 1 + self.other % 64 :])[: len(content)]
            )
        elif self.how == "cut":
            path.write_bytes(content[:at])
        elif self.how == "longer":
            path.write_bytes(content + self.content)
        elif self.how == "write":
            path.write_bytes(self.content)
        elif self.how == "delete":
            path.unlink()
        elif self.how == "delete folder":
            if path.parent != out:
                shutil.rmtree(path.parent)
                return [str(path.parent.relative_to(out))]
        elif self.how == "make folder":
            path.unlink()
            path.mkdir()
        elif self.how in ("replace", "swap"):
            third = files[self.other % len(files)]
            path.write_bytes(third.read_bytes())
            if self.how == "swap":
                third.write_bytes(content)
                return [name, str(third.relative_to(out))]
        elif self.how == "file for folder":
            if path.parent != out:
                shutil.rmtree(path.parent)
                path.parent.write_bytes(self.content)
                return [str(path.parent.relative_to(out))]
        elif self.how in ("of second", "beside"):
            foreign = sorted(p for p in second.rglob("*") if p.is_file() and p.parent.name == path.parent.name) or files
            source = foreign[self.other % len(foreign)]
            target = path if self.how == "of second" else path.parent / source.name
            target.write_bytes(source.read_bytes())
            return [str(target.relative_to(out))]
        return [name]

    def add(self, out: Path) -> list[str]:
        """Add a foreign file or folder."""
        folder = out / self.folder
        if folder.exists() and not folder.is_dir():
            return []
        folder.mkdir(exist_ok=True)
        path = folder / self.name
        if path.is_dir():
            return []
        if self.how == "folder":
            if not path.exists():
                path.mkdir()
                (path / "inside.json").write_bytes(self.content)
        else:
            path.write_bytes(self.content)
        return [str(path.relative_to(out))]


HOW = (
    "flip", "flip", "zeros", "cut", "longer", "write", "write", "delete", "delete folder", "make folder", "replace",
    "swap", "file for folder", "of second", "beside", "add", "add", "add", "folder",
)  # fmt: skip
damages = st.builds(
    Damage,
    how=st.sampled_from(HOW),
    where=st.integers(0, 199),
    other=st.integers(0, 199),
    amount=st.floats(0, 1),
    folder=st.sampled_from(FOLDERS),
    name=st.sampled_from(FOREIGN),
    content=st.sampled_from(CONTENTS) | st.binary(max_size=20),
)
