"""Some columns of a row group as a Parquet file in memory, which is what was written: the snapshot has the CRC-32 of
each column of each row group. Whoever reads a store reads such files, Polars and Arrow alike.
"""

from __future__ import annotations

import functools
import io
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from .footer import span
from .place import Parts
from .thrift import BINARY, I32, I64, LIST, STOP, STRUCT, Value, encoded, parsed

MARK = b"PAR1"  # begins and ends a Parquet file; numbers below are those of Parquet's own definition
GAP = 64 << 10  # bytes between two columns that are read too, rather than to ask twice
TYPES = {"BOOLEAN": 0, "INT32": 1, "INT64": 2, "INT96": 3, "FLOAT": 4, "DOUBLE": 5, "BYTE_ARRAY": 6}
ENCODINGS = {"PLAIN": 0, "PLAIN_DICTIONARY": 2, "RLE": 3, "BIT_PACKED": 4, "DELTA_BINARY_PACKED": 5}
ENCODINGS |= {"DELTA_LENGTH_BYTE_ARRAY": 6, "DELTA_BYTE_ARRAY": 7, "RLE_DICTIONARY": 8, "BYTE_STREAM_SPLIT": 9}
CODECS = {"UNCOMPRESSED": 0, "SNAPPY": 1, "GZIP": 2, "BROTLI": 4, "ZSTD": 6, "LZ4": 7}


@dataclass(frozen=True)
class Chunk:
    """A column of a row group: what the footer says of it, and its CRC-32, which older stores lack."""

    about: pq.ColumnChunkMetaData
    crc: int | None

    @functools.cached_property
    def span(self) -> tuple[int, int]:
        """Its bytes in the file: the first, and the one behind the last."""
        return span(self.about)


@dataclass(frozen=True)
class Part:
    """Columns of a row group, in the order of the file, and its number of rows."""

    rows: int
    chunks: Sequence[Chunk]


def excerpt(source: Parts, parts: Sequence[Part], fields: pa.Schema) -> bytes:
    """Columns of some row groups, with their fields, as a file. OSError where they are not what was written."""
    chunks = [chunk for part in parts for chunk in part.chunks]
    at, moved, runs = len(MARK), list[int](), list[tuple[int, int, int]]()
    for run in _runs(chunks):
        begin, end = run[0].span[0], run[-1].span[1]
        runs.append((begin, at, at + end - begin))
        moved += [at - begin] * len(run)
        at += end - begin
    footer = _footer(parts, moved, fields)
    file = io.BytesIO(bytes(at + len(footer)))  # a file that its own content is read into, without a copy
    with file.getbuffer() as content:
        content[: len(MARK)], content[at:] = MARK, footer
        for begin, first, last in runs:
            source.read_into(content[first:last], begin)
        for chunk, by in zip(chunks, moved, strict=True):
            begin, end = chunk.span
            if chunk.crc is not None and zlib.crc32(content[begin + by : end + by]) != chunk.crc:
                raise OSError(f"column {chunk.about.path_in_schema} is not what was written")
    return file.getvalue()


def _runs(chunks: Sequence[Chunk]) -> list[list[Chunk]]:
    """Chunks, those together that stand so near to each other that they are read at once."""
    runs = list[list[Chunk]]()
    for chunk in chunks:
        if runs and 0 <= chunk.span[0] - runs[-1][-1].span[1] <= GAP:
            runs[-1].append(chunk)
        else:
            runs.append([chunk])
    return runs


def _footer(parts: Sequence[Part], moved: Sequence[int], fields: pa.Schema) -> bytes:
    """The end of a file with these columns, each moved by so many bytes."""
    places = iter(moved)
    groups = [
        {
            1: Value(LIST, [_described(chunk, next(places)) for chunk in part.chunks], STRUCT),
            2: Value(I64, sum(chunk.about.total_uncompressed_size for chunk in part.chunks)),
            3: Value(I64, part.rows),
        }
        for part in parts
    ]
    rows = {3: Value(I64, sum(part.rows for part in parts)), 4: Value(LIST, groups, STRUCT)}
    head, tail = _empty(fields)
    footer = head + encoded(rows, before=2) + tail
    return footer + len(footer).to_bytes(4, "little") + MARK


@functools.cache
def _empty(fields: pa.Schema) -> tuple[bytes, bytes]:
    """What the footer of a file with these columns says before and behind what it tells of row groups."""
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_batches([], fields), sink)
    content = sink.getvalue().to_pybytes()
    footer, _ = parsed(content, len(content) - 8 - int.from_bytes(content[-8:-4], "little"))
    head, tail = ({i: value for i, value in footer.items() if i in these} for these in (range(3), range(5, 8)))
    return encoded(head), encoded(tail, before=4) + STOP


def _described(chunk: Chunk, moved: int) -> bytes:
    """What a footer says of a column of a row group that was moved by so many bytes."""
    about = chunk.about
    known = _kind(about.physical_type, about.encodings, about.path_in_schema, about.compression)
    sizes = {
        5: Value(I64, about.num_values),
        6: Value(I64, about.total_uncompressed_size),
        7: Value(I64, about.total_compressed_size),
        9: Value(I64, about.data_page_offset + moved),
    }
    if about.has_dictionary_page:
        sizes[11] = Value(I64, about.dictionary_page_offset + moved)
    return (
        encoded({2: Value(I64, chunk.span[0] + moved), 3: Value(STRUCT, known + encoded(sizes, before=4) + STOP)})
        + STOP
    )


@functools.cache
def _kind(physical: str, encodings: tuple[str, ...], path: str, compression: str) -> bytes:
    """What a footer says of the kind of a column."""
    return encoded(
        {
            1: Value(I32, TYPES[physical]),
            2: Value(LIST, [ENCODINGS[name] for name in encodings], I32),
            3: Value(LIST, [part.encode() for part in path.split(".")], BINARY),
            4: Value(I32, CODECS[compression]),
        }
    )
