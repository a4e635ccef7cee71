# `make demo` and `make test` are all a new user needs; both set up .venv first.
PYTHON ?= python3
BIN := .venv/bin
DEMO := runs/demo

.PHONY: demo test test-fast lint docs setup clean

setup: .venv/ready

.venv/ready: setup.cfg pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("drc_jax needs Python 3.11 or newer, got " + sys.version) if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@

demo: setup
	$(BIN)/python -m experiments.train --config=configs/demo.py --workdir=$(DEMO)
	$(BIN)/python -m experiments.evaluate --workdir=$(DEMO)

test: setup
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# What a minute can tell: everything but the files that conftest.py names as long.
test-fast: setup
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m 'not slow'

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The site in build/site; a broken link fails.
docs: setup
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[docs]'
	$(BIN)/python -m mkdocs build --strict

clean:
	rm -rf .venv runs build
