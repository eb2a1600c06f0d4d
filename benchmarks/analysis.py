"""What reading a store takes: boards with verdicts, queries and reports of large stores, against pandas and DuckDB.

The rows are made up, and written by the store's own writer; opponents read the same files in the same run.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import polars as pl
import pyarrow as pa
from timing import Row, spread

from lfombench.analysis.pairs import paired
from lfombench.analysis.statistics import rank_sets
from lfombench.harness.store import schema
from lfombench.harness.store.maintenance import compact
from lfombench.harness.store.manifest import Asked, Manifest, path_of
from lfombench.harness.store.store import Store

SOLVERS, TESTS, DEPTH = 50, 10, 4
ROUNDS = 3  # of boards, by turns with opponents
CHUNK = 400  # jobs in a commit
CODE = "c0de"
MEASURE = """
import json, resource, subprocess, sys, time
begin = time.perf_counter()
code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
used = resource.getrusage(resource.RUSAGE_CHILDREN)
cpu = used.ru_utime + used.ru_stime
found = {"code": code, "wall": time.perf_counter() - begin, "cpu": cpu, "peak": used.ru_maxrss * 1024}
print(json.dumps(found))
"""  # in between: a child counts what its parent held when it was forked
PANDAS = """
import sys, glob, itertools
import numpy as np, pandas as pd
from lfombench.analysis.pairs import paired
columns = ["test", "solver", "family", "depth", "step", "seed", "log_mse"]
rows = pd.concat(pd.read_parquet(path, columns=columns) for path in glob.glob(sys.argv[1] + "/results/*.parquet"))
rows = rows[(rows.step > 0) & ((rows.family != "learned") | (rows.step == rows.depth))]
for (test, step), board in rows.groupby(["test", "step"]):
    losses = board.pivot_table(index="solver", columns="seed", values="log_mse").to_numpy()
    paired(losses).better
"""
DUCKDB = """
import sys
import duckdb, numpy as np
from lfombench.analysis.pairs import paired
duckdb.sql("SET threads = 2")
rows = duckdb.sql(f"FROM '{sys.argv[1]}/results/*.parquet' SELECT test, solver, step, seed, log_mse "
    "WHERE step > 0 AND (family != 'learned' OR step = depth) ORDER BY test, step, solver, seed").fetchnumpy()
keys = np.char.add(rows["test"].astype(str), rows["step"].astype(str))
for key in np.unique(keys):
    here = keys == key
    solvers = np.unique(rows["solver"][here].astype(str))
    paired(rows["log_mse"][here].reshape(len(solvers), -1)).better
"""


def store_of(folder: Path, seeds: int) -> str:
    """A store of so many seeds of SOLVERS solvers of depth DEPTH, half of them learned, tested on TESTS tasks. Files
    are merged after each commit, as drivers merge them.
    """
    store = Store(str(folder))
    store.create()
    random = np.random.default_rng(0)
    solvers = [(f"linear_transformer(preconditioner=full, heads={i})", "learned") for i in range(SOLVERS // 2)]
    solvers += [(f"gradient_descent(step={0.01 * i:.2f})", "classical") for i in range(SOLVERS - len(solvers))]
    tests = [f"linear_regression(d=5, n=20, noise={0.1 * i:.1f})" for i in range(TESTS)]
    common = random.normal(size=(TESTS, DEPTH + 1, seeds))
    jobs: list[str] = []
    for number, (solver, family) in enumerate(solvers):
        for first in range(0, seeds, CHUNK):
            chosen = np.arange(first, min(first + CHUNK, seeds))
            ids = [f"{number:04x}{seed:016x}" for seed in chosen]
            jobs += ids
            store.add(tables(random, ids, chosen, solver, family, tests, common, 0.02 * number))
            compact(store)
    asked = [
        Asked(
            task=tests[0],
            solver=solver,
            family=family,
            depth=DEPTH,
            protocol="rigorous",
            told="",
            tests=tests[1:],
            seeds=[*range(seeds)],
        )
        for solver, family in solvers
    ]
    store.write(
        path_of("large"),
        Manifest(name="large", jobs=jobs, protocols=["rigorous"], tests=tests[1:], asked=asked).content,
    )
    return store.out


def tables(random, ids, seeds, solver, family, tests, common, mean) -> dict[str, pa.Table]:
    """The tables of some jobs of one solver."""
    shape = len(ids), len(tests), DEPTH + 1
    rows = int(np.prod(shape))
    job, test, step = (x.ravel() for x in np.meshgrid(*map(np.arange, shape), indexing="ij"))
    loss = mean - step + 0.3 * common[test, step, np.asarray(seeds)[job]] + 0.1 * random.normal(size=rows)
    mse = np.exp(loss)
    results = {
        "job": pa.array(ids).take(job),
        "task": pa.array([tests[0]] * rows),
        "test": pa.array(tests).take(test),
        "solver": pa.array([solver] * rows),
        "family": pa.array([family] * rows),
        "depth": np.full(rows, DEPTH),
        "step": step,
        "seed": np.asarray(seeds)[job],
        "protocol": pa.array(["rigorous"] * rows),
        "mse": mse,
        "log_mse": loss,
        "mse_normalised": mse / 5,
        "median": mse / 2,
        "q90": 2 * mse,
        "q99": 6 * mse,
        "failure_rate": np.zeros(rows),
        "prompts": np.full(rows, 102_400),
        "params": np.full(rows, 100),
        "status": pa.array(["done"] * rows),
        "code": pa.array([CODE] * rows),
        "blocks": pa.FixedSizeListArray.from_arrays(
            (mse[:, None] * random.chisquare(8, (rows, schema.BLOCKS)) / 8).ravel(), schema.BLOCKS
        ),
    }
    own = {
        "job": ids,
        "status": ["done"] * len(ids),
        "task": [tests[0]] * len(ids),
        "solver": [solver] * len(ids),
        "depth": [DEPTH] * len(ids),
        "protocol": ["rigorous"] * len(ids),
        "seed": seeds,
        "spec": ["{}"] * len(ids),
        "floors": [[]] * len(ids),
        "code": [CODE] * len(ids),
    }
    made = {}
    for name, columns in (("results", results), ("jobs", own)):
        wanted = schema.arrow(name)
        count = rows if name == "results" else len(ids)
        made[name] = pa.table(
            {
                f.name: pa.array(columns[f.name]).cast(f.type) if f.name in columns else pa.nulls(count, f.type)
                for f in wanted
            },
            schema=wanted,
        )
    return made


def measured(*command: str) -> dict[str, float]:
    """Seconds and bytes of a command."""
    done = subprocess.run([sys.executable, "-c", MEASURE, *command], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["code"] == 0, done.stderr
    return found


def rows(seeds: int = 4000) -> list[Row]:
    """Boards of ten million rows, against the same from pandas and DuckDB; a query; all pairs of a board."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        out = store_of(Path(folder) / "large", seeds)
        many = seeds * SOLVERS * TESTS * (DEPTH + 1)
        command = (sys.executable, "-m", "lfombench", "board", "--format", "csv", "--out", out)
        others = {"pandas": PANDAS, "DuckDB": DUCKDB}
        commands = {"": command, **{name: (sys.executable, "-c", code, out) for name, code in others.items()}}
        rounds = [{name: measured(*command) for name, command in commands.items()} for _ in range(ROUNDS)]
        middle = {
            name: {what: median(each[name][what] for each in rounds) for what in ("cpu", "peak")} for name in commands
        }
        ours, told = middle[""], spread([each[""]["cpu"] for each in rounds])
        for name in others:
            theirs = middle[name]
            work = f"board of {many:,} rows, against {name}"
            found.append(_of(work, "s of processor time", theirs["cpu"], ours["cpu"], 5.0, told))
            note = "theirs without ranks, bounds, suspects or missing seeds"
            found.append(
                _of(
                    f"board of {many:,} rows, memory, against {name}",
                    "GB",
                    theirs["peak"] / 1e9,
                    ours["peak"] / 1e9,
                    2.0,
                    note,
                )
            )
        found.append(_query(out))
    found += _report()
    times = [_pairs_seconds() for _ in range(7)]
    note = spread([1000 * each for each in times])
    found.append(
        Row(
            "all pairs, Holm and rank sets, 50 solvers x 5 tasks x 5 seeds",
            "ms",
            None,
            1000 * median(times),
            None,
            None,
            None,
            100.0,
            note,
        )
    )
    return found


