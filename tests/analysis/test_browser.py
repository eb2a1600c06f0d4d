"""The report in a real browser, wide and on a phone."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from lfombench.analysis.report import render
from lfombench.analysis.results import sweeps
from tests.commands import lfombench

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        CHROMIUM is None, reason="no chromium on this machine: the report is not looked at in a browser"
    ),
]
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *(
        "--disable-background-networking",
        "--disable-component-update",
        "--hide-scrollbars",
        "--virtual-time-budget=3000",
    ),
]
MEASURE = """<pre id="measured"></pre><script>
const right = element => element.getBoundingClientRect().right;
const free = [...document.querySelectorAll("body *")].filter(element => !element.closest(".scroll"));
const wide = free.filter(element => right(element) > innerWidth + 1).length;
const charts = [...document.querySelectorAll("svg")].map(element => Math.round(element.getBoundingClientRect().width));
const page = document.documentElement.scrollWidth;
document.getElementById("measured").textContent = `MEASURED page=${page} overflowing=${wide} charts=${charts} END`;
</script>"""


def measured(html: str, folder: Path, width: int) -> dict[str, str]:
    """Open a page `width` pixels wide, in a frame, since a headless window has a least width; what it measured."""
    (folder / "page.html").write_text(html.replace("</body>", MEASURE + "</body>"))
    (folder / "frame.html").write_text(
        f'<iframe id="f" src="page.html" width="{width}" height="900"></iframe><pre id="copy"></pre><script>'
        'onload = () => { document.getElementById("copy").textContent ='
        ' document.getElementById("f").contentDocument.getElementById("measured").textContent; }</script>'
    )
    command = [
        CHROMIUM,
        *FLAGS,
        "--allow-file-access-from-files",
        f"--user-data-dir={folder / 'profile'}",
        "--dump-dom",
        (folder / "frame.html").as_uri(),
    ]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=90).stdout
    text = dom.split("MEASURED ")[1].split(" END")[0]
    return dict(pair.split("=") for pair in text.split())


@pytest.mark.parametrize("width", [1100, 390])
def test_the_report_fits_the_screen(finished, tmp_path, width):
    found = measured(render(finished, sweeps(finished)), tmp_path, width)
    assert int(found["page"]) <= width, found
    assert found["overflowing"] == "0", found
    charts = [int(c) for c in found["charts"].split(",")]
    assert len(charts) == 19
    assert all(0.7 * min(width, 400) < c <= width for c in charts), found


def test_a_screenshot_is_not_blank(finished, tmp_path):
    (tmp_path / "page.html").write_text(render(finished, sweeps(finished)))
    picture = tmp_path / "page.png"
    command = [
        CHROMIUM,
        *FLAGS,
        f"--user-data-dir={tmp_path / 'profile'}",
        "--window-size=1000,1400",
        f"--screenshot={picture}",
        (tmp_path / "page.html").as_uri(),
    ]
    subprocess.run(command, capture_output=True, timeout=90, check=True)
    assert picture.stat().st_size > 30_000


WATCH = "<script>var errors = []; addEventListener('error', event => errors.push(event.message));</script>"
USE = """<pre id="measured"></pre><script>
const table = document.querySelector("table.sortable"), rows = () => [...table.tBodies[0].rows];
const names = () => rows().map(row => row.cells[0].dataset.v).join("|");
const before = names(), heads = [...table.tHead.rows[0].cells], button = heads[0].querySelector("button");
button.click();
const sorted = names();
button.click();
const reversed = names(), aria = heads[0].getAttribute("aria-sort");
const key = table.querySelector("[data-toggle]");
const marks = [...document.querySelectorAll(`svg [data-s="${key.dataset.toggle}"]`)];
const displayed = () => marks.filter(mark => getComputedStyle(mark).display !== "none").length;
key.click();
const hidden = displayed();
key.click();
const shown = displayed(), filter = document.querySelector("[data-filter]");
filter.value = "memformer";
filter.dispatchEvent(new Event("input", {bubbles: true}));
const numbers = [...table.querySelectorAll("button.number")], again = [];
for (const number of numbers) { number.click(); again.push(document.querySelector(".again").textContent); }
const found = {
  again,
  sorted: sorted === [...before.split("|")].sort().join("|"),
  reversed: reversed === sorted.split("|").reverse().join("|"),
  aria, marks: marks.length, hidden, shown, left: rows().filter(row => !row.hidden).length, errors: errors.length,
};
document.getElementById("measured").textContent = "MEASURED " + JSON.stringify(found) + " END";
</script>"""


def test_tables_sort_and_filter_and_solvers_can_be_hidden(finished, tmp_path):
    html = render(finished, sweeps(finished)).replace("<head>", "<head>" + WATCH)
    page = tmp_path / "page.html"
    page.write_text(html.replace("</body>", USE + "</body>"))
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", page.as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=90).stdout
    found = json.loads(dom.split("MEASURED ")[1].split(" END")[0])
    again = found.pop("again")
    assert len(again) == len(set(again)) > 5
    for line in again[:2]:  # as a terminal would read it
        program, *words = shlex.split(line)
        assert program == "lfombench"
        done = lfombench(*words)
        assert done.returncode == 0, (line, done.stderr)
        assert "equal to the bit" in done.stdout or "within tolerance" in done.stdout
    marks = found.pop("marks")
    assert marks > 3
    assert (found.pop("hidden"), found.pop("shown")) == (0, marks)
    assert found == {"sorted": True, "reversed": True, "aria": "descending", "left": 1, "errors": 0}
