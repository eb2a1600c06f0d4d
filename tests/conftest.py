"""The functions of tasks, solvers and harness are checked under pytest: types by beartype, shapes by jaxtyping."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import jaxtyping
import pytest
import torch
from beartype import BeartypeConf
from hypothesis import settings
from jaxtyping import install_import_hook

from tests import hook_in_once, shaped_or_plain

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ["RAY_AUTH_MODE"] = "disabled"  # whatever the user's own clusters ask for
os.environ.setdefault("RAY_worker_niceness", "0")  # beside other tests, workers would starve
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
# Where tensors are, jaxtyping checks shapes; elsewhere beartype alone, which is much faster, but knows no type that is
# imported for type checkers only, as the commands do, and makes classes that Ray cannot turn into actors.
ACTORS = ("harness.scheduler.on_ray", "harness.scheduler.fair_share")
STREAMS = "harness.compiler.streams"
SHAPED = ("tasks", "solvers", "harness.training", STREAMS, "harness.cli", *ACTORS)
PLAIN = ("compiler", "spec", "store", "scheduler", "tracking", "driver", "errors", "signals", "spans", "awake")
jaxtyping.jaxtyped = shaped_or_plain  # type: ignore[assignment]  # which has overloads, of which its hook uses this
install_import_hook([f"lfombench.{name}" for name in SHAPED], "tests.checked")
hook_in_once(
    [f"lfombench.harness.{name}" for name in PLAIN],
    BeartypeConf(
        is_pep484_tower=True,
        claw_is_pep526=False,  # variables within functions, again and again
        claw_skip_package_names=tuple(f"lfombench.{name}" for name in (*ACTORS, STREAMS)),
    ),
)
torch.set_num_threads(1)
settings.register_profile("here", deadline=None)  # another test may have the cores
settings.load_profile("here")

from lfombench.harness.store.store import Store  # noqa: E402
from tests.builders import CLOSED, SMALL  # noqa: E402
from tests.nodes import Head  # noqa: E402  - after the hooks, which check what is imported later


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Fast tests first."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A sweep of 20 jobs that runs in a second."""
    path = tmp_path / "small.yaml"
    path.write_text(SMALL)
    return path


@pytest.fixture
def quick(tmp_path: Path) -> Path:
    """A sweep of 20 jobs that trains nothing."""
    path = tmp_path / "quick.yaml"
    path.write_text(CLOSED)
    return path


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The store of that sweep, run once in this process with its MLflow view."""
    from lfombench.harness import load, run

    folder = tmp_path_factory.mktemp("finished")
    (folder / "small.yaml").write_text(SMALL)
    summary = run(load(str(folder / "small.yaml")), str(folder / "out"), workers=0)
    assert summary.exit_code == 0, summary
    assert summary.mlflow_error is None
    return str(folder / "out")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A new store, open for writing."""
    made = Store(str(tmp_path / "out"))
    made.create()
    return made


@pytest.fixture(scope="session")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    """A Ray cluster of one machine, for all tests that need no Ray of their own."""
    with Head(tmp_path_factory.mktemp("ray")) as started:
        yield started


@pytest.fixture
def played_kernels(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Compile without optimisation, which takes longer than what is compiled; and fill scratch memory and records with
    nan before a kernel runs, as the emulation does with shared memory.
    """
    from lfombench.harness.compiler import cpp

    monkeypatch.setattr(cpp, "FLAGS", (*cpp.FLAGS, "-O0"))
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)
