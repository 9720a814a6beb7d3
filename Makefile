# Everything here works on a machine that has only Python 3.11 or newer and make.

PYTHON ?= python3
VENV := .venv
# Benchmarks of an interpreter that is named have an environment of their own: they may be compared.
ifeq ($(origin PYTHON) $(MAKECMDGOALS),command line bench)
VENV := .venv-$(subst /,-,$(PYTHON:/%=%))
endif
ARGS ?=
ROUNDS ?= 20

.DEFAULT_GOAL := help
.PHONY: help run test test-all soak soak-cluster check lint format bench lock release clean
.DELETE_ON_ERROR:
# Two installations into one environment at the same time would spoil it.
.NOTPARALLEL:

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

# `exec`, so that the server itself, not a shell in between, receives the signals.
run: $(VENV)/run.stamp ## Start the server; settings go in ARGS: make run ARGS="--port 9000"
	@exec $(VENV)/bin/python -m openred_central serve $(ARGS)

test: $(VENV)/test.stamp ## Run all tests; options of pytest go in ARGS: make test ARGS="-k heartbeat"
	@exec $(VENV)/bin/python -m pytest $(ARGS)

# The interpreters of which those that are there run the unit tests: a version is there if it can make an environment.
PYTHONS ?= python3.11 python3.12 python3.13
UNIT_TESTS := tests --ignore=tests/e2e --ignore=tests/house --ignore=tests/benchmarks --ignore=tests/test_packaging.py

test-all: ## Run the unit tests on each of Python 3.11, 3.12 and 3.13 that is installed
	@failed=0; for python in $(PYTHONS); do \
		"$$python" -c 'import venv' 2>/dev/null || { echo "$$python is not installed"; continue; }; \
		echo "$$python:"; \
		$(MAKE) --no-print-directory test PYTHON="$$python" VENV=".venv-$${python##*python}" ARGS="$(or $(ARGS),$(UNIT_TESTS))" || failed=1; \
	done; exit $$failed

soak: $(VENV)/test.stamp ## Run the tests that try harder with time: a hundred times the examples, worlds and kills
	@OPENRED_PROFILE=soak exec $(VENV)/bin/python -m pytest $(or $(ARGS),tests/storage tests/simulation tests/e2e/cluster tests/e2e/test_restart.py tests/e2e/test_schemathesis.py tests/e2e/test_workers_killed.py)

soak-cluster: $(VENV)/soak.stamp ## Kill the primary of a real Patroni under a cluster, ROUNDS times in each mode
	@ROUNDS=$(ROUNDS) exec $(VENV)/bin/python -m pytest tests/soak/deadlines.py tests/soak/rounds.py $(ARGS)

check: lint test ## What must pass before a change goes in: formatting, lint, types, all tests

lint: $(VENV)/dev.stamp ## Check formatting, lint, types, imports and subjects of commits only
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --no-cache --no-logo
	@if git log --max-count=50 --format=%s 2>/dev/null | grep -E '^.{73}'; then \
		echo "These subjects of commits are longer than 72 characters." >&2; exit 1; fi

format: $(VENV)/dev.stamp ## Format the code and fix what can be fixed automatically
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

lock: $(VENV)/dev.stamp ## Pin what the image installs, with hashes, to the newest versions that pyproject.toml allows
	$(VENV)/bin/pip-compile --quiet --upgrade --generate-hashes --allow-unsafe --strip-extras --no-header --no-emit-index-url \
		--no-emit-find-links --build-deps-for wheel --extra postgres --output-file .ci/image-requirements.txt pyproject.toml

bench: $(VENV)/bench.stamp ## Compare the server with others on this machine; options go in ARGS: make bench ARGS="--quick"
	@exec $(VENV)/bin/python -m benchmarks suite $(ARGS)

release: $(VENV)/run.stamp ## Set version, changelog and schema notes, commit and tag: make release VERSION=x.y.z
	@exec $(VENV)/bin/python .ci/release.py $(VERSION)

clean: ## Remove the environment, caches and build products; data/ stays
	rm -rf $(VENV) .venv-* .node build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
	find openred_central tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp says what is installed. It is older than pyproject.toml when that must be done again. An
# installation with the larger extras holds the smaller ones as well, and stamps them too.
$(VENV)/run.stamp: WHAT = .
$(VENV)/run.stamp: STAMPS = run
$(VENV)/test.stamp: WHAT = .[test]
$(VENV)/test.stamp: STAMPS = run test
$(VENV)/soak.stamp: WHAT = .[test,soak]
$(VENV)/soak.stamp: STAMPS = run test soak
$(VENV)/bench.stamp: WHAT = .[bench]
$(VENV)/bench.stamp: STAMPS = run bench
$(VENV)/dev.stamp: WHAT = .[dev]
$(VENV)/dev.stamp: STAMPS = run test dev

$(VENV)/%.stamp: pyproject.toml $(VENV)/python.stamp
	@echo "Installing openred-central into $(VENV) ($*) ..."
	@$(VENV)/bin/python -m pip --quiet --disable-pip-version-check install --editable '$(WHAT)' || { \
		echo "The installation failed, for the reason above. It needs the network; 'make clean' starts over." >&2; exit 1; }
	@touch $(STAMPS:%=$(VENV)/%.stamp)

# An upgrade of the system can take away the Python that the environment was made with; then all begins anew.
ifeq ($(realpath $(VENV)/bin/python),)
.PHONY: $(VENV)/python.stamp
CLEAR := --clear
endif

$(VENV)/python.stamp:
	@command -v "$(PYTHON)" >/dev/null || { \
		echo "There is no $(PYTHON). Install Python 3.11 or newer, or name yours: make PYTHON=/path/to/python3" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "$(PYTHON) is too old: Python 3.11 or newer is needed. Name yours: make PYTHON=/path/to/python3" >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) has no venv and pip. On Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@echo "Creating $(VENV) ..."
	@"$(PYTHON)" -m venv $(CLEAR) $(VENV)
	@touch $@
