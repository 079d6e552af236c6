PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Without an NVIDIA GPU the CPU build serves; asked for first, it keeps gigabytes of CUDA away.
TORCH := $(shell command -v nvidia-smi >/dev/null 2>&1 || echo torch==2.13.0)
# Tests share the cores: two processes of one thread each, as threads of two would wait awake.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -q -p no:cacheprovider -n 2 --durations=20

.PHONY: quickstart test test-slow lint install install-dev clean

quickstart: install  ## From nothing to the table and a bundle.
	$(BIN)/taskspec run quickstart $(ARGS)

test: install-dev lint  ## The fast suite.
	$(PYTEST) -m "not slow and not gpu" tests

test-slow: install-dev  ## Kill and resume, fresh distributions, the real model.
	$(PYTEST) -m "slow and not gpu" tests

lint: install-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

install: $(VENV)/.installed
install-dev: $(VENV)/.installed-dev

$(VENV)/.installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(if $(TORCH),$(BIN)/pip install -q $(TORCH))
	$(BIN)/pip install -q -e .
	touch $@

$(VENV)/.installed-dev: pyproject.toml $(VENV)/.installed
	$(BIN)/pip install -q -e '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
