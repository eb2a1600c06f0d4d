"""The answers of docs/questions.md: in SQL, Polars, DuckDB and pandas, all the same."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import duckdb
import pandas as pd
import polars as pl
import pytest

import lfombench

PAGE = (Path(__file__).parents[2] / "docs/questions.md").read_text()
QUESTIONS = re.findall(r"^## (\d+\. .*?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)


def rows(frame) -> list[tuple]:
    """A frame's rows, rounded, whatever its library."""
    frame = frame if isinstance(frame, pl.DataFrame) else pl.from_pandas(frame.reset_index(drop=True))
    return [tuple(round(x, 9) if isinstance(x, float) else x for x in row) for row in frame.iter_rows()]


def value_of(code: str, names: dict):
    """Run statements; the value of the last one, an expression, or what is named `answer`."""
    tree = ast.parse(code)
    last = tree.body[-1]
    if isinstance(last, ast.Expr):
        exec(compile(ast.Module(tree.body[:-1], []), "page", "exec"), names)
        return eval(compile(ast.Expression(last.value), "page", "eval"), names)
    exec(compile(tree, "page", "exec"), names)
    return names["answer"]


@pytest.fixture(scope="module")
def connection(finished):
    connection = duckdb.connect()
    for name in ("results", "jobs", "curves", "weights"):
        files = f"read_parquet('{finished}/{name}/*.parquet', union_by_name = true)"
        connection.sql(f"CREATE OR REPLACE VIEW {name} AS FROM {files}")
    return connection


def test_there_are_ten():
    assert len(QUESTIONS) == 10


@pytest.mark.parametrize(("title", "text"), QUESTIONS, ids=[title for title, _ in QUESTIONS])
def test_answers_agree(finished, connection, title, text):
    [sql] = re.findall(r"```sql\n(.*?)```", text, re.DOTALL)
    in_polars, in_pandas = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    store = lfombench.open(finished)
    answer = rows(store.sql(sql))
    assert answer
    assert rows(value_of(in_polars, {"store": store, "pl": pl}).collect()) == answer
    assert rows(connection.sql(sql).pl()) == answer
    names = {name: pd.read_parquet(f"{finished}/{name}") for name in ("results", "jobs", "curves", "weights")}
    assert rows(value_of(in_pandas, {"pd": pd, **names})) == answer
