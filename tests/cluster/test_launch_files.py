"""The launch files: read by the programs that they call, or run with stand-ins where a cluster would be needed."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.scripts.scripts import start

from lfombench.analysis.results import table
from lfombench.harness.cli.main import cli
from lfombench.harness.errors import UserError
from tests.commands import lfombench
from tests.nodes import BIN

FOLDER = Path(__file__).parents[2] / "cluster"
SCRIPTS = sorted(FOLDER.glob("*.sh"))
FILES = [FOLDER / "Dockerfile", *sorted(FOLDER.glob("*.yaml")), *SCRIPTS]
PATIENT = """\
import dataclasses, pathlib, time
from lfombench.solvers import ConjugateGradient
@dataclasses.dataclass(frozen=True, kw_only=True)
class Patient(ConjugateGradient):
    def iterates(self, params, problem):
        while not pathlib.Path({go!r}).exists():
            time.sleep(0.1)
        yield from super().iterates(params, problem)
"""
SWEEP = """\
name: waits
protocol: {use: published, test_prompts: 64}
seeds: 2
tasks: [linear_regression: {d: 3, n: 8}]
solvers:
  - conjugate_gradient: {depth: {each: [1, 2]}}
  - "waits_for_go:Patient": {depth: 1}
"""
SRUN = """\
#!/bin/bash
# A stand-in for srun: the command, here; each node is this machine.
while [[ $1 == --* ]]; do shift; done
[ "$1" = hostname ] && { echo "127.0.0.1 "; exit; }
exec "$@"
"""
SCONTROL = """\
#!/bin/bash
[ "$2" = hostnames ] && { echo one; echo two; exit; }
echo "$@" >> "$CALLS"
"""


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_first_lines_say_what_was_not_run(path):
    assert re.search(r"[Nn]ot (run|built|under)|[Rr]un here", "\n".join(path.read_text().splitlines()[:5]))


def commands(text: str) -> Iterator[list[str]]:
    """The commands of Ray, MLflow and lfombench in a text, as words."""
    for line in re.split(r"\n|;|&&", re.sub(r"\\\n|\n\s+(?=--|RAY)", " ", text)):
        words = [word.rpartition("/")[2] if word.endswith(("/ray", "/pip")) else word for word in line.split()]
        for i, word in enumerate(words):
            if word in ("ray", "mlflow", "lfombench") and words[i + 1 : i + 2] and not words[i + 1].startswith("-"):
                yield [word.strip("'\"`") for word in words[i:]]
                break


def texts(value: Any) -> Iterator[str]:
    """All texts in a YAML document."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from (text for one in value.values() for text in texts(one))
    elif isinstance(value, list):
        yield from (text for one in value for text in texts(one))


def known_options(command: click.Command) -> set[str]:
    return {name for option in command.params for name in (*option.opts, *option.secondary_opts)}


@pytest.mark.parametrize("path", [*FILES], ids=lambda path: path.name)
def test_every_command_in_them_has_options_that_its_program_knows(path):
    """`ray start`, `mlflow server` and our own, those in comments too."""
    text, served = path.read_text(), set()
    if "mlflow server" in text:
        help = subprocess.run([BIN / "mlflow", "server", "--help"], capture_output=True, text=True, check=True).stdout
        served = {*re.findall(r"--[a-z-]+", help)}
    sources = [text, *(texts(yaml.safe_load(text)) if path.suffix == ".yaml" else ())]
    found = [words for source in sources for words in commands(source)]
    for words in found:
        given = [word.partition("=")[0] for word in words if word.startswith("--")]
        if words[:2] == ["ray", "start"]:
            assert {*given} <= known_options(start), words
        elif words[:2] == ["mlflow", "server"]:
            assert {*given} <= served, words
        elif words[0] == "lfombench" and words[1] in cli.commands:
            assert {*given} <= known_options(cli.commands[words[1]]) | {"--help"}, words
    assert path.name in ("Dockerfile",) or found


@pytest.mark.parametrize("name", ["aws", "gcp"])
def test_rays_own_check_takes_the_files_of_its_autoscaler(name):
    config = prepare_config(yaml.safe_load((FOLDER / f"{name}.yaml").read_text()))
    validate_config(config)
    assert {"head", "cores", "gpus"} == config["available_node_types"].keys()
    assert config["available_node_types"]["head"]["resources"] == {"CPU": 0}


@pytest.mark.parametrize("name", ["raycluster", "rayjob", "compose"])
def test_containers_are_not_root_and_have_no_secret_in_their_file(name):
    text = (FOLDER / f"{name}.yaml").read_text()
    document = yaml.safe_load(text)
    if name == "compose":
        ports = [port for service in document["services"].values() for port in service.get("ports", ())]
        assert ports
        assert all(port.startswith("127.0.0.1:") for port in ports)
        used = {secret for service in document["services"].values() for secret in service.get("secrets", ())}
        assert used == document["secrets"].keys()
    else:
        pods = [value for value in _dictionaries(document) if "containers" in value]
        assert pods
        for pod in pods:
            assert pod["securityContext"]["runAsNonRoot"] is True
            for container in pod["containers"]:
                assert container["securityContext"]["allowPrivilegeEscalation"] is False
                assert {"name": "RAY_AUTH_MODE", "value": "token"} in container["env"]
    assert not re.search(r"(?i)(password|token|secret)[\"']?: [\"']?[A-Za-z0-9+/]{16,}", text)


