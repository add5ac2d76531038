# gan-tuner: `make tune` runs a search on this machine, `make test` the tests. Both set up .venv first, once.
.DEFAULT_GOAL := help
SHELL := /bin/sh

# The manifest to search, and what may be given on the command line: make tune WORKERS=2 SEED=7 MAX_TRIALS=40
MANIFEST ?= manifests/bayes.yaml
# What the manifest calls its search; NAME= where it is not to be found so.
NAME     ?= $(shell sed -n '/^kind: Experiment/,/^spec:/s/^  name: *//p' '$(MANIFEST)' 2>/dev/null | head -n 1)
WORKERS  ?= auto
SEED     ?=
MAX_TRIALS ?=
FRESH    ?=
STORE    ?= .gantune
TESTS    ?=
# Python 3.11 or newer: PYTHON=/path/to/python3.12 decides, else the newest that is found.
PYTHON   ?=

VENV := .venv
BIN  := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help tune report test test-oldest lint format types check clean

help: ## Show this help
	@awk 'BEGIN { FS = ":.*## " } /^[a-z0-9-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# What `make tune` needs: the package with its trainer, client and report.
$(VENV)/.installed: pyproject.toml | $(BIN)/python
	@echo "installing into $(VENV): torch brings CUDA, so this takes minutes and 6 GB, once"
	$(BIN)/python -m pip install --quiet -e '.[report]'
	@touch $@

# What `make test` needs beyond that.
$(VENV)/.installed-dev: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet -e '.[dev]'
	@touch $@ $(VENV)/.installed

$(BIN)/python:
	@sh .ci/venv.sh '$(VENV)' '$(PYTHON)'

tune: $(VENV)/.installed ## Search here (FRESH=1 WORKERS= SEED= MAX_TRIALS= MANIFEST=)
	@$(BIN)/gantune run '$(MANIFEST)' --local --store '$(STORE)' --workers '$(WORKERS)' \
		$(if $(SEED),--seed '$(SEED)') $(if $(MAX_TRIALS),--max-trials '$(MAX_TRIALS)') $(if $(FRESH),--fresh)
	@$(BIN)/gantune best '$(NAME)' --store '$(STORE)'
	@$(BIN)/gantune report '$(NAME)' --store '$(STORE)' -o report.html
	@echo "run again: make tune continues, make tune FRESH=1 starts over"

report: $(VENV)/.installed ## Write report.html of a search (NAME=gan-bayes)
	@$(BIN)/gantune report '$(NAME)' --store '$(STORE)' -o report.html

test: $(VENV)/.installed-dev ## Run the tests (TESTS=tests/tuner for some of them)
	$(BIN)/python -m pytest -q $(TESTS)

# The client promises kubernetes>=35,<37: .venv has the newest, this folder the oldest, for PYTHONPATH.
OLDEST := $(VENV)/kubernetes-35

$(OLDEST)/.installed: pyproject.toml $(VENV)/.installed-dev
	rm -rf '$(OLDEST)'
	$(BIN)/python -m pip install --quiet --no-deps --target '$(OLDEST)' 'kubernetes==35.*'
	@touch $@

test-oldest: $(OLDEST)/.installed ## The cluster client's tests on the oldest kubernetes package
	PYTHONPATH='$(CURDIR)/$(OLDEST)' $(BIN)/python -c 'import kubernetes as k; assert k.__version__ < "36", k.__version__'
	PYTHONPATH='$(CURDIR)/$(OLDEST)' $(BIN)/python -m pytest -q tests/tuner/test_kube*.py tests/tuner/test_api.py \
		tests/tuner/test_katib_contract.py tests/tuner/test_katib_curves.py tests/tuner/test_katib_engine.py

lint: $(VENV)/.installed-dev ## Check style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.installed-dev ## Mend style and formatting
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(VENV)/.installed-dev ## Check the client's types
	$(BIN)/mypy

check: $(VENV)/.installed ## Check the manifests
	$(BIN)/gantune check manifests/*.yaml

clean: ## Remove .venv and what tools left; studies under .gantune stay
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A local cluster, for the tests that need one: kind/ has its parts, docs/cluster.md the story.
.PHONY: tools kind-up e2e kind-down

tools: ## Build helm, kubeconform, kind ... into .bin/ (needs Go)
	.ci/tools.sh e2e

kind-up: ## Make the local cluster: kind, the images, Katib, pretended GPUs
	kind/create.sh
	kind/load-image.sh
	kind/install-katib.sh
	kind/fake-gpus.sh

e2e: $(VENV)/.installed-dev ## Run the cluster tests on it
	KUBECONFIG='$(CURDIR)/kind/kubeconfig' PATH='$(CURDIR)/.bin:$(CURDIR)/$(BIN)':"$$PATH" \
		$(BIN)/python -m pytest -q --with-cluster --timeout=1800 tests/e2e

kind-down: ## Delete the local cluster
	kind/delete.sh
