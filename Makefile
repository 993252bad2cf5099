# One environment in .venv, made when it is first needed and again when its inputs change. The demo needs no more than
# the package; everything else also needs the development tools. What is imported is compiled then, not all of it here.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PACKAGE := $(VENV)/.package
INSTALLED := $(VENV)/.installed
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --no-compile --constraint constraints.txt
DEMO := demo
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses=2 --dist=worksteal

.DEFAULT_GOAL := help
.PHONY: help install demo test test-all test-gpu lint format types bench house pages pictures clean

help:  ## List the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: $(INSTALLED)  ## Create .venv and install the package with its development tools

$(INSTALLED): $(PACKAGE)
	$(PIP) --editable '.[dev]'
	touch $@

$(PACKAGE): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("rfdetr-hwd needs Python 3.11 or newer: make PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(PIP) --editable .
	touch $@

demo: $(PACKAGE)  ## Train, evaluate and predict on the built-in dataset, in demo/
	rm -rf $(DEMO)
	$(BIN)/rfdetr-hwd data demo --out $(DEMO)/data
	$(BIN)/rfdetr-hwd train --config configs/demo.yaml data.root=$(DEMO)/data output.dir=$(DEMO)/run
	$(BIN)/rfdetr-hwd evaluate --weights $(DEMO)/run --out $(DEMO)/evaluation
	$(BIN)/rfdetr-hwd predict $(DEMO)/data/test --weights $(DEMO)/run --out $(DEMO)/pictures

test: $(INSTALLED) lint types  ## Lint, check types and run the tests, without a GPU and without network
	$(PYTEST) -m "not gpu and not slow"

test-all: $(INSTALLED) lint types  ## Run all tests, the slow reliability tests included: half an hour on 2 cores
	$(PYTEST) -m "not gpu"

test-gpu: $(INSTALLED)  ## Run the tests that need a CUDA device
	$(BIN)/pytest -m gpu

lint: $(INSTALLED)  ## Check code style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(INSTALLED)  ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(INSTALLED)  ## Check types
	$(BIN)/mypy

bench: $(INSTALLED)  ## Benchmark the downsamplers against the stock convolution, into benchmarks/
	$(BIN)/rfdetr-hwd benchmark op --out benchmarks

house: $(INSTALLED)  ## Measure the structure of the package against its targets
	$(BIN)/python scripts/measure_house.py

pages: $(INSTALLED)  ## Regenerate the generated pages in docs/
	$(BIN)/python scripts/write_configuration_page.py
	$(BIN)/python scripts/write_benchmarks_page.py
	$(BIN)/python scripts/draw_architecture.py

pictures: demo  ## Regenerate the pictures in docs/ (trains the demo, and a tiny model twice)
	cp $(DEMO)/pictures/overview.png docs/demo.png
	$(BIN)/python scripts/draw_hwd.py
	$(BIN)/python scripts/draw_architecture.py
	$(BIN)/python scripts/draw_resume.py

clean:  ## Remove the environment, caches and the demo
	rm -rf $(VENV) demo build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
