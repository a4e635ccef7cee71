# `make demo` and `make test` are all a new user needs; both set up .venv first, the demo without
# the tools of tests and lint.
PYTHON ?= python3
BIN := .venv/bin
DEMO := runs/demo

PIP_INSTALL := pip install --quiet --disable-pip-version-check
PYTEST := -m pytest -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: demo test test-fast test-oldest test-newest wheel-check lint docs setup tools clean

setup: .venv/ready

tools: .venv/tools

.venv/ready: setup.cfg pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("drc_jax needs Python 3.11 or newer, got " + sys.version) if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv .venv
	$(BIN)/$(PIP_INSTALL) -e .
	touch $@

.venv/tools: .venv/ready
	$(BIN)/$(PIP_INSTALL) -e '.[dev]'
	touch $@

demo: setup
	$(BIN)/python -m experiments.train --config=configs/demo.py --workdir=$(DEMO)
	$(BIN)/python -m experiments.evaluate --workdir=$(DEMO)

test: tools
	$(BIN)/python $(PYTEST) $(TESTS)

# What a minute can tell: everything but the files that conftest.py names as long.
test-fast: tools
	$(BIN)/python $(PYTEST) -m 'not slow'

# All tests with the oldest packages that setup.cfg allows, and with the newest there are for
# $(PYTHON), each in an environment of its own; TESTS=tests/ops takes some of them.
test-oldest test-newest:
	$(PYTHON) -m venv build/$@
	$(if $(filter %oldest,$@),$(PYTHON) .ci/oldest.py) > build/$@/constraints.txt
	build/$@/bin/$(PIP_INSTALL) -U -c build/$@/constraints.txt -e '.[dev]'
	build/$@/bin/python $(PYTEST) $(TESTS)

# Builds the wheel, and tries it where nothing else of this folder can be seen.
wheel-check:
	rm -rf build/wheel build/lib
	$(PYTHON) -m venv build/wheel
	build/wheel/bin/$(PIP_INSTALL:install=wheel) --no-deps --wheel-dir build/wheel .
	build/wheel/bin/$(PIP_INSTALL) build/wheel/drc_jax-*.whl
	build/wheel/bin/python -I .ci/try_wheel.py

lint: tools
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The site in build/site; a broken link fails.
docs: setup
	$(BIN)/$(PIP_INSTALL) -e '.[docs]'
	$(BIN)/python -m mkdocs build --strict

clean:
	rm -rf .venv runs build
