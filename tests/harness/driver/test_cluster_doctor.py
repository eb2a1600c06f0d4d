"""The doctor on a cluster: every node is looked at, and what differs is named with its node and a remedy."""

from __future__ import annotations

import json
import time

import pytest
import torch

from lfombench.harness.driver import cluster_doctor
from lfombench.harness.driver.cluster_doctor import Node as Examined
from lfombench.harness.driver.cluster_doctor import Question, answer
from lfombench.harness.driver.doctor import Finding
from lfombench.harness.scheduler.handshake import versions
from tests.commands import lfombench
from tests.nodes import ENVIRONMENT, Head, Node


@pytest.mark.slow
@pytest.mark.xdist_group("ray")
def test_every_node_is_looked_at_and_its_troubles_are_named(head: Head, tmp_path):
    """One that cannot keep compiled programs, one whose lfombench cannot be imported."""
    broken = tmp_path / "broken" / "lfombench"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise ImportError('half installed')\n")
    join = ("--num-cpus=1", f"--address={head.address}")
    alone = {"LFOMBENCH_CACHE": "/dev/null/nowhere"}
    with (
        Node(tmp_path, "bare", "127.0.0.1", *join, environment=ENVIRONMENT | alone),
        Node(tmp_path, "half", "127.0.0.1", *join, environment=ENVIRONMENT | {"PYTHONPATH": str(broken.parent)}),
    ):
        done = lfombench("doctor", "--address", head.address, "--json")
    assert done.returncode == 1, done.stdout
    nodes = [{one["check"]: one for one in node["findings"]} for node in json.loads(done.stdout)]
    assert len(nodes) == 3
    [healthy] = [found for found in nodes if found.get("compiled programs", {}).get("verdict") == "ok"]
    assert all(one["verdict"] != "bad" for one in healthy.values())
    assert healthy["training on cpu"]["found"] == "equal to the bit"
    assert {"versions", "clock", "GPUs", "memory"} <= healthy.keys()
    [bare] = [found for found in nodes if found.get("compiled programs", healthy["memory"])["verdict"] == "look"]
    assert "LFOMBENCH_CACHE" in bare["compiled programs"]["remedy"]
    assert bare["training on cpu"]["verdict"] == "ok"
    [half] = [found for found in nodes if "answer" in found]
    assert "half installed" in half["answer"]["found"]
    assert "Install lfombench there" in half["answer"]["remedy"]


def asked(**changed) -> Question:
    known = {"versions": versions(), "trained": 0.0, "now": time.time(), "out": None, "exists": False, "mlflow": None}
    return Question(**known | changed)


def test_what_differs_from_the_driver_is_found(tmp_path, monkeypatch):
    """A version, the clock, numbers, a store that is not there, a server that does not answer; secrets are not said."""
    monkeypatch.setattr(cluster_doctor, "trained", lambda device: 0.25)
    found = {
        one.check: one
        for one in answer(
            asked(
                versions=versions() | {"PyTorch": "1.0"},
                now=time.time() - 1000,
                out=str(tmp_path / "out"),
                exists=True,
                mlflow="http://somebody:secret@127.0.0.1:1",
            )
        )
    }
    assert found["versions"].verdict == "bad"
    assert "PyTorch" in found["versions"].found
    assert (found["clock"].verdict, found["clock"].found) == ("look", "+1000 s")
    assert found["training on cpu"].verdict == "bad"
    assert found["store"].verdict == "look"
    assert found["MLflow"].verdict == "look"
    assert "secret" not in str(found["MLflow"])
    assert all(one.remedy for one in found.values() if one.verdict != "ok")


def test_the_trained_number_is_the_same_each_time():
    assert cluster_doctor.trained(torch.device("cpu")) == cluster_doctor.trained()


def test_what_nodes_have_in_common_is_one_line_and_every_problem_names_its_nodes(monkeypatch):
    fine, slow = Finding("memory", "ok", "64 cores"), Finding("clock", "look", "+9 s", "Is NTP running?")
    nodes = [Examined(f"node{i}", [fine, *([slow] if i in (3, 7) else [])]) for i in range(10)]
    monkeypatch.setattr(cluster_doctor, "examine", lambda address, out, mlflow: nodes)
    done = lfombench("doctor", "--address", "head:6379")
    assert done.stdout.splitlines() == [
        "10 nodes at head:6379",
        "ok    memory: 64 cores  (all 10)",
        "look  clock: +9 s. Is NTP running?  (node3, node7)",
    ]
    assert done.returncode == 0


def test_a_server_is_tried_from_nodes_alone():
    done = lfombench("doctor", "--mlflow", "http://127.0.0.1:1")
    assert done.returncode == 2
    assert "give its --address too" in done.stderr
