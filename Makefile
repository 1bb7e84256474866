# make run    opens the chat            make check  format, lint, types, layers
# make test   runs the tests            make bench  times the screen on this machine
# make test-real runs those that need real models, which it downloads once (350 MB)
# Each installs what is missing first; the second time they start at once.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
# Tests at a time. Half of what a test takes it waits. What failed beside others is tried again by itself.
WORKERS ?= 2

.PHONY: run test test-real check bench clean

run: $(VENV)/.installed
	@$(BIN)/outrider $(ARGS)

test: $(VENV)/.developing
	@$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(ARGS) || \
	$(BIN)/python -m pytest --last-failed --last-failed-no-failures none --snapshot-warn-unused $(ARGS)

test-real: $(VENV)/.developing
	@$(BIN)/python -m tests.real.fetch
	@$(BIN)/python -m pytest tests/real $(ARGS)

check: $(VENV)/.developing
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench: $(VENV)/.developing
	@$(BIN)/python -m tools.bench.screen
	@$(BIN)/python -m tools.bench.transcript

clean:
	rm -rf $(VENV)

$(VENV)/.installed: pyproject.toml .ci/install
	@PYTHON=$(PYTHON) sh .ci/install $(VENV)
	@touch $@

$(VENV)/.developing: $(VENV)/.installed
	@PYTHON=$(PYTHON) sh .ci/install $(VENV) dev
	@touch $@
