# Everything starts here; each target first makes .venv as uv.lock says (see tools/bootstrap.sh), which takes
# milliseconds once it is there. PYTHON=… picks the interpreter, JOBS=… the number of pytest's workers,
# ARGS=… goes on to the command.

SHELL := /bin/sh
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
BIN := .venv/bin
# One more than there are processors: many tests wait for real processes and clocks.
JOBS ?= $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1)
ARGS ?=
export PYTHON
# The tests start thousands of processes: where nothing may be kept compiled, each spends two thirds of its start on that.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help
help: ## what one can do here
	@sed -n 's/^\([a-z-]*\):[^#]*## /  make \1\t/p' Makefile | expand -t 22

.PHONY: setup
setup: ## .venv, exactly as uv.lock says (every other target does this first)
	@sh tools/bootstrap.sh

.PHONY: demo
demo: setup ## a server, two nodes and five sample schedules on this machine; Ctrl-C drains and stops
	@$(BIN)/python tools/demo.py $(ARGS)

.PHONY: dev
dev: setup ## like demo, and restarts what runs whenever a source file changes
	@$(BIN)/python tools/demo.py --reload $(ARGS)

.PHONY: test
test: lint debian ## everything CI runs: lint, then the whole test suite
	@echo "== pytest"
	@$(BIN)/pytest -n $(JOBS) --dist loadgroup $(ARGS)

.PHONY: test-long
test-long: setup debian ## the tests that take minutes: complete sweeps, long runs
	@$(BIN)/pytest -n $(JOBS) --dist loadgroup -m long $(ARGS)

.PHONY: faults
faults: export FAULTS := $(or $(FAULTS),full)
faults: setup debian var ## the fault suite, the fuzzers and the simulation, with a table at the end (FAULTS=nightly: a night of it)
	@$(BIN)/pytest -n $(JOBS) --dist loadgroup tests/faults tests/fuzz tests/simulation tests/system/test_clock_steps.py $(ARGS)

.PHONY: soak
soak: setup var ## a long run on a fast clock, under churn and kills: does memory grow, do descriptors leak? (MINUTES=10)
	@$(BIN)/python -m tests.soak --minutes $(or $(MINUTES),10) $(ARGS)

.PHONY: mutants
mutants: setup debian var ## put each seeded bug into a scratch copy, and see that a test notices
	@$(BIN)/python -m tests.mutants $(ARGS)

# strace kills a process at a chosen system call, faketime sets its clock, chromium looks at pages. Root gets them
# installed; for others the tests that need one say so and skip.
.PHONY: debian
debian:
	@sh tools/debian.sh strace faketime chromium

.PHONY: screenshots
screenshots: setup debian ## take the documents' pictures of the pages anew (two minutes)
	@$(BIN)/python tools/screenshots.py $(ARGS)

.PHONY: lint
lint: setup ## style, format, types, layers, generated pages
	@echo "== ruff check"
	@$(BIN)/ruff check .
	@echo "== ruff format"
	@$(BIN)/ruff format --check .
	@echo "== mypy"
	@$(BIN)/mypy
	@echo "== import-linter"
	@$(BIN)/lint-imports --no-logo
	@echo "== generated pages"
	@$(BIN)/python tools/gen_docs.py --check

.PHONY: fmt
fmt: setup ## format, fix what ruff can fix, write the generated pages anew
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .
	@$(BIN)/python tools/gen_docs.py

.PHONY: bench
bench: setup var ## W1…W9 of the performance budget against real processes, beside the bare loop
	@$(BIN)/python -m benchmarks run $(ARGS)

.PHONY: bench-quick
bench-quick: setup var ## the same in about a minute
	@$(BIN)/python -m benchmarks run --quick $(ARGS)

# Results go to var/bench; the demo's state directory is the same var/, and has to be private from the start.
var:
	@mkdir -m 700 var

.PHONY: doctor
doctor: ## what this machine has and lacks
	@if [ -x $(BIN)/python ]; then $(BIN)/python tools/doctor.py $(ARGS); else $${PYTHON:-python3} tools/doctor.py $(ARGS); fi

.PHONY: wheel
wheel: setup ## dist/*.whl
	@$(BIN)/uv build --quiet --wheel --no-build-isolation --out-dir dist
	@ls dist/*.whl

.PHONY: clean
clean: ## caches and build results (not .venv, not var/)
	@rm -rf dist build htmlcov .coverage .coverage.* .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	@find . -path ./.venv -prune -o -path ./var -prune -o -type d -name __pycache__ -exec rm -rf {} +

.PHONY: distclean
distclean: clean ## clean, and .venv as well (var/ holds data: remove it yourself)
	@rm -rf .venv
