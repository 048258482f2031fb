# Every target does its own set-up: `make run` and `make test` work on a fresh checkout.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.made-from-lock
# pip's settings on a user's machine stay in force (mirrors, proxies); we only silence the upgrade notice.
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help venv run test check format bench lock clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

venv: $(STAMP) ## Make .venv from the hashed lock file (again when the lock or pyproject.toml changed)

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Fengni needs Python 3.11 or newer, and '$(PYTHON)' is" \
	    "$$($(PYTHON) --version 2>&1 || true). Name another one: make PYTHON=python3.12 venv" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

clean: ## Remove what the targets made (.venv, caches), never a deployment's data
	rm -rf .venv .venv-judges build *.egg-info .pytest_cache .ruff_cache .mypy_cache .import_linter_cache \
	  .hypothesis .coverage htmlcov tests/judges/node/node_modules
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
