# `make help` says what there is. Everything else sets up first whatever is missing.

SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.set-up
# The first of these that is new enough; PYTHON=… names another.
CANDIDATES := python3 python3.13 python3.12 python3.11
PYTHON ?=
# So many processes run the tests, each on servers of its own; they wait more than they work. Those that kill processes
# run after the others and two at a time: they count on a machine that lets their own come back soon.
JOBS ?= 3
COMPILE := --quiet --upgrade --universal --generate-hashes --no-header --no-annotate

.DEFAULT_GOAL := help
.PHONY: help setup demo up test sure bench docs lock format clean

help: ## Show what there is
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## Install everything into .venv, from the lock
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

demo: setup ## Play all providers on throwaway data and show what became of each message (ONCE=1: check, then end)
	@$(BIN)/tidings demo $(if $(ONCE),--once)

up: setup ## Run the whole system, with its data in .tidings/
	@$(BIN)/tidings up

test: setup ## Run all tests, on real servers and workers
	@$(BIN)/python -m pytest $(or $(TESTS),--numprocesses $(JOBS) --dist loadfile --ignore tests/chaos)
	@$(if $(TESTS),,$(BIN)/python -m pytest --numprocesses 2 tests/chaos)

sure: setup ## Format, lint, types, imports, tests: before every commit
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(MAKE) --no-print-directory test

bench: setup ## Measure, side by side with the usual way; writes bench/RESULTS.md
	@$(BIN)/python -m bench

docs: setup ## Write the pages that are made of tables in the code
	@$(BIN)/python -m cli.docs_page

format: setup ## Format, and repair what can be repaired
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

lock: setup ## Renew the locks from pyproject.toml
	@$(BIN)/python -m venv $(VENV)/lock
	@$(VENV)/lock/bin/python -m pip install --quiet --disable-pip-version-check uv
	@$(VENV)/lock/bin/uv pip compile $(COMPILE) pyproject.toml --output-file requirements.lock
	@$(VENV)/lock/bin/uv pip compile $(COMPILE) --extra dev pyproject.toml --output-file requirements-dev.lock
	@rm -rf $(VENV)/lock

clean: ## Remove .venv and all caches; .tidings, the data of `make up`, stays
	@rm -rf $(VENV) *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
