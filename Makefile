# `make` says what there is. Everything runs from .venv, which follows requirements.lock.

PYTHON ?= /usr/bin/python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.stamp-installed
ARGS ?=

# Where it is set, each of pytest's workers compiles all tests anew, every time.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install system demo test test-cluster kind-up kind-demo test-kind kind-down \
	faults crash fuzz soak audit sbom licences lint format bench lock clean

help: ## Say what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: system $(STAMP) ## Install the system packages and the Python environment

system:
	@.ci/install

# pip runs only when the lock or the project's metadata changed.
$(STAMP): requirements.lock pyproject.toml | system
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

$(BIN)/kubectl: .ci/kubectl .ci/kubectl.txt | $(STAMP)
	@$(BIN)/python .ci/kubectl $@

demo: install ## Show it all on this machine: make demo ARGS="--help"
	@$(BIN)/preview demo $(ARGS)

test: install $(BIN)/kubectl ## Run the tests: make test ARGS="tests/unit -k slug"
ifeq ($(strip $(ARGS)),)
	@# Four workers, each with a stack of its own, on two cores or more: much of a test is waiting. The crash points are
	@# some of them, the soak is a short one: all of it is `make crash` and `make soak`. Their short forms on the engine
	@# are not in CI's twenty minutes: `make test ARGS="tests/crash/test_engine.py tests/soak/test_engine_soak.py"`.
	$(BIN)/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder \
		--ignore=tests/crash/test_engine.py --ignore=tests/soak/test_engine_soak.py
else
	$(BIN)/python -m pytest $(ARGS)
endif

CLUSTER := KUBECONFIG CLUSTER_REGISTRY CLUSTER_KANIKO_IMAGE CLUSTER_GIT_HOST
CLUSTER_OPTIONAL := CLUSTER_PULL_REGISTRY CLUSTER_INGRESS_ADDRESS CLUSTER_INGRESS_CA CLUSTER_INGRESS_CLASS CLUSTER_INGRESS_NAMESPACE

test-cluster: install $(BIN)/kubectl ## Run the cluster tests on a real cluster: see README, "On a cluster"
	@$(foreach name,$(CLUSTER),$(if $($(name)),,$(error $(name) is not set; README says what it is)))
	$(foreach name,$(CLUSTER) $(CLUSTER_OPTIONAL),$(if $($(name)),$(name)='$($(name))')) \
		$(BIN)/python -m pytest tests/cluster --ignore-glob='tests/cluster/test_standin_*' --ignore-glob='tests/cluster/test_world_*' $(ARGS)
	KUBECONFIG='$(KUBECONFIG)' $(BIN)/python -m tests.cluster.differential

faults: install $(BIN)/kubectl ## Cause every fault of the catalogue, compare what is told, and print the score: make faults ARGS="--only npm"
	@$(BIN)/python -m tests.faults $(ARGS)

crash: install $(BIN)/kubectl ## Kill a provider at every single point, and judge what is left
	$(BIN)/python -m pytest tests/crash -n 2 --dist loadfile --every-crash-point $(ARGS)

fuzz: install ## Feed strangers' input to all that reads it: make fuzz ARGS="--fuzz-examples 20000"
	$(BIN)/python -m pytest tests/fuzz -n 2 --dist load --fuzz-examples 2000 --timeout 3600 $(ARGS)

soak: install $(BIN)/kubectl ## Everything dies again and again; nothing may be lost: make soak ARGS="--seed 7"
	@$(BIN)/python -m tests.soak $(ARGS)

kind-up: install $(BIN)/kubectl ## All of it on a kind cluster of this machine: Docker and kind have to be there
	@.ci/kind up

kind-demo: install $(BIN)/kubectl ## Deploy the sample there, and ask its URL
	@.ci/kind demo

test-kind: install $(BIN)/kubectl ## Both, and the cluster tests with real builds
	@.ci/kind test

kind-down: install $(BIN)/kubectl ## Remove that cluster
	@.ci/kind down

AUDIT := $(VENV)/audit/.stamp-installed

$(AUDIT): .ci/audit.lock | $(STAMP)
	@$(PYTHON) -m venv $(VENV)/audit
	@$(VENV)/audit/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes \
		--requirement .ci/audit.lock
	@touch $@

audit: install $(AUDIT) ## Ask what is known of the dependencies: yanked, vulnerable, licences
	@$(BIN)/python .ci/audit

sbom: install $(AUDIT) ## Write what the provider is made of, as CycloneDX: make sbom ARGS=sbom.json
	@$(BIN)/python .ci/audit sbom $(or $(ARGS),sbom.json)

licences: install $(AUDIT) ## List the dependencies' licences
	@$(BIN)/python .ci/audit licences

lint: install audit ## Check style, types, who imports whom, and what is known of the dependencies
	$(BIN)/ruff check . .ci/audit .ci/kubectl
	$(BIN)/ruff format --check . .ci/audit .ci/kubectl
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install ## Put the code into the house's form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: install $(BIN)/kubectl ## Measure against the bare engine: make bench ARGS="--json"
	@$(BIN)/python -m tests.bench $(ARGS)

COMPILE := $(BIN)/pip-compile --quiet --all-build-deps --strip-extras --generate-hashes --allow-unsafe \
	--no-emit-index-url --no-emit-trusted-host --no-emit-find-links

lock: ## Solve the dependencies anew: all into requirements.lock, what runs into requirements-runtime.lock and -otel.lock
	@.ci/install
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@test -x $(BIN)/pip-compile || $(BIN)/python -m pip install --quiet pip-tools
	$(COMPILE) --upgrade --all-extras --output-file=requirements.lock pyproject.toml
	@sed 's/ \\$$//; /^ *--hash/d' requirements.lock > $(VENV)/solved.txt
	$(COMPILE) --constraint $(VENV)/solved.txt --no-annotate --output-file=requirements-runtime.lock pyproject.toml
	$(COMPILE) --constraint $(VENV)/solved.txt --no-annotate --extra=otel --output-file=requirements-otel.lock pyproject.toml
	$(filter-out --all-build-deps,$(COMPILE)) --upgrade --no-annotate --output-file=.ci/audit.lock .ci/audit.in

clean: ## Remove what was made here, the environment too
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
