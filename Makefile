# make quickstart   demonstrate, train, evaluate and report, from a bare checkout
# make test         lint, types, import contracts, tests
# make test-slow    the tests that take minutes, or resemble quicker ones
# make check        lint, types, import contracts
# make docs         the documentation as a site, in site/
# make install      the virtual environment alone, with EXTRAS; quickstart needs the core of it
#
# TORCH_INDEX=URL   a package index for PyTorch's own build, such as its CPU builds
# EXTRAS=test,peft  what to install beside the core
# PYTHON=…  VENV=…  interpreter (3.11 or 3.12: the pinned NumPy has no build for later ones) and folder of the virtual
#                   environment

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
# What Python compiles at its first use is kept: tests and quickstart start many processes.
unexport PYTHONDONTWRITEBYTECODE
.PHONY: quickstart test test-slow check docs install clean

PYTHON ?= python3.11
VENV ?= .venv
EXTRAS ?= test
TORCH_INDEX ?=
TEST_WORKERS ?= 2
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check --no-compile -c constraints.txt

quickstart: $(VENV)/core.stamp
	$(BIN)/vla quickstart

# A file's tests stay in one process: what they share is made once.
test: check
	$(BIN)/python -m pytest -n $(TEST_WORKERS) --dist loadfile -m "not slow"

test-slow: install
	$(BIN)/python -m pytest -n $(TEST_WORKERS) -m slow --durations=0

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

docs: install
	$(BIN)/mkdocs build --site-dir site

install: $(VENV)/installed.stamp

$(VENV)/created.stamp:
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) not found: install Python 3.11, or name another with make PYTHON=…" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' || { echo "$(PYTHON) is neither Python 3.11 nor 3.12, which the versions in constraints.txt are for: name one with make PYTHON=…" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "$(PYTHON) cannot make virtual environments; on Debian, as root: apt-get install -y python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

# Rendering needs EGL or OSMesa from the system; everything else comes from package indexes.
$(VENV)/graphics.stamp: $(VENV)/created.stamp
	@if ! $(PYTHON) -I envs/graphics.py >/dev/null 2>&1; then \
	  packages="libegl1 libegl-mesa0 libgl1-mesa-dri libosmesa6"; \
	  as_root=""; [ "$$(id -u)" = 0 ] || as_root="$$(command -v sudo || true)"; \
	  if ! command -v apt-get >/dev/null || { [ "$$(id -u)" != 0 ] && [ -z "$$as_root" ]; }; then \
	    echo "OpenGL libraries are missing and cannot be installed from here; as root: apt-get install -y $$packages" >&2; exit 1; \
	  fi; \
	  echo "Installing OpenGL libraries: $$packages"; \
	  $$as_root apt-get update -q; \
	  $$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $$packages; \
	  $(PYTHON) -I envs/graphics.py; \
	fi
	@touch $@

# Nothing is compiled ahead of its first use: of all that is installed a run needs a part.
$(VENV)/core.stamp: $(VENV)/created.stamp $(VENV)/graphics.stamp pyproject.toml constraints.txt
	$(if $(TORCH_INDEX),$(PIP) --index-url $(TORCH_INDEX) torch)
	$(PIP) -e .
	@touch $@

$(VENV)/installed.stamp: $(VENV)/core.stamp
	$(PIP) -e '.[$(EXTRAS)]'
	@touch $@

clean:
	rm -rf $(VENV) build dist site *.egg-info .pytest_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
