"""Packs in threads of this process, on devices; here on the CPU, several times."""

from __future__ import annotations

import subprocess
import sys
import threading
import warnings
from pathlib import Path

import pytest
import torch

from lfombench.harness.scheduler import devices, on_gpus
from lfombench.harness.scheduler.faults import Fault, fault
from lfombench.harness.scheduler.on_gpus import OnGpus
from lfombench.harness.store.outcome import Outcome
from lfombench.harness.training.execute import execute
from lfombench.solvers import LinearTransformer, Memformer
from tests.programs import CPU, pack

ONE, TWO = torch.device("cuda", 0), torch.device("cuda", 1)


def ended(executor, count):
    """The next last events of packs, by key."""
    found = {}
    while len(found) < count:
        found |= {key: event for key, event in executor.poll(5) if isinstance(event, Outcome | Fault)}
    return found


def test_a_process_that_has_run_packs_ends_as_it_should():
    """A thread that is still inside PyTorch when Python ends takes the process with it."""
    code = """
from lfombench.harness.scheduler.on_gpus import OnGpus
from lfombench.solvers import LinearTransformer
from tests.programs import CPU, pack
executor = OnGpus([CPU], each=3)
for key in range(3):
    executor.start(key, pack(LinearTransformer(depth=2, preconditioner="scalar"), steps=3000), "gpu")
executor.close()
"""
    root = Path(__file__).resolve().parents[3]
    ended = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    said = [line for line in ended.stderr.splitlines() if "compiled programs are kept in" not in line]  # where noexec
    assert (ended.returncode, said) == (0, [])


def test_while_it_is_open_threads_take_short_turns():
    """Else operations of PyTorch, each of which gives Python away, wait for a busy thread a thousand times as long."""
    usual = sys.getswitchinterval()
    executor = OnGpus([CPU], each=2)
    assert sys.getswitchinterval() < usual / 10
    executor.close()
    assert sys.getswitchinterval() == pytest.approx(usual)


def test_packs_side_by_side_give_what_each_gives_alone():
    orders = [pack(solver(depth)) for solver in (scalar, memory) for depth in (1, 2)]
    executor = OnGpus([CPU], each=4)
    for key, order in enumerate(orders):
        executor.start(key, order, "gpu")
    assert executor.idle()["gpu"] == 0
    found = ended(executor, 4)
    for key, order in enumerate(orders):
        assert isinstance(found[key], Outcome), found[key].reason
        assert found[key].tables["results"].equals(execute(order, CPU).tables["results"])
    assert all(span.pack == orders[key].pack.id for key, outcome in found.items() for span in outcome.spans)


def scalar(depth):
    return LinearTransformer(depth=depth, preconditioner="scalar")


def memory(depth):
    return Memformer(depth=depth, memory="cgd", preconditioner="full")


def test_a_pack_that_is_killed_gives_no_more_events():
    executor = OnGpus([CPU], each=2)
    executor.start(0, pack(scalar(1)), "gpu")
    executor.kill(0)
    executor.start(1, pack(scalar(2)), "gpu")
    assert [*ended(executor, 1)] == [1]
    while executor.idle()["gpu"] < 2:
        assert not executor.poll(5)


@pytest.fixture
def broken(monkeypatch):
    """Packs on these devices fail as they do where a GPU has failed; others note where they run."""
    lost, ran = set(), []

    def run_pack(order, paused, device):
        if device in lost:
            yield fault(torch.AcceleratorError("CUDA error: an illegal memory access was encountered"))
        else:
            ran.append(device)
            yield Outcome(order.pack.id, {}, 1)

    monkeypatch.setattr(on_gpus, "run_pack", run_pack)
    monkeypatch.setattr(on_gpus, "_stream", lambda device: threading.Lock())
    return lost, ran


def test_a_gpu_that_fails_is_used_no_more_and_said_once(broken, caplog):
    lost, ran = broken
    lost.add(ONE)
    executor = OnGpus([ONE, TWO], each=2)
    for key in range(4):
        executor.start(key, pack(scalar(1)), "gpu")
    assert {event.kind for event in ended(executor, 4).values() if isinstance(event, Fault)} == {"device"}
    while executor.idle()["gpu"] < 2:
        executor.poll(0.1)
    for key in (4, 5):
        executor.start(key, pack(scalar(1)), "gpu")
    assert all(isinstance(event, Outcome) for event in ended(executor, 2).values())
    assert set(ran) == {TWO}
    said = [record.getMessage() for record in caplog.records if "used no more" in record.getMessage()]
    assert len(said) == 1
    assert said[0].startswith("cuda:0 is used no more: ")
    assert said[0].endswith("an illegal memory access was encountered; what ran there is tried again on others")


def test_after_the_last_gpu_the_cpu_goes_on(broken, caplog):
    lost, ran = broken
    lost.add(ONE)
    executor = OnGpus([ONE], each=2)
    executor.start(0, pack(scalar(1)), "gpu")
    executor.start(1, pack(scalar(1)), "gpu")
    ended(executor, 2)
    assert executor.idle()["gpu"] == 1
    executor.start(2, pack(scalar(1)), "gpu")
    assert isinstance(ended(executor, 1)[2], Outcome)
    assert ran == [CPU]
    assert caplog.text.count("tried again on the CPU") == 1


@pytest.fixture
def seen(monkeypatch):
    """What PyTorch with CUDA sees: so many GPUs, some of which raise when they are used."""

    def see(count, failing=(), warning=""):
        def zeros(size, device):
            if device.index in failing:
                raise RuntimeError("CUDA-capable device(s) is/are busy or unavailable\nCUDA kernel errors might ...")
            return torch.ones(1)

        def available():
            if warning:
                warnings.warn(warning, stacklevel=1)
            return count > 0

        monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: True)
        monkeypatch.setattr(torch.cuda, "is_available", available)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(torch, "zeros", zeros)
        devices.gpus.cache_clear()

    yield see
    devices.gpus.cache_clear()


def test_a_gpu_that_another_process_holds_is_left_out_and_named(seen, caplog):
    seen(2, failing=[0])
    assert devices.gpus() == (TWO,)
    assert devices.device() == TWO
    assert "cuda:0 is not used: CUDA-capable device(s) is/are busy or unavailable; nvidia-smi shows" in caplog.text


def test_a_driver_that_is_too_old_leaves_the_cpu_and_says_why_once(seen, caplog):
    seen(0, warning="CUDA initialization: The NVIDIA driver on your system is too old (found version 11040).")
    for _ in range(2):
        assert devices.gpus() == ()
        assert devices.device() == CPU
    assert caplog.text.count("no GPU is used: CUDA initialization: The NVIDIA driver on your system is too old") == 1
    assert devices.slots() == devices.cores()
