# Every target sets up what it needs in .venv; a second run is instant.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.samecast-$(shell cksum < pyproject.toml | cut -d' ' -f1)-$(shell cksum < constraints.txt | cut -d' ' -f1)

.PHONY: help setup demo ui test check bench docs

help:
	@echo "make demo    one subject, six prompts, four settings: writes demo/index.html and demo/grid.png"
	@echo "make ui      open a page in the browser, on the embedded model"
	@echo "make test    run the tests"
	@echo "make check   format, lint, types, layers"
	@echo "make bench   measure speed"
	@echo "make docs    redraw the pictures of the documentation and run its examples"
	@echo "make setup   only install, into $(VENV)"

setup: $(STAMP)

$(STAMP):
	@test -x $(BIN)/python || command -v $(PYTHON) >/dev/null || \
		{ echo "samecast needs Python 3.11 or newer and found no '$(PYTHON)': make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "samecast needs Python 3.11 or newer, '$(PYTHON)' is older: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@test -x $(BIN)/python || { echo "creating $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@echo "installing samecast and its tools into $(VENV)"
	@# torch first: the largest part, and pip can pick its build before anything else asks for one.
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,diorama,ray,study,train,ui]'
	@rm -f $(VENV)/.samecast-*
	@touch $@

demo: $(STAMP)
	@$(BIN)/samecast demo --out demo

ui: $(STAMP)
	@$(BIN)/samecast ui

test: $(STAMP)
	@# One process a core and one more, as some tests wait for a browser or a cluster; each has one thread: two threads of
	@# torch are hardly faster on models this small.
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $$(( $$(getconf _NPROCESSORS_ONLN) + 1 )) --maxprocesses 5 --dist loadfile

check: $(STAMP)
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/pyright
	@$(BIN)/lint-imports

bench: $(STAMP)
	@for name in diorama edit; do $(BIN)/python -m benchmarks.$$name || exit 1; done

docs: $(STAMP)
	@$(BIN)/samecast demo --out demo
	@mkdir -p docs/pictures && cp demo/grid.png docs/pictures/demo.png
	@rm -f docs/pictures/diorama.png
	@$(BIN)/samecast diorama sheet --out docs/pictures/diorama.png
	@$(BIN)/python -m pytest tests/test_docs.py
