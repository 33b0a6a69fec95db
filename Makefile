# Every target makes what it needs: only Python >= 3.10, make and git have to be there.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# Compiled extensions of DeepSpeed live in a folder of the project's own.
export TORCH_EXTENSIONS_DIR ?= $(CURDIR)/.extensions
export TOKENIZERS_PARALLELISM ?= false

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-extended lint types format docs bench lock reproduce-multiconer-small clean

help: ## show the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 28

setup: $(READY) ## create the environment in .venv

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	$(BIN)/python -m headrace.training.extensions
	touch $(READY)

demo: $(READY) ## sample corpus -> shards -> selection -> two-stage training on 2 CPU ranks -> report.html
	PATH="$(CURDIR)/$(BIN):$$PATH" scripts/demo.sh

# Two processes share the files out; each computes with one thread.
test: $(READY) ## run the tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

test-extended: $(READY) ## run the tests that make test leaves out for their length
	$(BIN)/python -m pytest -m extended

lint: $(READY) ## check style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY) ## check types
	$(BIN)/mypy

format: $(READY) ## put the code into the house style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(READY) ## generate the config reference
	$(BIN)/python -m headrace.config.reference docs/config_reference.md

bench: $(READY) ## measure the training loop against a bare PyTorch loop
	$(BIN)/python launch/benchmark.py training --quick --json -

reproduce-multiconer-small: $(READY) ## the two-stage experiment on real data (needs HEADRACE_DATA)
	PATH="$(CURDIR)/$(BIN):$$PATH" scripts/reproduce_multiconer_small.sh

lock: $(READY) ## write constraints.txt anew from the ranges in pyproject.toml
	scripts/lock.sh "$(BIN)/python"

clean: ## remove the environment and everything that was made
	rm -rf $(VENV) .extensions .headrace demo .mypy_cache .ruff_cache .pytest_cache .hypothesis