def _of(work: str, unit: str, theirs: float, ours: float, goal: float, note: str = "") -> Row:
    return Row(work, unit, theirs, ours, theirs / ours, None, None, goal, note)


def _query(out: str) -> Row:
    """A group-by through the command's tables, and by Polars from the files, both without the start of the process."""
    from lfombench.analysis.opened import Results

    sql = "SELECT test, solver, step, AVG(log_mse) AS loss FROM results GROUP BY test, solver, step"
    store, pairs = Results(out), []
    for _ in range(15):
        begin = time.perf_counter()
        store.sql(sql)
        ours = time.perf_counter() - begin
        begin = time.perf_counter()
        pl.SQLContext(results=pl.scan_parquet(f"{out}/results/*.parquet")).execute(sql, eager=True)
        pairs.append((time.perf_counter() - begin, ours))
    ratios = [a / b for a, b in pairs[1:]]
    theirs, ours = (median(values) for values in zip(*pairs[1:], strict=True))
    return Row(
        "group-by in SQL, against plain Polars", "s", theirs, ours, median(ratios), min(ratios), max(ratios), 1 / 1.5
    )


def _report(seeds: int = 200) -> list[Row]:
    """A report of ten thousand jobs: how long it takes to make, how large it is, and when it can be used."""
    with tempfile.TemporaryDirectory() as folder:
        out = store_of(Path(folder) / "many", seeds)
        made = measured(sys.executable, "-m", "lfombench", "report", "--out", out)
        page = Path(out) / "report" / "index.html"
        size, work = page.stat().st_size, f"report of {seeds * SOLVERS:,} jobs"
        found = [
            Row(work, "s", None, made["wall"], None, None, None, 20.0, f"peak {made['peak'] / 1e9:.1f} GB"),
            Row(f"{work}, size", "MB", None, size / 1e6, None, None, None, 5.0, ""),
        ]
        chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
        if chromium:
            page.write_text(page.read_text().replace("</body>", f"{USED}</body>"))
            command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}/profile"]
            times = []
            for _ in range(5):
                dom = subprocess.run(
                    [*command, "--dump-dom", page.as_uri()], capture_output=True, text=True, check=True
                )
                times.append(float(dom.stdout.split("USED ")[1].split(" END")[0]) / 1000)
            note = f"until a table is sorted by a click, in Chromium; {min(times):.1f} to {max(times):.1f}"
            found.append(Row(f"{work}, until it can be used", "s", None, median(times), None, None, None, 2.0, note))
    return found


USED = """<pre id="used"></pre><script>
addEventListener("load", () => {
  document.querySelector("table.sortable th button").click();
  document.body.getBoundingClientRect();
  document.getElementById("used").textContent = `USED ${performance.now()} END`;
});
</script>"""


def _pairs_seconds() -> float:
    losses = np.random.default_rng(0).normal(size=(5, SOLVERS, 5))
    begin = time.perf_counter()
    for each in losses:
        rank_sets(paired(each).better)
    return time.perf_counter() - begin
