# The project's commands. They need Python 3.11 or newer and nothing else: what they use is installed into .venv.
#
#   make run     serve the example project on 127.0.0.1:8080
#   make test    run the tests
#   make lint    check style and types
#   make docs    build the documentation into site/
#   make clean   remove all that these commands have made, the example's database too
#
# Variables: PYTHON (the interpreter that .venv is made with), VENV (where it is made), TESTS (arguments for
# pytest, for instance TESTS="tests/contracts -x"). Address and port of `make run` come from the environment:
# WORKFLOWS_PY_SERVER_HOST and WORKFLOWS_PY_SERVER_PORT.

PYTHON ?= python3
VENV ?= .venv
TESTS ?=

BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help run test lint docs clean

help:
	@sed -n 's/^#   //p' Makefile

run: $(INSTALLED)-run
	$(BIN)/python manage.py migrate --verbosity 0
	$(BIN)/python manage.py runworkflows

test: $(INSTALLED)-test
	$(BIN)/python -m pytest $(TESTS)

# Types are checked with the optional servers installed, which only the test group has.
lint: $(INSTALLED)-test $(INSTALLED)-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(INSTALLED)-docs
	$(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV) .venv-* site build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
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
