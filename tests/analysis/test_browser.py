"""The report in a real browser, wide and on a phone."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from lfombench.analysis.report import render
from lfombench.analysis.results import sweeps

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
    assert len(charts) == 7
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
