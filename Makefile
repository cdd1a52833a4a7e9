# make serve | test | check        PYTHON=python3.12 make serve   to choose the interpreter
PYTHON ?= python3
HOST ?= 127.0.0.1
PORT ?= 8000
READY := .venv/.ready
BIN := .venv/bin

.PHONY: serve test check setup clean

serve: $(READY)
	$(BIN)/uvicorn api.main:app --host $(HOST) --port $(PORT) --timeout-graceful-shutdown 5

test: $(READY)
	$(BIN)/python -m pytest

# Where CI is set, formatting is only checked.
check: $(READY)
	$(BIN)/ruff format $(if $(CI),--check) .
	$(BIN)/ruff check $(if $(CI),,--fix) .
	$(BIN)/mypy
	$(BIN)/lint-imports

setup: $(READY)

$(READY): pyproject.toml poetry.lock scripts/setup.py
	$(PYTHON) scripts/setup.py
	touch $@

clean:
	rm -rf .venv .poetry
