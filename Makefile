# Two commands on a fresh machine: `make demo` and `make test`. Each sets up what it needs in .venv.
PYTHON ?= python3
BIN := .venv/bin
SUM := $(shell cat pyproject.toml constraints.txt | cksum | cut -d' ' -f1)
RUNTIME := .venv/.runtime-$(SUM)
DEVELOPMENT := .venv/.development-$(SUM)
# Files keep together, since their servers are; in the order of their names, which puts the slow ones first.
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test lint bench prove test-cluster test-large setup clean

demo: $(RUNTIME)  ## four agents take a product from requirements to a reviewed delivery
	@$(BIN)/phaseline run end-to-end-delivery --offline
	@echo; echo "more: source $(BIN)/activate && phaseline --help"

test: $(DEVELOPMENT)  ## unit, integration, acceptance
	@$(PYTEST) -m "not cluster and not large" $(ARGS)

lint: $(DEVELOPMENT)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

bench: $(DEVELOPMENT)
	@$(BIN)/python -m tests.benchmarks

prove: $(patsubst %,prove-%,$(shell sed -n 's/^workflow: *//p' workflows/*.yaml))  ## kill every workflow everywhere

prove-%: $(RUNTIME)
	@$(BIN)/phaseline prove $* --all $(PROVE_$*) $(ARGS)

PROVE_refund-with-approval = -i 'register_folder={home}/register'

test-cluster: $(DEVELOPMENT)  ## what needs PostgreSQL's server programs
	@$(PYTEST) -m cluster $(ARGS)

test-large: $(DEVELOPMENT)  ## thousands of steps and items; many minutes, and no part of `test`
	@$(PYTEST) -m large $(ARGS)

setup: $(DEVELOPMENT)

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; name one: make PYTHON=python3.12 ..."; exit 1; }
	@$(PYTHON) -m venv .venv

$(RUNTIME): .venv/bin/python pyproject.toml constraints.txt
	@echo "installing phaseline into .venv (a minute or two, once)"
	@$(PIP) -e .
	@$(BIN)/python -m deployments.server.tables
	@rm -f .venv/.runtime-*; touch $@

$(DEVELOPMENT): $(RUNTIME)
	@echo "installing what tests and checks need"
	@$(PIP) -e '.[test,lint,postgres]'
	@rm -f .venv/.development-*; touch $@

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
