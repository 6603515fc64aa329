# `make help` lists the targets. Other targets install missing dependencies first.

SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.set-up
# The first of these interpreters that is new enough; PYTHON=… selects another.
CANDIDATES := python3 python3.13 python3.12 python3.11
PYTHON ?=
# The number of test processes, each with its own servers; tests wait more than they compute. Tests that kill processes
# run after the others, two at a time, because they need processes to restart quickly.
JOBS ?= 3
PYTEST := $(BIN)/python -m pytest
# A test that fails while others keep the processors busy is run again with nothing beside it. Both results are printed.
ALONE := { test $$? = 1 && echo "These tests failed. Now each is run again, alone:" && $(PYTEST) --last-failed --last-failed-no-failures none; }
# Otherwise each process that a test or the demo starts would compile every module again.
export PYTHONDONTWRITEBYTECODE :=
COMPILE := --quiet --upgrade --universal --generate-hashes --no-header --no-annotate

.DEFAULT_GOAL := help
.PHONY: help setup demo up test sure bench bench-growth docs lock format clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## Install all dependencies into .venv, from the lock file
	@:

$(STAMP): requirements-dev.lock pyproject.toml
	@set -e; \
	python="$(PYTHON)"; \
	for candidate in $(if $(PYTHON),,$(CANDIDATES)); do \
		if $$candidate -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then python=$$candidate; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
		echo "Tidings needs Python 3.11 or later, and none of $(CANDIDATES) is: install one, or name it: make setup PYTHON=…" >&2; \
		exit 1; \
	fi; \
	if ! [ -x $(BIN)/python ] && ! $$python -m venv $(VENV); then \
		rm -rf $(VENV); \
		echo "$$python cannot make a virtual environment: install its venv module (Debian and Ubuntu: python3-venv)." >&2; \
		exit 1; \
	fi; \
	echo "Setting up $(VENV) with $$($(BIN)/python --version), a minute or so"; \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock; \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .; \
	touch $@

demo: setup ## Simulate all providers on throwaway data and show the results (ONCE=1: check them, then exit)
	@$(BIN)/tidings demo $(if $(ONCE),--once)

up: setup ## Run the whole system, with its data in .tidings/
	@$(BIN)/tidings up

test: setup ## Run all tests, on real servers and workers
	@$(if $(TESTS),$(PYTEST) $(TESTS),$(PYTEST) --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder --ignore tests/chaos || $(ALONE))
	@$(if $(TESTS),,$(PYTEST) --numprocesses 2 tests/chaos || $(ALONE))

sure: setup ## Run formatter, linters, type checker and tests; do this before every commit
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(MAKE) --no-print-directory test

bench: setup ## Run the benchmarks against the usual way; writes bench/RESULTS.md
	@$(BIN)/python -m bench

bench-growth: setup ## Run the benchmark with a history of ten million events; writes bench/GROWTH.md
	@$(BIN)/python -m bench.growth

docs: setup ## Generate the documentation pages that come from tables in the code
	@$(BIN)/python -m cli.docs_page

format: setup ## Format the code and apply automatic fixes
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

lock: setup ## Update the lock files from pyproject.toml
	@$(BIN)/python -m venv $(VENV)/lock
	@$(VENV)/lock/bin/python -m pip install --quiet --disable-pip-version-check uv==0.13.9
	@$(VENV)/lock/bin/uv pip compile $(COMPILE) pyproject.toml --output-file requirements.lock
	@$(VENV)/lock/bin/uv pip compile $(COMPILE) --extra dev pyproject.toml --output-file requirements-dev.lock
	@rm -rf $(VENV)/lock

clean: ## Remove .venv and all caches, but keep .tidings, the data of `make up`
	@rm -rf $(VENV) *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
