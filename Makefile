# `make plan` answers the main question; `make test` runs the tests. Both build their own environment first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: plan test check bench clean

$(VENV)/.planner: pyproject.toml
	$(PYTHON) -c 'import sys; v = sys.version_info; ok = (3, 11) <= v[:2] <= (3, 13); sys.exit(None if ok else "needs Python 3.11 to 3.13, this is %d.%d: make PYTHON=python3.12 ..." % v[:2])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	touch $@

$(VENV)/.tools: $(VENV)/.planner
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test,check]'
	touch $@

plan: $(VENV)/.planner
	$(BIN)/planner plan examples/ai-search.yaml

test: $(VENV)/.tools
	$(BIN)/python -m pytest -n 2

check: $(VENV)/.tools
	$(BIN)/ruff check planner tests tools
	$(BIN)/ruff format --check planner tests tools
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.planner
	$(BIN)/python tools/bench.py

clean:
	rm -rf $(VENV) dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis
