# make serve | test | check | bench | postman | notebooks        PYTHON=python3.12 make serve   to choose the interpreter
PYTHON ?= python3
HOST ?= 127.0.0.1
PORT ?= 8000
READY := .venv/.ready
BIN := .venv/bin

# glibc: huge pages, and freed blocks are kept for the next step (other C libraries ignore these).
ALLOCATOR := GLIBC_TUNABLES=glibc.malloc.hugetlb=1:glibc.malloc.arena_max=1 \
	MALLOC_MMAP_THRESHOLD_=8589934592 MALLOC_TRIM_THRESHOLD_=8589934592

.PHONY: serve test check bench postman notebooks setup clean

serve: $(READY)
	$(ALLOCATOR) $(BIN)/uvicorn api.main:app --host $(HOST) --port $(PORT) --timeout-graceful-shutdown 5

test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest

# Where CI is set, formatting is only checked.
check: $(READY)
	$(BIN)/ruff format $(if $(CI),--check) .
	$(BIN)/ruff check $(if $(CI),,--fix) .
	$(BIN)/mypy
	$(BIN)/lint-imports

# SCENARIO="mixed throughput" make bench   to run some of them
bench: $(READY)
	$(BIN)/python -m benchmarks $(SCENARIO)

# After a change of the schema: writes docs/postman anew.
postman: $(READY)
	$(BIN)/python -m scripts.postman

# Executes the notebooks anew, at full settings; NOTEBOOKS="notebooks/02_*.ipynb" for some of them
notebooks: $(READY)
	$(BIN)/python -m scripts.notebooks $(NOTEBOOKS)

setup: $(READY)

$(READY): pyproject.toml poetry.lock scripts/setup.py
	$(PYTHON) scripts/setup.py
	touch $@

clean:
	rm -rf .venv .poetry
