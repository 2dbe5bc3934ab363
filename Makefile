# Keyclave. `make` alone explains the targets; each of them sets up what it needs.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.PHONY: help demo demo-people test test-postgresql serve check trace bench wheel drill drill-ha format lock clean

PYTHON_IN := .venv/bin
HOME_DIR ?= .keyclave
ARGS ?=
# Processes that test. On two cores three, for many a test waits for a clock of the server's.
WORKERS ?= 2
TESTS = $(PYTHON_IN)/python -m pytest -n $(WORKERS) --dist loadfile -m 'not drill'
# The store's own suite runs on both engines. These run once more, with every server and desk on PostgreSQL: what rests on what a store
# promises (the record, sealing, rights that end, approvals, people). `make test-postgresql` runs everything there.
ON_POSTGRES ?= $(addprefix tests/protocols/test_,record.py sealing.py credentials.py uses.py life_of_a_key.py grants.py tenants.py \
    elevation.py policy.py rights_by_the_clock.py rates.py meanwhile.py repeats.py shared_messages.py contexts.py) \
  $(addprefix tests/approvals/test_,main_path.py attacks.py rules_now.py apart.py offline_proof.py) \
  $(addprefix tests/people/test_,sessions.py invitations.py passkeys.py many_nodes.py way_back.py) \
  tests/failure/test_sealed_revoked_suspended.py tests/failure/test_idempotency.py

# And these on the server whose hot path is compiled, as production runs it and the bench measures it (setup.py says which files).
ON_COMPILED ?= $(addprefix tests/protocols/test_,compiled.py record.py record_of_batches.py uses.py repeats.py contexts.py \
    shared_messages.py shared_data_keys.py new_keys.py new_keys_again.py rates.py meanwhile.py sealing.py drafts.py refusals.py slow_batches.py) \
  tests/failure/test_sealed_revoked_suspended.py tests/failure/test_idempotency.py

help: ## Explain the targets
	@printf '\nKeyclave: keys that protect health records, and a record of their use that anyone can check.\n\n'
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@printf '\nStart with `make demo`. README.md goes on from there.\n\n'

demo: ## Do the main job on synthetic health records, in under two minutes (ARGS="--patients 50")
	@scripts/setup
	@$(PYTHON_IN)/python demo/run.py $(ARGS)

demo-people: ## Two people where one is not enough: invite, enrol, elevate, destroy by two, verify offline
	@scripts/setup
	@$(PYTHON_IN)/python demo/people.py $(ARGS)

test: ## Run all tests (ARGS="-k envelope" for some)
	@scripts/setup test
	@$(TESTS) $(ARGS)
	@[ -n '$(ARGS)' ] || KEYCLAVE_TEST_COMPILED=1 $(TESTS) $(ON_COMPILED)
	@[ -n '$(ARGS)' ] || $(TESTS) --store postgresql $(ON_POSTGRES)

test-postgresql: ## Run all tests with every server and desk on PostgreSQL (ARGS="tests/cli" for some)
	@scripts/setup test
	@$(TESTS) --store postgresql $(ARGS)

serve: ## Run a development server on https://127.0.0.1:8443 with its home in .keyclave
	@scripts/setup
	@[ -e $(HOME_DIR)/keyclave.toml ] || $(PYTHON_IN)/keyclave init --home $(HOME_DIR) --development
	@exec $(PYTHON_IN)/keyclave serve --home $(HOME_DIR) $(ARGS)

check: ## Style, types, floors and the rules of the house
	@scripts/setup dev
	@$(PYTHON_IN)/ruff check --quiet .
	@$(PYTHON_IN)/ruff format --check --quiet . || { echo 'not formatted: run `make format`'; exit 1; }
	@$(PYTHON_IN)/mypy --strict --no-error-summary src bench drill demo scripts setup.py
	@$(PYTHON_IN)/lint-imports --no-logo >.lint-imports.log || { cat .lint-imports.log; exit 1; }; rm -f .lint-imports.log
	@$(PYTHON_IN)/python -m pytest -p no:xdist tests/house

trace: ## Print which tests show each requirement, and fail where one that is claimed has none
	@scripts/setup
	@$(PYTHON_IN)/python scripts/trace_requirements.py

bench: ## Measure, side by side with a peer, into bench/results.json
	@scripts/setup bench
	@$(PYTHON_IN)/python bench/run.py $(ARGS)

wheel: ## Build the package for production into dist/, its hot path compiled (docs/decisions/0015)
	@scripts/setup dev
	@KEYCLAVE_COMPILE=1 $(PYTHON_IN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --no-index --no-build-isolation -w dist .
	@ls dist/*.whl

drill: ## Kill the server under load, fill its disk, set its clock back: into drill/results.json
	@scripts/setup
	@$(PYTHON_IN)/python drill/run.py $(ARGS)

drill-ha: ## Lose databases and servers of a whole cluster under load: into drill/ha.json (ARGS="--only kill_primary")
	@scripts/setup ha
	@$(PYTHON_IN)/python drill/ha/run.py $(ARGS)

format: ## Put the code into its one format
	@scripts/setup dev
	@$(PYTHON_IN)/ruff check --quiet --fix-only .
	@$(PYTHON_IN)/ruff format --quiet .

lock: ## Write the hashed locks anew from requirements*.in (ARGS=--upgrade for newer versions; needs uv)
	@scripts/lock $(ARGS)

clean: ## Remove what set-up and tools made; the development home .keyclave stays, for it holds keys
	@rm -rf .venv .venv-bench .setup.lock .lint-imports.log .mypy_cache .ruff_cache .pytest_cache .import_linter_cache \
	  .hypothesis .schemathesis build dist src/*.egg-info
	@find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
