.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
REAL := data/ibug_300w
PHOTOS := $(if $(wildcard $(REAL)),--data $(REAL) --train labels_ibug_300W_train.xml)

.PHONY: help setup run test test-fast test-hard lint bench clean

help:  ## Say what there is to make
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort

$(VENV)/.ready: setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

setup: $(VENV)/.ready  ## Make the virtual environment and install everything

run: setup  ## Run the whole pipeline of params.yaml, a fold on each core
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m stages.parallel

test: setup  ## Run all tests, in two processes
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest -n 2 --dist loadfile

test-fast: setup  ## Run the tests that a person runs while editing, in under 90 seconds
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest -m 'not slow'

test-hard: setup  ## Kill, spoil and tamper, in under 45 minutes; not part of `make test`
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m tests.hard

lint: setup  ## Check style, import direction and types
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/mypy

bench: setup  ## Measure speed and memory, with iBUG's photos where they are, and write benchmarks/RESULTS.md
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/dvc repro sample
	$(BIN)/python benchmarks/bench.py $(PHOTOS)

clean:  ## Remove what the pipeline made; the virtual environment stays
	rm -rf data/sample data/checked.txt data/crops data/folds.csv runs ensemble reports metrics.json logs .resume submissions/submission.*csv
