# make demo    train a network on handwritten digits and show what it learned
# make test    lint, types, tests: what a change must pass
# make help    all targets
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help demo docs test lint types pytest pytest-compiler pytest-others test-parity test-long bench bench-kernels bench-scaling bench-transforms rumelhart format clean

help:  ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: chainrule needs Python 3.11 or newer; try make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@$(BIN)/python -m compileall -q src/chainrule  # as an installed package has it: importing is three times as fast
	@touch $@

$(VENV)/.installed-test: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	@$(BIN)/python -m compileall -q src/chainrule
	@touch $(VENV)/.installed $@

$(VENV)/.installed-parity: $(VENV)/.installed-test
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test,parity]'
	@touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	@touch $@

demo: $(VENV)/.installed  ## train on the digits that the package carries, some seconds
	$(BIN)/chainrule train images digits --out runs/demo-$$(date +%Y%m%d-%H%M%S)

test: lint types pytest  ## lint, types and tests, under 10 minutes

lint: $(VENV)/.installed-test  ## ruff, rules and format
	$(BIN)/ruff check . && $(BIN)/ruff format --check --quiet .

types: $(VENV)/.installed-test  ## mypy, strict
	$(BIN)/mypy

pytest: $(VENV)/.installed-test  ## the tests alone, those of the compiler beside the others
	@$(MAKE) --no-print-directory -j2 pytest-compiler pytest-others

pytest-compiler: $(VENV)/.installed-test
	$(BIN)/python -m pytest -m "not parity and not slow" tests/compiler

pytest-others: $(VENV)/.installed-test
	$(BIN)/python -m pytest -m "not parity and not slow" --ignore tests/compiler

test-parity: $(VENV)/.installed-parity  ## compare with PyTorch (installs it: about 1 GB)
	$(BIN)/python -m pytest -m parity tests/parity

test-long: $(VENV)/.installed-test  ## the slow tests
	$(BIN)/python -m pytest -m slow

bench: $(VENV)/.installed  ## nine training steps beside PyTorch and JAX (installs them); W="w1 w4" for some
	$(BIN)/python benchmarks/bench.py $(W)

bench-kernels: $(VENV)/.installed  ## kernels alone, against the processor's and the memory's limits
	$(BIN)/python benchmarks/kernels.py --json benchmarks/results/kernels.json

bench-scaling: $(VENV)/.installed  ## growth of time and memory, first losses of deep networks, numbers of threads
	$(BIN)/python benchmarks/scaling.py
	$(BIN)/python benchmarks/threads.py

bench-transforms: $(VENV)/.installed  ## cost of vmap, per-sample gradients, attention, memory budgets
	$(BIN)/python benchmarks/transforms.py

rumelhart: $(VENV)/.installed-test  ## the experiments of 1986, 20 seeds each
	$(BIN)/python -m examples.rumelhart1986

docs: $(VENV)/.installed-docs  ## the documentation as a site, site/index.html
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict

format: $(VENV)/.installed-test  ## rewrite the sources in the project's format
	$(BIN)/ruff format . && $(BIN)/ruff check --fix .

clean:  ## remove the environments and caches
	rm -rf $(VENV) benchmarks/.peers .pytest_cache .mypy_cache .ruff_cache .hypothesis site
