PYTHON ?= python3.11
BIN := .venv/bin

.PHONY: demo check test test-fast docs setup clean

demo: setup
	rm -rf build/quickstart
	$(BIN)/dynamic-exit run recipes/quickstart.yaml --output build/quickstart

check: setup
	$(BIN)/ruff format --check plugin tests integration_tests recipes docs
	$(BIN)/ruff check plugin tests integration_tests recipes docs
	$(BIN)/mypy

test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-fast: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests -n 2 --dist loadfile --no-loadscope-reorder -m "not slow"

docs: setup
	$(BIN)/python docs/generate.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

setup: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev,docs]"
	touch $@

clean:
	rm -rf .venv build
