# `make tune` runs a search on this machine and `make test` runs the tests. The first call of either creates .venv.
.DEFAULT_GOAL := help
SHELL := /bin/sh

# Variables for the command line: make tune WORKERS=2 SEED=7 MAX_TRIALS=40
MANIFEST ?= manifests/bayes.yaml
# The Experiment's name in the manifest. Set NAME= if the manifest holds several Experiments.
NAME     ?= $(shell sed -n '/^kind: Experiment/,/^spec:/s/^  name: *//p' '$(MANIFEST)' 2>/dev/null | head -n 1)
WORKERS  ?= auto
SEED     ?=
MAX_TRIALS ?=
FRESH    ?=
STORE    ?= .gantune
TESTS    ?=
# The Python interpreter, 3.11 or newer. Default: the newest on the PATH.
PYTHON   ?=

VENV := .venv
BIN  := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help tune report test gpu-check chaos test-oldest lint format types docs check clean

help: ## Show this help
	@awk 'BEGIN { FS = ":.*## " } /^[a-z0-9-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# The packages of `make tune`: the client and the trainer.
$(VENV)/.installed: pyproject.toml | $(BIN)/python
	@echo "installing into $(VENV), once: this takes minutes and 6 GB, because torch includes CUDA"
	@sh .ci/install.sh '$(VENV)' trainer
	@touch $@

# The additional packages of `make test`.
$(VENV)/.installed-dev: pyproject.toml | $(BIN)/python
	@sh .ci/install.sh '$(VENV)' dev
	@touch $@ $(VENV)/.installed

$(BIN)/python:
	@sh .ci/venv.sh '$(VENV)' '$(PYTHON)'

tune: $(VENV)/.installed ## Search on this machine (FRESH=1 WORKERS= SEED= MAX_TRIALS= MANIFEST=)
	@$(BIN)/gantune run '$(MANIFEST)' --local --store '$(STORE)' --workers '$(WORKERS)' \
		$(if $(SEED),--seed '$(SEED)') $(if $(MAX_TRIALS),--max-trials '$(MAX_TRIALS)') $(if $(FRESH),--fresh)
	@$(BIN)/gantune best '$(NAME)' --local --store '$(STORE)'
	@$(BIN)/gantune report '$(NAME)' --local --store '$(STORE)' -o report.html
	@echo "to continue: make tune    to start over: make tune FRESH=1"

report: $(VENV)/.installed ## Write report.html for a study (NAME=gan-bayes)
	@$(BIN)/gantune report '$(NAME)' --local --store '$(STORE)' -o report.html

# One process more than there are cores, because many tests wait for processes; at most four, because each may need 1 GB.
PROCESSES = $$($(BIN)/python -c 'import os; print(min(os.cpu_count() or 1, 3) + 1)')

# The tests start hundreds of processes: compile each module once, also where the environment forbids it.
test: export PYTHONDONTWRITEBYTECODE =
test: $(VENV)/.installed-dev ## Run the tests (TESTS=tests/tuner selects some)
	$(BIN)/python -m pytest -q -n "$(PROCESSES)" --dist=worksteal $(TESTS)

chaos: $(VENV)/.installed-dev ## Kill searches 300 times, play 2000 request sequences (KILLS= SEQUENCES= SEED=)
	$(BIN)/python -m tests.tuner.chaos $(if $(KILLS),--kills '$(KILLS)') $(if $(SEQUENCES),--sequences '$(SEQUENCES)') $(if $(SEED),--seed '$(SEED)')

# The client supports kubernetes>=35,<37. .venv contains the newest version and this directory the oldest, for PYTHONPATH.
OLDEST := $(VENV)/kubernetes-35

$(OLDEST)/.installed: pyproject.toml $(VENV)/.installed-dev
	rm -rf '$(OLDEST)'
	PIP_CONSTRAINT= $(BIN)/python -m pip install --quiet --no-deps --target '$(OLDEST)' 'kubernetes==35.*'
	@touch $@

test-oldest: $(OLDEST)/.installed ## Run the cluster client's tests with the oldest kubernetes package
	PYTHONPATH='$(CURDIR)/$(OLDEST)' $(BIN)/python -c 'import kubernetes as k; assert k.__version__ < "36", k.__version__'
	PYTHONPATH='$(CURDIR)/$(OLDEST)' $(BIN)/python -m pytest -q tests/tuner/kube tests/tuner/test_client.py \
		tests/tuner/engines/katib/test_contract.py tests/tuner/engines/katib/test_observations.py tests/tuner/engines/katib/test_engine.py

lint: $(VENV)/.installed-dev ## Check style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/vulture

format: $(VENV)/.installed-dev ## Fix style and formatting
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(VENV)/.installed-dev ## Check the types
	$(BIN)/mypy

gpu-check: $(VENV)/.installed-dev ## Check the trainer on a GPU, within five minutes
	timeout 300 $(BIN)/python -m bench.gpu_check

docs: $(VENV)/.installed-dev ## Build the documentation into site/
	PYTHONPATH='$(CURDIR)' NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --clean

check: $(VENV)/.installed ## Check the manifests
	$(BIN)/gantune check manifests/*.yaml

clean: ## Remove .venv and caches; keep the studies in .gantune
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A local cluster for the tests that need one: see kind/ and docs/how-to/cluster.md.
.PHONY: tools kind-up e2e kind-down

tools: ## Build helm, kubeconform, kind and others into .bin/ (needs Go)
	.ci/tools.sh e2e

kind-up: ## Create the local cluster: kind, images, Katib, fake GPUs
	kind/create.sh
	kind/load-image.sh
	kind/install-katib.sh
	kind/fake-gpus.sh

e2e: $(VENV)/.installed-dev ## Run the cluster tests on the local cluster
	KUBECONFIG='$(CURDIR)/kind/kubeconfig' PATH='$(CURDIR)/.bin:$(CURDIR)/$(BIN)':"$$PATH" \
		$(BIN)/python -m pytest -q --with-cluster --timeout=1800 tests/e2e

kind-down: ## Delete the local cluster
	kind/delete.sh
