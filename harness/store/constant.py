"""Columns of a row group that have one value, by the footer, and are not read.

Where jobs of one kind stand together most are such.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

CODED = pa.dictionary(pa.int32(), pa.string())  # a text column as numbers of different texts


def constant(group: pq.RowGroupMetaData, place: int | None, kind: pa.DataType) -> pa.Array | None:
    """A column of this type, nulls where the file lacks it; None where the footer does not say all about it."""
    count = group.num_rows
    if place is None:
        return pa.nulls(count, kind)
    about = None if pa.types.is_list(kind) else group.column(place).statistics
    if about is None or not about.has_null_count:
        return None
    if nulls := about.null_count:
        return pa.nulls(count, kind) if nulls == count else None
    number = pa.types.is_integer(kind)
    if not about.has_min_max or not (number or kind in (CODED, pa.string())):
        return None  # a float that is not a number has no part in the least and the largest
    value = about.min_raw
    if value != about.max_raw:
        return None
    if number:
        return _numbers(np.full(count, value, f"i{kind.bit_width // 8}"), kind)
    column = pa.DictionaryArray.from_arrays(_numbers(np.zeros(count, np.int32), pa.int32()), _one(value))
    return column if kind == CODED else column.cast(kind)


def _numbers(values: np.ndarray, kind: pa.DataType) -> pa.Array:
    """These numbers; pa.array() would do, but takes a third of a second to import pandas."""
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(values)])


def _one(text: bytes) -> pa.Array:
    """An array of one text."""
    ends = np.array([0, len(text)], np.int32)
    return pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(ends), pa.py_buffer(text)])
