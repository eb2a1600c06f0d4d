"""The report."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

from lfombench.analysis.report import render
from lfombench.analysis.results import sweeps
from lfombench.harness.store.store import Store
from tests.stores import add, store


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.outside: list[str] = []
        self.count: dict[str, int] = {}

    def handle_starttag(self, tag, attributes):
        self.count[tag] = self.count.get(tag, 0) + 1
        for name, value in attributes:
            if name in ("src", "href", "srcset") and value and not value.startswith(("#", "data:")):
                self.outside.append(value)


def test_the_report_is_one_file_with_everything_in_it(finished):
    html = render(finished, sweeps(finished))
    tags = _Tags()
    tags.feed(html)
    assert tags.outside == []
    assert tags.count["script"] == 1
    assert "@import" not in html
    assert not re.search(r"url\((?!#)", html)
    assert tags.count["table"] == 2
    # per board: loss by depth, in steps of conjugate gradients, against three costs, training at each of two depths,
    # two of steps to a target; then the packs' costs against the plan's
    assert tags.count["svg"] == 2 * (1 + 1 + 3 + 2 + 2) + 1
    assert html.count('class="verdict"') == 1
    assert "alone here" in html or "lead" in html
    assert "lie in their 80 % interval" in html
    for solver in ("conjugate_gradient", "memformer(memory=cgd, preconditioner=full)"):
        assert solver in html
    assert "20 jobs, all done" in html
    assert 'name="viewport"' in html


def test_a_report_of_a_partial_or_diverged_sweep(tmp_path):
    rows = [("a<b>", "learned", 1, 1, 0, None), ("c", "learned", 1, 1, 0, -708.0)]
    out = store(tmp_path, rows, jobs=["a<b>-1-0", "c-1-0", "x"])
    html = render(out, sweeps(out))
    assert "Partial: 2 of 3 jobs are done" in html
    assert "1 diverged" in html
    assert "a<b>" not in html


def test_what_a_store_says_is_text_wherever_a_report_shows_it(tmp_path):
    """Names that would run as a script, in the page or in the data that its own scripts read."""
    evil = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
    out = store(
        tmp_path,
        [(f"a{evil}", "f", 1, step, seed, -1.0) for seed in range(3) for step in range(2)],
        failed=[("b", 1, 3)],
    )
    add(
        Store(out),
        jobs=[{"job": "c-1-9", "status": "failed", "reason": evil, "task": f"t{evil}", "solver": f"a{evil}"}],
    )
    manifest = Path(out) / "sweeps" / "made.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"about": evil}))
    page = render(out, sweeps(out))
    assert "alert(1)" in page
    assert "<script>alert" not in page
    assert "<img src=x" not in page