def _dictionaries(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
    for one in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _dictionaries(one)


def test_the_image_is_pinned_and_runs_as_somebody():
    lines = (FOLDER / "Dockerfile").read_text().splitlines()
    images = [line.split()[1] for line in lines if line.startswith("FROM")]
    assert all(re.fullmatch(r"debian:\w+-\d{8}-slim", image) for image in images)
    users = [line.split()[1] for line in lines if line.startswith("USER")]
    assert users[-1] == "1000"


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_the_scripts_are_sound(path):
    subprocess.run(["bash", "-n", str(path)], check=True)
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed")
    done = subprocess.run(["shellcheck", str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.fixture
def slurm(tmp_path: Path) -> dict[str, str]:
    """The environment of a job of Slurm's on two nodes, which are both this machine."""
    stand_ins = tmp_path / "bin"
    stand_ins.mkdir()
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL)):
        (stand_ins / name).write_text(text)
        (stand_ins / name).chmod(0o755)
    (tmp_path / "waits_for_go.py").write_text(PATIENT.format(go=str(tmp_path / "go")))
    (tmp_path / "waits.yaml").write_text(SWEEP)
    job = str(os.getpid())
    added = {"SLURM_JOB_ID": job, "SLURM_JOB_NODELIST": "one,two", "SLURM_CPUS_PER_TASK": "1"}
    added |= {"CALLS": str(tmp_path / "calls"), "SLURM_ARRAY_JOB_ID": job, "RAY_worker_niceness": "0", "PATIENCE": "2"}
    paths = os.pathsep.join([str(stand_ins), str(BIN), os.environ["PATH"]])
    return {name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | added | {"PATH": paths}


def results(folder: Path) -> int:
    """The number of jobs that have results."""
    try:
        return int(table(str(folder / "out"), "results").collect()["job"].n_unique())
    except UserError:  # no store yet
        return 0


@pytest.mark.slow
@pytest.mark.xdist_group("ray")
def test_a_slurm_job_that_is_preempted_is_queued_again_and_goes_on(slurm, tmp_path, monkeypatch):
    """A head and a worker by real Ray, with the job's own token, of which nothing is left. Two packs are done when it
    is ended, one waits.
    """
    command = [str(FOLDER / "slurm.sh"), "waits.yaml", "--out", "out", "--mlflow", "off"]
    with (tmp_path / "log").open("w") as log:
        job = subprocess.Popen(command, cwd=tmp_path, env=slurm, stdout=log, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + 240
        while results(tmp_path) < 4 and time.monotonic() < deadline:
            assert job.poll() is None, (tmp_path / "log").read_text()
            time.sleep(0.2)
        job.send_signal(signal.SIGTERM)
        try:
            code = job.wait(100)
        finally:
            job.kill()
    said = (tmp_path / "log").read_text()
    assert code == 3, said
    assert results(tmp_path) == 4, said
    assert (tmp_path / "calls").read_text() == f"requeue {slurm['SLURM_JOB_ID']}\n", said
    left = subprocess.run(["pgrep", "-f", f"ray-{slurm['SLURM_JOB_ID']}/"], capture_output=True, text=True).stdout
    assert left == ""
    assert not Path(f"/tmp/ray-{slurm['SLURM_JOB_ID']}").exists()
    (tmp_path / "go").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    again = lfombench("run", "waits.yaml", "--out", "out", "--mlflow", "off", "--workers", "0")
    assert "6 jobs, 4 done, 2 to run" in again.stdout, again.stdout + again.stderr
    assert again.returncode == 0


@pytest.mark.slow
@pytest.mark.xdist_group("ray")
def test_the_elements_of_a_slurm_array_share_a_sweep(slurm, tmp_path):
    (tmp_path / "go").touch()
    command = [str(FOLDER / "slurm_array.sh"), "waits.yaml", "--out", "out", "--mlflow", "off", "--workers", "0"]
    elements = [
        subprocess.Popen(command, cwd=tmp_path, env=slurm | {"SLURM_ARRAY_TASK_ID": str(i)}, stdout=subprocess.PIPE)
        for i in range(2)
    ]
    said = [one.communicate(timeout=200)[0].decode() for one in elements]
    assert [one.returncode for one in elements] == [0, 0], said
    assert table(str(tmp_path / "out"), "jobs").collect()["job"].n_unique() == 6
    assert lfombench("status", "--out", str(tmp_path / "out")).returncode == 0


@pytest.mark.parametrize("script", [path.name for path in SCRIPTS])
def test_without_a_sweep_a_script_says_how_it_is_used(script):
    done = subprocess.run([str(FOLDER / script)], capture_output=True, text=True, env=os.environ)
    assert done.returncode == 2
    assert "usage: sbatch" in done.stderr
