"""What a finished pack leaves for the store, and what the store has of a job."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from ..spans import Span

Record = frozenset[tuple[str, str]]  # of a job: each test with results, and the fingerprint of the code behind them
Done = Mapping[str, Record]  # by job id


@dataclass(frozen=True)
class Outcome:
    """The rows of a pack by table, and the parts behind each code fingerprint in them."""

    pack: str
    tables: dict[str, pa.Table]
    jobs: int  # that ran to an end
    failed: tuple[tuple[str, str], ...] = ()  # each job that failed, in words, and its traceback
    code: dict[str, dict[str, str]] = field(default_factory=dict)  # by fingerprint: a digest for each part of the code
    spans: list[Span] = field(default_factory=list)

    def __getstate__(self) -> dict[str, Any]:
        """Each table as one Arrow stream: ten times faster to send than its columns one by one."""
        return vars(self) | {"tables": {name: _stream(table) for name, table in self.tables.items()}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        tables = {name: pa.ipc.open_stream(stream).read_all() for name, stream in state["tables"].items()}
        vars(self).update(state | {"tables": tables})

    @property
    def rows(self) -> int:
        """Number of rows of the results table."""
        return int(self.tables["results"].num_rows)


def _stream(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    content: bytes = sink.getvalue().to_pybytes()
    return content
