# `make verify` and `make test` need only make, python3 with venv, and binutils (OpenCL kernels are linked by ld).
# Each sets up .venv by itself; it is set up again when pyproject.toml or constraints.txt changes, or the folder moves.

PYTHON ?= python3
ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
# Scripts and the editable install hold absolute paths, so a moved checkout needs its own stamp.
STAMP := $(VENV)/.ready-$(shell printf '%s' "$(CURDIR)" | cksum | cut -d' ' -f1)
PIP := $(BIN)/python -m pip --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help verify test format asv-publish lint typecheck pytest constraints clean check-python

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

verify: $(STAMP) ## verify every built-in backend on the gate suite (ARGS="smoke --backend naive")
	$(BIN)/convproof verify $(ARGS)

test: lint typecheck pytest ## formatting, lint, types, import direction, tests

lint: $(STAMP) ## ruff and the direction of imports
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports

typecheck: $(STAMP) ## mypy --strict
	$(BIN)/mypy

pytest: $(STAMP) ## the tests and the docstrings' examples (ARGS="-k settings")
	$(BIN)/python -m pytest -n 2 $(ARGS)

format: $(STAMP) ## format the code, and bring the README's generated tables up to date
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/python -m reports.capabilities --write
	$(BIN)/python -m reports.benchmarks.generate

asv-publish: $(STAMP) ## publish asv's results; fails where a benchmark got slower, less accurate or fails
	$(BIN)/python -m reports.benchmarks.publish

constraints: check-python ## pin the newest versions in constraints.txt
	rm -rf $(VENV)-pins
	$(PYTHON) -m venv $(VENV)-pins
	$(VENV)-pins/bin/python -m pip --disable-pip-version-check install -q '.[dev]'
	{ sed -n '/^#/p' constraints.txt; $(VENV)-pins/bin/python -m pip freeze --exclude convproof; } > $(VENV)-pins/new
	mv $(VENV)-pins/new constraints.txt
	rm -rf $(VENV)-pins build

clean: ## remove .venv and what tools left behind
	rm -rf $(VENV) $(VENV)-pins build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

check-python:
	@command -v $(PYTHON) >/dev/null 2>&1 || { \
	  echo "convproof: there is no $(PYTHON): apt-get install make python3-venv binutils (or make PYTHON=/path/to/python3)" >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "convproof: $$($(PYTHON) -V) is too old, 3.11 or later is needed: apt-get install python3.11-venv, then make PYTHON=python3.11" >&2; exit 2; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
	  echo "convproof: $(PYTHON) has no venv module: apt-get install python3-venv" >&2; exit 2; }

$(STAMP): pyproject.toml constraints.txt
	@$(MAKE) --no-print-directory check-python
	@echo "convproof: setting up $(VENV); the first time takes a few minutes"
	@$(BIN)/python -c '' 2>/dev/null || { rm -rf $(VENV); $(PYTHON) -m venv $(VENV); }
	$(PIP) install -q -c constraints.txt -e '.[dev]'
	@touch $@
