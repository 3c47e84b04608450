# make demo   installs what is needed into .venv and shows the whole way once
# make test   installs the same, then runs every check and test that this machine has the tools for
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TESTS ?= tests
TOOLCHAIN := ziglang-0.17.1

.PHONY: demo test quick lint install lock clean help

help:
	@sed -n 's/^# //p' Makefile

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml requirements/dev.lock requirements/uv.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: $(PYTHON) is `$(PYTHON) -V`, this project needs Python 3.11 or later: set PYTHON=/path/to/python3.11"; exit 1; }
	@echo "installing into $(VENV): 0.7 GB to download, 2.6 GB on disk"
	@$(PYTHON) -m venv --clear $(VENV) || \
	  { echo "error: $(PYTHON) cannot make a virtual environment: on Debian, install the package python3-venv"; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.lock
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --require-hashes -r requirements/dev.lock
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --no-deps --no-build-isolation -e .
	@echo "building the C library of zig's targets, once"
	@for class in posix mps2-an386; do \
	  $(BIN)/python -m tinyml_compiler.factory --class-name $$class --toolchain $(TOOLCHAIN) \
	    --class-spec crds/catalogue/$$class.yaml --output build/factory/$$class || exit 1; done
	@touch $@

demo: install
	$(BIN)/tinyml demo

test: lint
	$(BIN)/python -m pytest $(TESTS)

quick: install
	$(BIN)/python -m pytest tests/unit tests/property

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Resolves the newest versions that pyproject.toml allows: hashes, no addresses.
lock:
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	  --no-emit-index-url --no-emit-find-links --upgrade --extra dev pyproject.toml -o requirements/dev.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	  --no-emit-index-url --no-emit-find-links --upgrade requirements/uv.in -o requirements/uv.lock

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
