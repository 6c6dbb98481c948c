# What people run. Python 3.11 or newer and make are all that is needed; everything else comes with the first target.
.DEFAULT_GOAL := help
.PHONY: help install lock demo test check bench bench-peers fidelity clean
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
# Containers often forbid Python to keep bytecode, and uv makes none: each of the many processes that servers, benches and tests
# start would then compile all that it imports (torchvision: 8.6 s of processor time in place of 3.5).
unexport PYTHONDONTWRITEBYTECODE

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV_VERSION := 0.13.9
TEST ?= tests
JOBS ?= $(shell expr $$(nproc) + 1)
ROUNDS ?= 5
PORT ?= 8080

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 18

$(VENV)/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if (3, 11) <= v < (3, 15) else f"dlserve needs Python 3.11 to 3.14, $(PYTHON) is {v.major}.{v.minor}: make PYTHON=python3.11 ...")'
	@echo "installing into $(VENV) (PyTorch is large: this is the longest step)"
	@$(PYTHON) -m venv --clear $(VENV) || { echo "make: $(PYTHON) cannot make virtual environments; on Debian: apt-get install python3-venv" >&2; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	$(BIN)/uv pip install --python $(BIN)/python --require-hashes -r requirements.lock
	$(BIN)/uv pip install --python $(BIN)/python --quiet --no-deps --no-build-isolation --editable .
	@touch $@

install: $(VENV)/.installed ## make the virtual environment .venv and install the pinned dependencies

lock: ## resolve the dependencies again into requirements.lock (hashes, no host names)
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --all-extras --generate-hashes --no-header --no-annotate --no-emit-index-url pyproject.toml -o requirements.lock

test: install ## run every test, JOBS at a time (default: the cores and one), TEST=tests
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(TEST)

check: install ## formatting, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

demo: install ## serve four small models, stream warm and cold at them, and report: results/demo (PORT=8080)
	@$(BIN)/python -m dlclient.demo --port $(PORT)

bench: install ## what the server, a cold reload and dlbench cost, as ratios measured in one run: results/serving and others (needs wrk); ROUNDS=5
	@$(BIN)/python server/benchmarks/serving.py --rounds $(ROUNDS)
	@$(BIN)/python server/benchmarks/front_ends.py --rounds $(ROUNDS)
	@$(BIN)/python server/benchmarks/reload.py
	@$(BIN)/python server/benchmarks/overload.py
	@$(BIN)/python server/benchmarks/prediction.py --rounds $(ROUNDS)
	@$(BIN)/python server/benchmarks/starvation.py
	@$(BIN)/python clients/benchmarks/overhead.py --rounds $(ROUNDS)

bench-peers: install ## the same model on other Python servers, in environments of their own (.peers), beside this one: results/peers; ROUNDS=5
	@$(BIN)/python server/benchmarks/peers_bench.py --rounds $(ROUNDS)

fidelity: install ## how close the stream's figures come to the truth here, and what it costs (needs wrk and a quiet machine); ROUNDS=5
	@$(BIN)/python -m tests.loadgen.fidelity --rounds $(ROUNDS)

clean: ## delete the environment, caches and the demo's results
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache results/demo
