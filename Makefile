# Every target does its own set-up: `make run` and `make test` work on a fresh checkout.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.made-from-lock
VERIFIER := .venv-verifier/.made-from-lock
JUDGES := .venv-judges/.made-from-lock
MOTO := .venv-moto/.made-from-lock
NODE_JUDGES := tests/judges/node/node_modules/.made-from-lock
NODE_PEERS := tests/bench/node/node_modules/.made-from-lock
COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --upgrade --exclude-newer "7 days" \
  --generate-hashes --no-annotate --no-header
# A lock file is complete. Resolving it again would let an older pip ask for `name[extra]` of a release
# that came out after the lock was written, and refuse because that has no hash.
PIP_LOCKED = --quiet --require-hashes --no-deps -r
# How many packages a lock file pins; and what is said before a step that is long and silent.
pins = $(shell grep -c '^[A-Za-z0-9._-]*==' $(1))
PATIENCE = this may take minutes and says nothing meanwhile.
# More arguments for pytest: make test ARGS="-m 'not slow' tests/evidence"
ARGS ?=
# pip's settings on a user's machine stay in force (mirrors, proxies); we only silence the upgrade notice.
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help venv run test test-long cover tools check format bench docs lock clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

venv: $(STAMP) ## Make .venv from the hashed lock file (again when the lock or pyproject.toml changed)

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Fengni needs Python 3.11 or newer, and '$(PYTHON)' is" \
	    "$$($(PYTHON) --version 2>&1 || true). Name another one: make PYTHON=python3.12 venv" >&2; exit 1; }
	@test -x $(BIN)/python || { echo "Making the virtual environment .venv."; $(PYTHON) -m venv .venv; }
	@echo "Installing $(call pins,requirements.lock) packages from requirements.lock into .venv; $(PATIENCE)"
	$(BIN)/python -m pip install $(PIP_LOCKED) requirements.lock
	@echo "Installing Fengni itself into .venv."
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

run: venv ## Serve the demo on 127.0.0.1:8000 (embedded default, development keys, demo data)
	@$(BIN)/fengni demo

test: venv tools ## Run every test, with the system tools and judges they need (a sample of some)
	@$(BIN)/python -m pytest $(ARGS)

test-long: venv tools ## Run all of what `make test` samples: every fault, repeated kills, SAMPLE=all
	@FAULTS=all CRASH_ROUNDS=200 SAMPLE=all $(BIN)/python -m pytest $(ARGS) tests/cluster tests/crash
	@SAMPLE=all $(BIN)/python -m pytest $(ARGS) -m sampled tests

cover: venv tools ## Run every test under branch coverage: 100 % in evidence, 90 % elsewhere
	@rm -f .coverage .coverage.*
	@$(BIN)/python -m pytest --cov --cov-report= $(ARGS)
	@$(BIN)/coverage report --include='evidence/*,service/law/*' --fail-under=100
	@$(BIN)/coverage report --omit='evidence/*,service/law/*' --fail-under=90

check: venv ## Lint, format, types, import contracts, architecture and docs tests (under a minute)
	@failed=; for command in "ruff check --output-format concise ." "ruff format --check --output-format concise ." \
	  pyright mypy "lint-imports --no-logo" "python -m pytest -q tests/architecture"; do \
	  echo "== $$command"; $(BIN)/$$command || failed="$$failed [$$command]"; \
	done; test -z "$$failed" || { echo "make check failed:$$failed" >&2; exit 1; }

format: venv ## Let ruff format the tree
	@$(BIN)/ruff format .

bench: venv $(NODE_PEERS) ## Run the benchmarks (they print machine, versions, command and ratios)
	@bash tests/system_tools.sh bench
	@for bench in tests/bench/bench_*.py; do echo "== $$bench"; $(BIN)/python "$$bench"; done

tools: $(VERIFIER) $(JUDGES) $(NODE_JUDGES) $(MOTO) ## Set up the independent tools that the tests call
	@bash tests/system_tools.sh test

# What an outside expert has: a bare environment with the base install's dependencies and nothing else.
$(VERIFIER): requirements-verifier.lock | $(STAMP)
	@test -x .venv-verifier/bin/python || $(PYTHON) -m venv .venv-verifier
	@echo "Installing the verifier's libraries into .venv-verifier; $(PATIENCE)"
	.venv-verifier/bin/python -m pip install $(PIP_LOCKED) requirements-verifier.lock
	@touch $@

$(JUDGES): tests/judges/requirements.txt tests/judges/requirements-tlog.txt | $(STAMP)
	@test -x .venv-judges/bin/python || $(PYTHON) -m venv .venv-judges
	@echo "Installing the independent judges into .venv-judges; $(PATIENCE)"
	.venv-judges/bin/python -m pip install $(PIP_LOCKED) tests/judges/requirements.txt
	.venv-judges/bin/python -m pip install --ignore-requires-python $(PIP_LOCKED) tests/judges/requirements-tlog.txt
	@touch $@

# A mock of S3 that the store's self-test must see through.
$(MOTO): tests/stores/requirements.txt | $(STAMP)
	@test -x .venv-moto/bin/python || $(PYTHON) -m venv .venv-moto
	@echo "Installing the mock of S3 into .venv-moto; $(PATIENCE)"
	.venv-moto/bin/python -m pip install $(PIP_LOCKED) tests/stores/requirements.txt
	@touch $@

%/node_modules/.made-from-lock: %/package-lock.json | $(JUDGES)
	@echo "Installing the Node packages of $*; $(PATIENCE)"
	cd $* && PATH="$(CURDIR)/.venv-judges/bin:$$PATH" npm ci --ignore-scripts --no-audit --no-fund --silent
	@touch $@

docs: venv ## Write the reference pages from the registries that the program uses
	@$(BIN)/python docs/reference/generate.py

lock: venv $(JUDGES) ## Resolve the lock files anew (versions at least a week old, no host named)
	$(COMPILE) pyproject.toml --extra server --extra hsm --extra dev -o requirements.lock
	$(COMPILE) pyproject.toml -o requirements-verifier.lock
	$(COMPILE) pyproject.toml --extra server --extra hsm -o deploy/requirements-server.lock
	$(COMPILE) tests/judges/requirements.in -o tests/judges/requirements.txt
	$(COMPILE) tests/stores/requirements.in -o tests/stores/requirements.txt
	for folder in tests/judges/node tests/bench/node; do \
	  (cd $$folder && PATH="$(CURDIR)/.venv-judges/bin:$$PATH" npm install --package-lock-only --ignore-scripts \
	    --no-audit --no-fund --silent); \
	  $(BIN)/python -c 'import json, pathlib, sys; lock = pathlib.Path(sys.argv[1]); tree = json.loads(lock.read_text()); \
	    [entry.pop("funding", None) for entry in tree["packages"].values()]; \
	    lock.write_text(json.dumps(tree, indent=2) + "\n")' $$folder/package-lock.json; \
	done

clean: ## Remove what the targets made (.venv, caches), never a deployment's data
	rm -rf .venv .venv-judges .venv-moto .venv-verifier build *.egg-info .pytest_cache .ruff_cache .mypy_cache .import_linter_cache \
	  .hypothesis .coverage htmlcov tests/judges/node/node_modules \
	  tests/bench/node/node_modules
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
