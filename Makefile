# `make plan` answers the main question; `make test` runs the tests. Both build their own environment first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: plan test check bench demo monitor dashboards clean vllm-cpu test-vllm study-cpu

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
	$(BIN)/ruff check planner loadtests dashboards tests tools deploy
	$(BIN)/ruff format --check planner loadtests dashboards tests tools deploy
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.planner
	$(BIN)/python -m tools.bench

# The whole loop in one terminal: plan, emulated server, load test, calibrate, plan again.
demo: $(VENV)/.planner
	$(BIN)/python tools/demo.py

# An emulated fleet under load with exporter, Prometheus and live page, until Ctrl-C; needs Debian's prometheus package.
# PORT=9596 for another port.
monitor: $(VENV)/.planner
	$(BIN)/python -m tools.monitor $(if $(PORT),--port $(PORT))

# The Grafana dashboards and alert rules in dashboards/, written anew.
dashboards: $(VENV)/.tools
	$(BIN)/python -m dashboards.build

# Real vLLM on the CPU in an environment of its own (Linux, AVX-512, 5 GiB), and the tests against it.
vllm-cpu:
	$(PYTHON) tools/vllm_cpu/prepare.py

test-vllm: vllm-cpu $(VENV)/.tools
	TEST_VLLM=1 $(BIN)/python -m pytest -n 0 tests/vllm

# Calibrated predictions against five repeats on real vLLM, some 30 minutes; writes docs/cpu-study.md.
study-cpu: vllm-cpu $(VENV)/.planner
	$(BIN)/python -m tools.cpu_study.record --out build/cpu-study
	$(BIN)/python -m tools.cpu_study.page --records build/cpu-study

clean:
	rm -rf $(VENV) dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis
