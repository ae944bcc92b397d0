PYTHON ?= python3.11
BIN := .venv/bin

.PHONY: demo check test test-fast docs setup clean lock licences sbom audit wheel

demo: setup
	rm -rf build/quickstart
	$(BIN)/dynamic-exit run recipes/quickstart.yaml --output build/quickstart

check: setup
	$(BIN)/ruff format --check plugin tests integration_tests recipes docs requirements
	$(BIN)/ruff check plugin tests integration_tests recipes docs requirements
	$(BIN)/mypy

test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-fast: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests -n 2 --dist loadfile --no-loadscope-reorder -m "not slow"

docs: setup
	$(BIN)/python docs/generate.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

# what is released and what it stands on, see docs/how-to/supply-chain.md
TOOLS := build/tools/bin
RELEASED := build/released/bin
LOCK := $(TOOLS)/uv pip compile --quiet --generate-hashes --no-annotate --no-emit-index-url --constraints constraints.txt \
	--custom-compile-command "make lock" --python-version 3.11.9 --python-platform x86_64-manylinux_2_28
# an extra's list alone: the package itself is installed without dependencies beside it
SERVING := import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["serving"], sep="\n")

lock: $(TOOLS)/installed
	$(LOCK) pyproject.toml --extra dev --extra docs --output-file requirements/ci.txt
	$(LOCK) pyproject.toml --output-file requirements/released.txt
	$(TOOLS)/python -c '$(SERVING)' | $(LOCK) - --output-file requirements/serving.txt
	$(LOCK) requirements/tools.in --output-file requirements/tools.txt

licences: $(RELEASED)/installed
	$(TOOLS)/pip-licenses --python $(RELEASED)/python --format markdown --with-urls

sbom: $(RELEASED)/installed
	$(TOOLS)/cyclonedx-py environment $(RELEASED)/python --pyproject pyproject.toml --mc-type library \
		--output-reproducible --output-file build/wheel/sbom.cdx.json

audit: $(TOOLS)/installed
	$(TOOLS)/pip-audit --strict --require-hashes --disable-pip --requirement requirements/ci.txt

wheel: setup
	$(BIN)/python requirements/build_wheel.py build/wheel

$(TOOLS)/installed: requirements/tools.txt
	$(PYTHON) -m venv build/tools
	$(TOOLS)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/tools.txt
	touch $@

$(RELEASED)/installed: $(TOOLS)/installed requirements/released.txt wheel
	rm -rf build/released
	$(PYTHON) -m venv --without-pip build/released
	$(TOOLS)/uv pip install --quiet --python $(RELEASED)/python --require-hashes -r requirements/released.txt
	$(TOOLS)/uv pip install --quiet --python $(RELEASED)/python --no-deps build/wheel/*.whl
	touch $@

setup: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev,docs]"
	touch $@

clean:
	rm -rf .venv build
