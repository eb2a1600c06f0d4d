"""The steps of `cluster/Dockerfile` in clean roots of Debian, without a container runtime: `make image`.

Each stage is a new root from debootstrap; its commands run in it by chroot, as its user, in a mount namespace that ends
with this process. What pip is told on this machine (`PIP_*`, certificates) it is told there too. Needs
root, debootstrap, and some gigabytes of disk. At the end the image's user trains a small sweep.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from string import Template

REPOSITORY = Path(__file__).parents[2]
SWEEP = """\
name: image
protocol: {use: published, steps: 20, batch: 64, test_prompts: 64}
seeds: 2
tasks: [linear_regression: {d: 3, n: 8}]
solvers: [conjugate_gradient: {depth: 2}, linear_transformer: {preconditioner: full, depth: 2}]
"""
MOUNTS = ("/dev", "/dev/pts", "/dev/shm", "/proc", "/sys")


def instructions(text: str) -> Iterator[tuple[str, str]]:
    """The instructions of a Dockerfile: the word, and what follows it."""
    lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    for line in re.sub(r"\\\n", " ", lines).splitlines():
        if line.strip():
            word, _, rest = line.strip().partition(" ")
            yield word, rest.strip()


class Stage:
    """A root, and how commands run in it."""

    def __init__(self, root: Path, image: str) -> None:
        self.root, self.image = root, image
        self.user, self.folder = "0", "/"
        self.environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"}
        self.command: list[str] = []
        self.entry: list[str] = []

    def make(self) -> None:
        """Debian as debootstrap makes it, with this machine's devices, network and word to pip."""
        suite = re.fullmatch(r"debian:([a-z]+)-\d{8}-slim", self.image)
        assert suite, f"{self.image} is not one that this can make"
        subprocess.run(
            ["debootstrap", "--variant=minbase", suite[1], str(self.root)], check=True, stdout=subprocess.DEVNULL
        )
        told = {name: Path(value) for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_CERT_FILE"))}
        self.environment |= {name: str(value) for name, value in told.items()}
        for place in (*map(Path, MOUNTS), *(value for value in told.values() if value.is_dir())):
            inside = self.root / str(place)[1:]
            inside.mkdir(parents=True, exist_ok=True)
            subprocess.run(["mount", "--bind", str(place), str(inside)], check=True)
        shutil.copy("/etc/resolv.conf", self.root / "etc/resolv.conf")
        for name in (name for name, value in told.items() if value.is_file()):
            shutil.copy(told[name], self.root / "etc" / name)  # beside those of Debian, which it makes itself
            self.environment[name] = f"/etc/{name}"

    def run(self, *words: str) -> None:
        """A command as the stage's user, in its folder."""
        inside = ["env", "-i", *(f"{name}={value}" for name, value in self.environment.items()), *words]
        there = ["sh", "-c", 'cd "$0" && exec "$@"', self.folder, *inside]
        subprocess.run(["chroot", f"--userspec={self.user}:{self.user}", str(self.root), *there], check=True)

    def put(self, source: Path, target: str) -> None:
        """Copy a tree to a place in the root."""
        place = self.root / os.path.join(self.folder, target)[1:]
        place.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "-a", f"{source}/.", str(place)], check=True)


def build(text: str, given: dict[str, str], folder: Path) -> Stage:
    """Follow the instructions of a Dockerfile. given: the values of its arguments."""
    stages: dict[str, Stage] = {}
    stage = Stage(folder, "")
    for number, (word, rest) in enumerate(instructions(text)):
        print(f"{word} {rest}", flush=True)
        if word == "FROM":
            image, _, name = rest.partition(" AS ")
            stage = stages[name] = Stage(folder / str(number), image)
            stage.make()
        elif word == "ARG":
            name, _, default = rest.partition("=")
            stage.environment[name] = given.get(name, default)
        elif word == "ENV":
            for name, value in re.findall(r"(\w+)=(\S+)", rest):
                stage.environment[name] = Template(value).substitute(stage.environment)
        elif word == "RUN":
            stage.run("/bin/sh", "-c", rest)
        elif word == "WORKDIR":
            stage.folder = rest
            (stage.root / rest[1:]).mkdir(parents=True, exist_ok=True)
        elif word == "USER":
            stage.user, stage.environment["HOME"] = rest, home(stage.root, rest)
        elif word == "COPY" and rest.startswith("--from="):
            name, source, target = rest.removeprefix("--from=").split()
            stage.put(stages[name].root / source[1:], target)
        elif word == "COPY":
            with tempfile.TemporaryDirectory() as copy:
                tracked = subprocess.run(
                    ["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, check=True
                ).stdout
                subprocess.run(
                    ["cp", "--parents", "-t", copy, *tracked.decode().split("\0")[:-1]], cwd=REPOSITORY, check=True
                )
                stage.put(Path(copy), rest.split()[1])
        else:
            {"ENTRYPOINT": stage.entry, "CMD": stage.command}[word][:] = json.loads(rest)
    return stage


def home(root: Path, user: str) -> str:
    """The home folder of a user, given by number."""
    users = (line.split(":") for line in (root / "etc/passwd").read_text().splitlines())
    return next(line[5] for line in users if line[2] == user)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build-arg", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)  # the folder, in a namespace of its own
    arguments = parser.parse_args()
    if arguments.inside:
        given = dict(word.split("=", 1) for word in arguments.build_arg)
        use(build((REPOSITORY / "cluster/Dockerfile").read_text(), given, arguments.inside))
        return
    if os.geteuid() or shutil.which("debootstrap") is None:
        sys.exit("the image's steps need root, and debootstrap on the path")
    with tempfile.TemporaryDirectory() as folder:  # deleted where nothing of this machine is mounted in it
        namespace = ["unshare", "--mount", sys.executable, "-m", "tests.cluster.image", "--inside", folder]
        sys.exit(subprocess.run([*namespace, *sys.argv[1:]], check=False).returncode)


def use(image: Stage) -> None:
    """What an image is for: its own command, and a sweep by its user."""
    print("The image's own command:", flush=True)
    image.run(*image.entry, *image.command)
    print("A sweep, by the image's user:", flush=True)
    (image.root / image.folder[1:] / "image.yaml").write_text(SWEEP)
    image.run(*image.entry, "lfombench", "run", "image.yaml", "--out", "out")
    size = subprocess.run(["du", "-sxm", str(image.root)], capture_output=True, text=True, check=True).stdout
    print(f"{int(size.split()[0]):,} MiB")


if __name__ == "__main__":
    main()
