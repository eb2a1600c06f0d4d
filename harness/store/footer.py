"""The footer of a Parquet file, which says where its columns are; and the checksums of both, which the snapshot has."""

from __future__ import annotations

import base64
import zlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from .place import Parts
from .snapshots import File

END = 64 << 10  # bytes that are read first of a file: as a rule they hold its footer


def sums(content: pa.Buffer) -> tuple[int, str]:
    """The CRC-32 of the footer of a file, and those of its columns, by row group, as base64."""
    view, footer = memoryview(content), pq.read_metadata(pa.BufferReader(content))
    groups = [footer.row_group(i) for i in range(footer.num_row_groups)]
    chunks = [span(group.column(i)) for group in groups for i in range(group.num_columns)]
    columns = np.array([zlib.crc32(view[begin:end]) for begin, end in chunks], "<u4")
    return zlib.crc32(view[-_length(view) :]), base64.b64encode(columns.tobytes()).decode()


def span(chunk: pq.ColumnChunkMetaData) -> tuple[int, int]:
    """The bytes of a file that a column of a row group has: the first, and the one behind the last."""
    begin = chunk.dictionary_page_offset if chunk.has_dictionary_page else chunk.data_page_offset
    return begin, begin + chunk.total_compressed_size


def footer_of(source: Parts, file: File, path: str) -> tuple[pq.FileMetaData, np.ndarray | None]:
    """The footer of a file, and the CRC-32 of columns by row group and column, if the snapshot has them. OSError where
    it is not what was written.
    """
    if (size := source.size) != file.bytes:
        raise OSError(f"{path} has {size} bytes and not {file.bytes}, as were written")
    content = _last(source, min(END, size))
    length = _length(content)
    if len(content) < length <= size:
        content = _last(source, length)
    if file.footer is not None and zlib.crc32(content[-length:]) != file.footer:
        raise OSError(f"{path} ends in other bytes than were written")
    footer = pq.read_metadata(pa.BufferReader(content))
    if footer.num_rows != file.rows:
        raise OSError(f"{path} has {footer.num_rows} rows and not {file.rows}, as were written")
    if file.columns is None:
        return footer, None
    try:
        columns = np.frombuffer(base64.b64decode(file.columns), "<u4")
        return footer, columns.reshape(footer.num_row_groups, footer.num_columns)
    except (ValueError, TypeError) as error:
        raise OSError(f"{path} has other columns than were written: {error}") from error


def _last(source: Parts, length: int) -> bytes:
    """So many bytes from the end of a file."""
    content = bytearray(length)
    source.read_into(memoryview(content), source.size - length)
    return bytes(content)


def _length(content: bytes | memoryview) -> int:
    """The bytes of the footer of a file, with its length and the mark behind it."""
    return int.from_bytes(content[-8:-4], "little") + 8
