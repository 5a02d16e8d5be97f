# Two commands do all the set-up by themselves: `make demo` and `make test`.
# Each environment is built once; a stamp file in .venv remembers which extras it holds.
PYTHON ?= python3
BIN := .venv/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
SOURCES := pyproject.toml constraints.txt
WORKERS ?= 2

export OMP_NUM_THREADS ?= 1

.PHONY: demo test test-slow check install format docs benchmarks clean

demo: .venv/.workbook
	$(BIN)/feasible demo

test: .venv/.dev
	$(BIN)/python -m pytest -n $(WORKERS) -m "not slow"

test-slow: .venv/.dev .venv/.docs
	$(BIN)/python -m pytest -n $(WORKERS) -m slow

check: .venv/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

install: .venv/.dev

format: .venv/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: .venv/.docs
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going docs docs/build/html
	@echo "docs/build/html/index.html"

benchmarks: .venv/.peers
	$(BIN)/python -m benchmarks

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis runs docs/build docs/reference

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "feasible needs Python 3.11 or newer; choose one with PYTHON=python3.12")'
	$(PYTHON) -m venv .venv

# torch comes first, by its exact version, so that no other package can pull in a different build.
.venv/.torch: .venv/bin/python constraints.txt
	$(PIP_INSTALL) $$(grep '^torch==' constraints.txt)
	touch $@

.venv/.workbook: .venv/.torch $(SOURCES)
	$(PIP_INSTALL) -e ".[workbook]"
	touch $@

.venv/.dev: .venv/.torch $(SOURCES)
	$(PIP_INSTALL) -e ".[dev]"
	touch $@ .venv/.workbook

.venv/.docs: .venv/.torch $(SOURCES)
	$(PIP_INSTALL) -e ".[docs]"
	touch $@

# chop needs torchvision for its examples alone, in a build that would not fit torch.
.venv/.peers: .venv/.torch $(SOURCES)
	$(PIP_INSTALL) -e ".[peers]"
	$(PIP_INSTALL) --no-deps $$(grep '^chop-pytorch==' constraints.txt)
	touch $@
