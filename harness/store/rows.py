"""The rows of a table's files, read a row group at a time: only the columns asked for, and none where no row is wanted.

What is read is what was written: the snapshot has the checksums of footers and columns. No bit of a file can flip and
give another number: a test flips them.

A column that has one value, by the footer, is not read.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from . import schema
from .constant import CODED, constant
from .excerpt import Chunk, Part, excerpt
from .footer import footer_of
from .place import Parts, Place
from .snapshots import File

S = TypeVar("S")
T = TypeVar("T")


@dataclass(frozen=True)
class Rows:
    """The rows of some files of a table, in their order. Reading raises OSError or an error of pyarrow's where a file
    cannot be read, or is not what was written.
    """

    place: Place
    table: str
    files: Sequence[File]

    def batches(
        self,
        columns: Sequence[str] | None = None,
        where: pl.Expr | None = None,
        coded: Sequence[str] = (),
        ahead: int | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """A batch for each row group that has rows where a condition holds, of these rows. columns: all by default;
        those that older files lack are null. coded: text columns that are read as dictionaries, a number for each
        different text. ahead: row groups that are read at once; by default what suits the place.
        """
        fields, ahead = self._fields(columns, coded), ahead or self.place.at_once
        needs = [] if where is None else self._fields(list(dict.fromkeys(where.meta.root_names())), texts(self.table))
        with ThreadPoolExecutor(ahead) as pool:
            groups = self._groups(pool, ahead)
            for batch in _ordered(pool, lambda group: group.batch(fields, needs, where), groups, ahead):
                if batch is not None and len(batch):
                    yield batch

    def excerpts(self, columns: Sequence[str], most: int | None = None) -> list[bytes]:
        """These columns, those that files have, as a Parquet file in memory for each file; only the first files where
        these have as many rows as are wanted at most.
        """
        before = itertools.accumulate((file.rows for file in self.files), initial=0)
        wanted = [file for file, rows in zip(self.files, before, strict=False) if most is None or rows < most]
        with ThreadPoolExecutor(self.place.at_once) as pool:
            found = _ordered(pool, lambda file: _excerpt(self._groups_of(file), columns), wanted, self.place.at_once)
            return list(found)

    def read(self, columns: Sequence[str] | None = None, where: pl.Expr | None = None) -> pa.Table:
        """Those rows as one table; arguments as of `batches`."""
        return pa.Table.from_batches(self.batches(columns, where), pa.schema(self._fields(columns)))

    def frame(self, columns: Sequence[str] | None = None, where: pl.Expr | None = None) -> pl.DataFrame:
        """Those rows as a Polars frame; arguments as of `batches`."""
        empty = pl.DataFrame(pa.Table.from_batches([], pa.schema(self._fields(columns))))
        return pl.concat([empty, *map(frame, self.batches(columns, where, texts(self.table)))], rechunk=False)

    def _fields(self, columns: Sequence[str] | None, coded: Sequence[str] = ()) -> list[pa.Field]:
        fields = schema.arrow(self.table)
        chosen = fields if columns is None else [fields.field(name) for name in columns]
        return [field.with_type(CODED) if field.name in coded else field for field in chosen]

    def _groups(self, pool: Executor, ahead: int) -> Iterator[_Group]:
        """The row groups of all files."""
        return itertools.chain.from_iterable(_ordered(pool, self._groups_of, self.files, ahead))

    def _groups_of(self, file: File) -> list[_Group]:
        """The row groups of a file."""
        name = f"{self.table}/{file.name}"
        source = self.place.open(name)
        footer, sums = footer_of(source, file, self.place.path(name))
        names = [footer.schema.column(i).path.partition(".")[0] for i in range(footer.num_columns)]
        places = {name: i for i, name in enumerate(names)}
        return [_Group(self.table, source, footer, sums, places, i) for i in range(footer.num_row_groups)]


@dataclass(frozen=True)
class _Group:
    """A row group of a file."""

    table: str
    source: Parts
    footer: pq.FileMetaData
    sums: np.ndarray | None  # CRC-32 of columns, by row group and column
    places: dict[str, int]  # of columns, by name
    number: int

    def part(self, columns: Sequence[str]) -> Part:
        """These of its columns."""
        here = self.footer.row_group(self.number)
        chosen = [self.places[name] for name in columns]
        chunks = [Chunk(here.column(i), None if self.sums is None else int(self.sums[self.number, i])) for i in chosen]
        return Part(here.num_rows, chunks)

    def batch(
        self, fields: Sequence[pa.Field], needs: Sequence[pa.Field], where: pl.Expr | None
    ) -> pa.RecordBatch | None:
        """Its rows where a condition holds, if any: what the condition needs is read first, the rest only then."""
        if where is None:
            return self._read(fields)
        mask = frame(self._read(needs)).select(where.fill_null(False)).to_series()
        if not mask.any():
            return None
        rows = self._read(fields)
        return rows if mask.all() else rows.filter(mask.to_arrow())

    def _read(self, fields: Sequence[pa.Field]) -> pa.RecordBatch:
        """These columns of all its rows."""
        here = self.footer.row_group(self.number)
        columns = {field.name: constant(here, self.places.get(field.name), field.type) for field in fields}
        wanted = [field for field in fields if columns[field.name] is None]
        if wanted:
            file = pq.ParquetFile(
                pa.BufferReader(_excerpt([self], [field.name for field in wanted])),
                read_dictionary=[field.name for field in wanted if field.type == CODED],
                page_checksum_verification=self.sums is None,  # older stores have no other
            )
            found = file.read(use_threads=False).combine_chunks()  # a table copies no column that is one chunk
            columns |= {field.name: found.column(field.name).chunk(0) for field in wanted}
        return pa.RecordBatch.from_arrays([columns[field.name] for field in fields], schema=pa.schema(fields))


def texts(table: str) -> list[str]:
    """The columns of a table that hold texts."""
    return [column.name for column in schema.TABLES[table] if column.type == pa.string()]


def split(batch: pa.RecordBatch) -> tuple[pl.DataFrame, dict[str, list[str]]]:
    """Rows as a Polars frame, with a number in the place of each text that was read as one; and by column the texts."""
    columns = dict(zip(batch.schema.names, batch.columns, strict=True))
    texts = {name: column.dictionary.to_pylist() for name, column in columns.items() if column.type == CODED}
    plain = [column.indices if name in texts else column for name, column in columns.items()]
    return pl.DataFrame(pa.RecordBatch.from_arrays(plain, batch.schema.names)), texts


def frame(batch: pa.RecordBatch) -> pl.DataFrame:
    """Rows as a Polars frame. Texts that were read as numbers are texts there: faster than to read each text."""
    found, texts = split(batch)
    named = {name: pl.Series(each, dtype=pl.String).gather(found[name]) for name, each in texts.items()}
    return found.with_columns(series.alias(name) for name, series in named.items())


def _excerpt(groups: Sequence[_Group], columns: Iterable[str]) -> bytes:
    """Those of these columns that the row groups of a file have, as a file in memory; one at least."""
    first = groups[0]
    have = sorted({*columns} & first.places.keys() or {"job"}, key=first.places.__getitem__)
    fields = pa.schema([schema.arrow(first.table).field(name) for name in have])
    return excerpt(first.source, [group.part(have) for group in groups], fields)


def _ordered(pool: Executor, function: Callable[[S], T], items: Iterable[S], ahead: int) -> Iterator[T]:
    """What a function returns for each item, in their order; so many are computed at once, and no more are begun."""
    waiting = deque[Future[T]]()
    for item in items:
        waiting.append(pool.submit(function, item))
        if len(waiting) == ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
