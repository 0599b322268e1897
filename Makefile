# Every target sets up .venv itself, from requirements/test.txt and nothing else.

.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

BIN := .venv/bin
READY := .venv/.ready
CODE := $(wildcard gateway tests bench)

# Bytecode is kept, whatever the environment says: the suite starts Python some hundreds of times.
unexport PYTHONDONTWRITEBYTECODE

# The first Python on PATH that is new enough; a name may be there and not work (pyenv).
define FIND_PYTHON
for python in python3.11 python3.12 python3.13 python3 ""; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break; \
done; \
test -n "$$python" || { echo "make: Python 3.11 or newer is needed, and is not on PATH" >&2; exit 1; }
endef

.PHONY: help demo test suite lint types bench soak conformance month planted lock clean

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1\t\2/p' Makefile | expand -t 12

demo: $(READY) ## start Valkey, the gateway, nginx and an application; Ctrl-C ends all
	@$(BIN)/python -m gateway.demo

# What mypy says comes between the dots: one process at work would leave the other cores idle.
test: lint ## lint, types, and the whole suite except the long runs
	@$(MAKE) --no-print-directory --jobs 2 types suite

suite: $(READY)
	$(BIN)/python -m pytest -n auto --dist worksteal

lint: $(READY) ## ruff
	$(BIN)/ruff check $(CODE)

types: $(READY) ## mypy --strict
	$(BIN)/mypy $(CODE)

bench: $(READY) ## the benchmark table
	$(BIN)/python -m bench

soak: $(READY) ## the long runs under faults
	$(BIN)/python -m pytest tests/soak -m soak --timeout 0

conformance: $(READY) ## every bypass on every proxy; writes the table in docs/conformance.md
	$(BIN)/python -m tests.adversarial table --write

month: $(READY) ## the alert rules over a synthetic month of 10,000 users: found, missed, false
	@$(BIN)/python -m tests.alerts.month

planted: $(READY) ## break the gateway in many ways; each must turn a bypass test red
	$(BIN)/python -m tests.adversarial planted

# The project itself needs no network: its build backend is in the lock too.
$(READY): requirements/test.txt pyproject.toml
	@$(FIND_PYTHON); rm -rf .venv; "$$python" -m venv .venv
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/test.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

# Without the options that a developer's own pip settings add: no address in the lock files.
LOCK := .venv-lock/bin/pip-compile --quiet --no-header --no-emit-options --generate-hashes \
	--strip-extras --allow-unsafe --annotation-style line
TEST_EXTRAS := build,demo,grpc,otel,speed,test,ua

lock: ## resolve the dependencies anew (UPGRADE=--upgrade takes newer ones)
	@$(FIND_PYTHON); "$$python" -m venv .venv-lock
	.venv-lock/bin/python -m pip install --quiet pip-tools
	$(LOCK) $(UPGRADE) --extra $(TEST_EXTRAS) --output-file requirements/test.txt pyproject.toml
	$(LOCK) --constraint requirements/test.txt --extra build,grpc,speed,ua \
		--output-file requirements/run.txt pyproject.toml

clean: ## remove everything that was made here
	rm -rf .venv .venv-lock build dist *.egg-info .hypothesis .schemathesis
	rm -rf .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -prune -exec rm -rf {} +
