# make demo   set up, make a small dataset of phantoms, run it, show what came out
# make test   set up, run the tests
# make containers   the tests that need real container engines
# make check  lint, types, spelling
# make bench  every speed claim beside its peers; NAMES="ridge index" for some (docs/benchmarks.md)
PYTHON ?= python3
BIN := .venv/bin
DEMO ?= demo
# One thread per process: the tests and the runs share the cores between processes.
export OMP_NUM_THREADS ?= 1

.PHONY: demo test containers check bench clean

.venv/ready: setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	# torch first: asked for together with others, the registry's newest build with CUDA may be taken
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[all,dev]'
	touch $@

demo: .venv/ready
	$(BIN)/brainstages demo $(DEMO)
	@echo "Open $(DEMO)/derivatives/brainstages.html"

test: .venv/ready
	$(BIN)/python -m pytest -n 2 --dist loadfile --ignore=tests/containers

# Needs docker, apptainer or SLURM on PATH; what is missing is skipped and said.
containers: .venv/ready
	$(BIN)/python -m pytest tests/containers -rs -m "not slow"

check: .venv/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/codespell

# The peers are installed here alone; nothing else should run on the machine meanwhile.
bench: .venv/ready
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	$(BIN)/python -m tests.benchmarks $(NAMES)

clean:
	rm -rf .venv $(DEMO)
