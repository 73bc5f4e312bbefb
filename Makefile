# shopstream: `make demo` and `make test` set up all they need in .venv; a second run is quick.
#
#   UV_TORCH_BACKEND=cpu make setup   takes torch's small CPU build instead of the CUDA one
#   PYTHON=python3.12 make setup      takes this interpreter (3.11 or newer)

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?=
VENV := .venv
BIN := $(VENV)/bin
LOCK := .ci/requirements.txt
STAMP := $(VENV)/.shopstream-setup

SECONDS :=
LOCALE :=
ARGS :=

BENCHES := stream naive search index store recommender retrieval finetune parts beside swap loop replay

.PHONY: help setup lint format test unit integration demo bench lock clean $(BENCHES:%=bench-%)

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  \1\t/' | expand -t 18

setup: $(STAMP) ## make .venv with the pinned versions, the extras and the development tools

$(STAMP): pyproject.toml $(LOCK) .ci/setup
	@PYTHON='$(PYTHON)' VENV='$(VENV)' LOCK='$(LOCK)' bash .ci/setup
	@touch $@

lint: setup ## ruff, mypy (strict) and the import contract of the rooms
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup ## put the source into ruff's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: lint ## lint, then unit and integration tests
	$(BIN)/python -m pytest $(ARGS)

unit: setup ## unit tests only (no sockets)
	$(BIN)/python -m pytest tests/unit $(ARGS)

integration: setup ## integration tests only (real Kafka, Redis and processes)
	$(BIN)/python -m pytest tests/integration $(ARGS)

demo: setup ## everything on this machine, in the terminal: SECONDS=60 ends by itself, LOCALE=en|zh
	@exec $(BIN)/shopstream demo $(if $(SECONDS),--seconds $(SECONDS)) $(if $(LOCALE),--locale $(LOCALE)) $(ARGS)

$(BENCHES:%=bench-%): setup
	$(BIN)/python -m tests.benchmarks.$(subst -,_,$@) $(ARGS)

bench: ## list the benchmarks: `make bench-stream` and so on, ARGS=--help tells the options
	@echo '$(BENCHES:%=bench-%)' | tr ' ' '\n'

lock: ## pin the newest versions that pyproject.toml allows (needs `make setup` once)
	$(BIN)/uv pip compile pyproject.toml --extra demo --extra s3 --extra gcs --group dev --universal --python-version 3.11 \
		--upgrade --no-header --no-annotate --no-emit-index-url --no-emit-find-links --quiet -o $(LOCK)

clean: ## remove .venv, caches and the test broker's jars
	rm -rf $(VENV) .kafka build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find worker models training tests -name __pycache__ -type d -prune -exec rm -rf {} +
