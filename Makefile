# make run: the main job.  make test: the tests.  Both set everything up first; a second time that is instant.
VENV   ?= .venv
OUT    ?= out
PYTHON ?= python3
BIN     = $(VENV)/bin
UV     := $(shell command -v uv 2>/dev/null)

.PHONY: setup run test check chaos simulate cluster-demo image audit bench gpu pythons types clean

setup: $(VENV)/.ready

# uv does not read pip's find-links, so it is passed on: where pip finds a CPU build of torch, uv shall too.
ifdef UV
INSTALL = UV_FIND_LINKS="$(PIP_FIND_LINKS)" uv pip install --quiet --python $(BIN)/python
else
INSTALL = $(BIN)/python -m pip install --quiet --no-compile
endif

$(VENV)/.ready: pyproject.toml
ifdef UV
	test -x $(BIN)/python || uv venv --quiet --python '>=3.11' $(VENV)
else
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python >= 3.11 is needed, $(PYTHON) is older: install one, or uv, or say make PYTHON=..."; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV): some minutes the first time"
endif
	$(INSTALL) -e '.[dev]'
	@$(BIN)/python -m compileall -q -j 0 $(VENV)/lib >/dev/null || true  # on all cores; templates among it are no Python
	touch $@

run: setup
	$(BIN)/lfombench run fig1 --out $(OUT)

test: setup
	$(BIN)/python -m pytest -n 2 --dist loadgroup $(TEST_OPTIONS)

check: setup types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# mypy does not follow an editable install with mapped folders; a folder of links shows it the package as installed.
types: setup
	mkdir -p build/types/lfombench
	ln -sf ../../../api/__init__.py ../../../api/__main__.py ../../../api/py.typed build/types/lfombench/
	for folder in harness tasks solvers analysis cluster; do ln -sfn ../../../$$folder build/types/lfombench/$$folder; done
	MYPYPATH=build/types $(BIN)/mypy --explicit-package-bases -p lfombench
	MYPYPATH=build/types $(BIN)/mypy --explicit-package-bases --exclude tests/chaos/broken tests
	MYPYPATH=build/types:benchmarks $(BIN)/mypy benchmarks

# A hundred storms: seeded disturbances to real runs, from a printed seed (CHAOS_SEED=... to repeat them).
chaos: setup
	CHAOS_STORMS=$${CHAOS_STORMS:-100} $(BIN)/python -m pytest -s tests/chaos tests/harness/scheduler/test_autoscaler.py

# How often what boards say is false, and how often what is true is found: a thousand simulated sweeps of each kind.
simulate: setup
	$(BIN)/python -m tests.simulations $(SIMULATE_OPTIONS)

# A story on a cluster of three nodes on this machine: doctor, two sweeps that share it, a node that dies, the results.
cluster-demo: setup
	$(BIN)/python -m tests.cluster.story

# The Dockerfile's steps in clean roots of Debian: needs root and debootstrap, no container runtime.
image: setup
	$(BIN)/python -m tests.cluster.image $(IMAGE_OPTIONS)

# What is known to be vulnerable of what is installed, by PyPI's database. CVE-2023-48022 is Ray's trust in who reaches
# it, in all versions and disputed; docs/security.md says what we make of it.
audit: setup
	test -x build/audit/bin/pip-audit || { $(BIN)/python -m venv build/audit && build/audit/bin/pip install --quiet pip-audit; }
	build/audit/bin/pip-audit --path $$($(BIN)/python -c 'import site; print(site.getsitepackages()[0])') \
		--skip-editable --progress-spinner off --ignore-vuln CVE-2023-48022

bench: setup
	$(INSTALL) -e '.[bench]'
	$(BIN)/python benchmarks/run.py

# Other Pythons, as PYTHONS="python3.12 python3.13": each gets an installation of its own, a gigabyte or more.
pythons: setup
	LFOMBENCH_PYTHONS="$(PYTHONS)" $(BIN)/python -m pytest tests/test_pythons.py

# On a machine with a GPU, without setup or network: python3 has PyTorch with CUDA, WHEELS has what it lacks besides.
gpu:
	$(PYTHON) benchmarks/gpu.py --wheels "$(WHEELS)" $(GPU_OPTIONS)

clean:
	rm -rf build $(VENV) *.egg-info
