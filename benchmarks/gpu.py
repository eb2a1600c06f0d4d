"""Everything that needs a GPU: is it right, how fast is it, and a whole sweep. Writes gpu.md as it goes.

    make gpu WHEELS=folder      # or: python benchmarks/gpu.py --wheels folder [--only steps sweep ...] [--dry]

Needs Python 3.12 or later and PyTorch with CUDA. What else lfombench imports here, pydantic and polars, is taken from a
folder of wheels where it is not installed; no network, no Ray, no MLflow. A part that fails is said to, and the next
begins. --dry plays the device on the host, with a few small members: everything but the launch.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import os
import shutil
import subprocess
import sys
import time
import traceback
from pathlib import Path

HERE = Path(__file__).resolve().parent
SITE = HERE.parent / "build" / "gpu" / "site"
PARTS = ("machine", "tests", "steps", "rivals", "sweep", "boards")  # tests run beside the first steps
MINUTES = 6.0
BEGIN = time.monotonic()


def installed(wheels: str) -> None:
    """Install this checkout and what it lacks into a folder of its own, and begin again with it."""
    shutil.rmtree(HERE.parent / "build" / "lib", ignore_errors=True)  # which setuptools would add to
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--upgrade"]
    command += ["--target", str(SITE), "--no-build-isolation", "--no-compile", str(HERE.parent)]
    subprocess.run([*command, *map(str, Path(wheels).glob("*.whl"))] if wheels else command, check=True)
    path = os.pathsep.join([str(SITE), *filter(None, [os.environ.get("PYTHONPATH")])])
    os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1"})


def say(text: str) -> None:
    """Print a line with the seconds since the beginning."""
    print(f"[{time.monotonic() - BEGIN:6.1f} s] {text}", flush=True)


class Page:
    """The report. What parts add is on the disk at once: nothing is lost where a later part ends the process."""

    def __init__(self, path: Path) -> None:
        self.path, self.text = path, ""
        path.parent.mkdir(parents=True, exist_ok=True)

    def add(self, text: str) -> None:
        """Add a paragraph or a table."""
        say(text)
        self.text += text + "\n\n"
        self.path.write_text(self.text)

    def table(self, head: list[str], rows: list[list[str]]) -> None:
        """Add a table."""
        lines = [head, ["---"] * len(head), *rows]
        self.add("\n".join(f"| {' | '.join(line)} |" for line in lines))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--wheels", default="", help="a folder of wheels of what is not installed")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--dry", action="store_true", help="without a device: the kernels run on the host")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="what would take longer than that is left out")
    parser.add_argument("--page", help="where the figures go. [default: benchmarks/gpu.md]")
    options = parser.parse_args()
    if importlib.util.find_spec("lfombench") is None:
        installed(options.wheels)
    sys.path[:0] = [str(HERE), str(HERE.parent)]  # other benchmarks, and the tests with the host that plays a device
    if not options.dry:
        from lfombench.harness.scheduler.devices import gpus

        if not gpus():
            print("PyTorch finds no GPU that it can use here; --dry does everything but the launch", file=sys.stderr)
            return 1
    default = HERE.parent / "build" / "gpu-dry.md" if options.dry else HERE / "gpu.md"
    page, failed = Page(Path(options.page or default)), []
    page.add("# On a GPU\n\nWritten by `make gpu`; what the figures mean is in [docs/gpu.md](../docs/gpu.md).")
    import gpu_machine
    import gpu_rivals
    import gpu_steps
    import gpu_sweep

    here = gpu_machine.device(dry=options.dry)
    tests = gpu_machine.Tests(here) if "tests" in options.only else None
    sweep = gpu_sweep.Sweep(here, BEGIN + 60 * options.minutes - 5) if "sweep" in options.only else None
    parts = {
        "machine": lambda: gpu_machine.machine(page, here),
        "steps": lambda: gpu_steps.steps(page, here, functools.partial(tests.end, page) if tests else lambda: None),
        "rivals": lambda: gpu_rivals.rivals(page, here),
    }
    if sweep:
        parts |= {"sweep": lambda: sweep.run(page), "boards": lambda: sweep.compare(page)}
    for name in (name for name in PARTS if name in options.only and name in parts):
        say(f"part {name}")
        try:
            parts[name]()
        except Exception:
            failed.append(name)
            page.add(f"Part {name} failed:\n\n```\n{traceback.format_exc(limit=-6)}```")
    if tests and "steps" not in options.only:
        tests.end(page)
    say(f"done; failed: {', '.join(failed) or 'nothing'}")
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())
