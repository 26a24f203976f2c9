# The commands of daily work. Each one sets up what it needs, on a machine with only Python, git and make.
# PYTHON=python3.12 selects the interpreter; ARGS="…" is passed to pytest, the demo or the benchmarks.

.NOTPARALLEL:
.PHONY: help demo level2 test lint bench docs clean ready ready-dev system-parts
.DEFAULT_GOAL := help

help:
	@echo "make demo    the whole loop on a year of real flights: train, serve, watch, retrain"
	@echo "make level2  from a push to production: CI, environments, approvals, promotion, rollback"
	@echo "make test    lint and all tests (ARGS='tests/core -k digest' for some)"
	@echo "make lint    ruff, mypy strict and the import contracts (import-linter)"
	@echo "make bench   a quick run of every benchmark (NAME=serving for one)"
	@echo "make docs    the reference pages of docs/, from docstrings; the documentation site in site/"
	@echo "make clean   delete caches and built files; .venv stays"

demo: ready
	@.venv/bin/tidemill demo $(ARGS)

# Level 2 needs the packages of the extra `delivery`, and pytest.
level2: ready-dev
	@.venv/bin/python -m examples.level2.run $(ARGS)

# The last line is the summary of pytest. tests/conftest.py orders the files. With loadfile, pytest-xdist waits
# for ever for a worker that it started again (its issue 784): the first worker that crashes ends the run, with
# the name of the test.
test: system-parts lint
	@.venv/bin/python -m pytest --numprocesses=2 --dist=loadfile --no-loadscope-reorder --max-worker-restart=0 $(ARGS)

lint: ready-dev
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/lint-imports

NAME ?= $(patsubst benchmarks/%.py,%,$(filter-out benchmarks/_%,$(wildcard benchmarks/*.py)))
bench: ready-dev
	@set -e; for name in $(NAME); do .venv/bin/python -m benchmarks.$$name --quick $(ARGS); done

docs: ready-dev
	@.venv/bin/python scripts/make-docs
	@scripts/build-site

clean:
	rm -rf build dist site .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find src tests benchmarks examples -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

ready:
	@scripts/set-up

ready-dev:
	@scripts/set-up --dev

system-parts:
	@scripts/install-system-parts
