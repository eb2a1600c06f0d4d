"""Files in memory with some columns of a store's files: what others read of them is what they read of the whole."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lfombench.analysis.results import table
from lfombench.harness.store.rows import Rows
from lfombench.harness.store.schema import TABLES, arrow
from lfombench.harness.store.store import Store
from lfombench.harness.store.thrift import encoded, parsed


def footer(content: bytes) -> bytes:
    return content[-8 - int.from_bytes(content[-8:-4], "little") : -8]


def values(kind: pa.DataType, count: int, random: np.random.Generator) -> pa.Array:
    """A column of a kind: of one value, of several, or of none, with nulls or without."""
    if pa.types.is_list(kind):
        inner = [values(kind.value_type, int(random.integers(3)), random).to_pylist() for _ in range(count)]
        return pa.array([None if random.random() < 0.2 else each for each in inner], kind)
    pool = {"string": ["", "a", "gradient_descent(step=0.1)"], "double": [0.0, -0.0, np.nan, np.inf, 0.1]}
    choices = pool.get(str(kind), [0, 1, 7])[: int(random.integers(1, 4))]
    nulls = random.choice([0.0, 0.0, 0.3, 1.0])
    drawn = [None if random.random() < nulls else choices[i] for i in random.integers(len(choices), size=count)]
    return pa.array(drawn, pa.int64() if pa.types.is_timestamp(kind) else kind).cast(kind)


def filled(out: Path, name: str, random: np.random.Generator) -> Store:
    """A store with a few files of a table, some of several row groups."""
    store = Store(str(out))
    store.create()
    for _ in range(3):
        parts = [
            pa.table([values(field.type, count, random) for field in arrow(name)], arrow(name))
            for count in random.integers(1, 30, size=int(random.integers(1, 4)))
        ]
        file = store.write_table(name, parts)
        assert store.swap({name: [file]}, {})
    return store


@pytest.mark.parametrize("name", TABLES)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_arrow_and_polars_read_of_an_excerpt_what_they_read_of_the_whole(name, data, tmp_path_factory):
    """Whatever columns, of whatever values, read as texts or as numbers of texts, with conditions or without."""
    random = np.random.default_rng(data.draw(st.integers(0, 1 << 32)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lfombench.harness.store.store.GROUP", 1)  # a row group for each part
        store = filled(tmp_path_factory.mktemp("out"), name, random)
    chosen = data.draw(st.lists(st.sampled_from(arrow(name).names), min_size=1, max_size=6, unique=True))
    rows = Rows(store.place, name, store.snapshot.files[name])
    whole = pa.concat_tables([pq.read_table(f"{store.out}/{path}") for path in store.snapshot.paths(name)])
    expected = pl.DataFrame(whole).select(chosen)
    assert pl.DataFrame(rows.read(chosen)).equals(expected)
    assert rows.frame(chosen).equals(expected)
    assert (
        pl.concat([pl.read_parquet(io.BytesIO(each)) for each in rows.excerpts(chosen)]).select(chosen).equals(expected)
    )
    where = pl.col("job").is_in(["a", ""]) | (pl.col("job").str.len_chars() > 3)
    kept = pl.DataFrame(whole).filter(where).select(chosen)
    assert rows.frame(chosen, where).equals(kept)
    if name != "jobs":  # of a job that was run twice the last row counts there
        lazy = table(store.out, name)
        assert lazy.select(chosen).collect().equals(expected)
        assert lazy.filter(where).select(chosen).collect().equals(kept)
        assert lazy.select(chosen).head(5).collect().equals(expected.head(5))
        assert lazy.select(pl.len()).collect().item() == len(expected)


def test_a_few_rows_of_a_large_table_read_a_few_files(tmp_path):
    """It read all columns of all files."""
    store = filled(tmp_path / "out", "results", np.random.default_rng(0))
    first, *others = store.snapshot.files["results"]
    for file in others:
        Path(f"{store.out}/results/{file.name}").write_bytes(bytes(file.bytes))
    assert len(table(store.out, "results").head(first.rows).collect()) == first.rows


@pytest.mark.parametrize("compression", ["zstd", "snappy", "gzip", "none"])
def test_the_footers_of_other_writers_are_the_same_when_written_again(compression, tmp_path):
    rows = pa.table({"x": [1.5, None], "words": [["a", "b"], []], "truth": [True, False]})
    pq.write_table(rows, tmp_path / "arrow.parquet", compression=compression, store_schema=False)
    pl.DataFrame(rows).write_parquet(tmp_path / "polars.parquet")
    for path in tmp_path.iterdir():
        content = footer(path.read_bytes())
        fields, end = parsed(content)
        assert end == len(content)
        assert encoded(fields) + b"\0" == content
