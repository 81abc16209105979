# The project's commands. They need Python 3.11 or newer and nothing else: what they use is installed into .venv.
#
#   make run     serve the example project on 127.0.0.1:8080
#   make test    run the tests
#   make chaos   kill and disturb a site's processes for SECONDS, and print what was lost
#   make bench   measure, side by side with the reference; QUICK=1 takes two minutes, ONLY=run,wake chooses,
#                STRICT=1 fails where a target is missed
#   make bench-page    write docs/performance.md and its plots from the last result
#   make lint    check style and types
#   make docs    build the documentation into site/
#   make axe     install axe-core, with which the browser tests look for barriers (needs npm)
#   make screenshots   take the documentation's pictures anew (needs chromium)
#   make clean   remove all that these commands have made, the example's database too
#
# Variables: PYTHON (the interpreter that .venv is made with), VENV (where it is made), DATABASE_VENDOR (for test and
# chaos: sqlite, postgresql or mariadb), TESTS (arguments for pytest, for instance TESTS="tests/acceptance -x"),
# SECONDS, SEED and PROCESSES (of chaos). Address and port of `make run` come from the environment:
# WORKFLOWS_PY_SERVER_HOST and WORKFLOWS_PY_SERVER_PORT.

PYTHON ?= python3
VENV ?= .venv
TESTS ?=
SECONDS ?= 60
PROCESSES ?= 3

BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help run test chaos bench bench-page bench-installed lint docs axe screenshots clean

# The driver is compiled, so it is installed only for those who ask for that database.
ifeq ($(DATABASE_VENDOR),mariadb)
DRIVER := $(INSTALLED)-mariadb
endif

help:
	@sed -n 's/^#   //p' Makefile

run: $(INSTALLED)-run
	$(BIN)/python manage.py migrate --verbosity 0
	$(BIN)/python manage.py runworkflows

test: $(INSTALLED)-test $(DRIVER)
	$(BIN)/python -m pytest $(TESTS)

chaos: $(INSTALLED)-test $(DRIVER)
	$(BIN)/python -m tests.acceptance --seconds $(SECONDS) --processes $(PROCESSES) $(if $(SEED),--seed $(SEED))

# With what a site has installed, and no more: Django REST framework and httpx import much of what the tests need.
BENCH := .venv-bench

bench: bench-installed
	$(BENCH)/bin/python -m benchmarks $(if $(QUICK),--quick) $(if $(ONLY),--only $(ONLY)) $(if $(STRICT),--strict)

bench-page: bench-installed
	$(BENCH)/bin/python -m benchmarks.page

bench-installed:
	@$(MAKE) --no-print-directory VENV=$(BENCH) $(BENCH)/.installed-bench

# Types are checked with the optional servers installed, which only the test group has.
lint: $(INSTALLED)-test $(INSTALLED)-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(INSTALLED)-docs
	$(BIN)/mkdocs build --strict

# For the tests alone: nothing of it is shipped.
axe: node_modules/axe-core/axe.min.js

node_modules/axe-core/axe.min.js:
	npm install --no-save --no-package-lock --no-audit --no-fund axe-core@4.10

screenshots: $(INSTALLED)-test
	$(BIN)/python -m tests.browser.screenshots

clean:
	rm -rf $(VENV) .venv-* site build dist test-output node_modules .mypy_cache .pytest_cache .ruff_cache .hypothesis
	rm -f example.sqlite3 example.sqlite3-shm example.sqlite3-wal
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --- what is installed; a stamp for each, so that it is done once and again after a change of pyproject.toml ---

$(INSTALLED)-pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed: make PYTHON=python3.11 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
# Dependency groups need pip 25.1.
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	@touch $@

$(INSTALLED)-run: pyproject.toml | $(INSTALLED)-pip
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(INSTALLED)-%: pyproject.toml | $(INSTALLED)-pip
	$(BIN)/python -m pip install --quiet --editable . --group $*
	@touch $@
