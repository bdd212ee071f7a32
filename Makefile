# Needs Python 3.11 or later and make; everything else is installed into .venv from requirements.lock.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export DAGSTER_HOME ?= $(CURDIR)/data/dagster
export PYTHONPATH := $(CURDIR)
unexport PYTHONDONTWRITEBYTECODE

.PHONY: install configure demo dev explain test test-long test-soak crash picture bench lint lock

install: $(VENV)/installed

# Dagster starts three times faster from compiled bytecode.
$(VENV)/installed: requirements.lock
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --no-deps --require-hashes -r requirements.lock
	$(BIN)/python -m compileall -q -j 0 $(VENV)/lib hotwax_inventory || true
	touch $@

# For those who start Dagster themselves: dagster.yaml as the environment asks for it. demo and dev do it, too.
configure: install
	@$(BIN)/python -m hotwax_inventory.dagster_home

demo: install
	@mkdir -p $(DAGSTER_HOME)
	@$(BIN)/python -m hotwax_inventory.demo 2> $(DAGSTER_HOME)/demo.log || (tail -n 40 $(DAGSTER_HOME)/demo.log; exit 1)

dev: install
	@$(BIN)/python -m hotwax_inventory.dev

# make explain SKU=TEE-S FACILITY=BROADWAY AT=2026-11-26T14:00Z; without FACILITY what the channel sells, without AT now
explain: install
	@$(BIN)/python -m hotwax_inventory.reconcile.explanation "$$SKU" "$$FACILITY" "$$AT"

# three workers for two cores, whatever there are: a test waits for a fifth of its time, and some are about seconds
PYTEST := $(BIN)/python -m pytest -n 3 --dist worksteal

test: install
	$(PYTEST) -m "not long and not soak"

test-long: install
	$(PYTEST) -m "long and not soak"

test-soak: install
	$(PYTEST) -m soak

# runs that import and publish, killed at random moments: make crash KILLS=500
KILLS ?= 500
crash: install
	KILLS=$(KILLS) $(PYTEST) -k any_moment hotwax_inventory_tests/test_random_runs.py

# the picture in README, of the UI as it is now; it needs Chromium
picture: install
	README_PICTURE=hotwax_inventory_tests/pictures/lineage.png $(BIN)/python -m pytest -k lineage hotwax_inventory_tests/test_browser.py

# pandas is what a benchmark compares with, and is kept apart: DuckDB imports it wherever it finds it, which costs 0.4 s a process.
BENCH_LOCK := hotwax_inventory_tests/benchmarks/requirements.lock
$(VENV)/pandas: $(BENCH_LOCK) $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $(BENCH_LOCK) --target $@
	touch $@

bench: $(VENV)/pandas
	$(BIN)/python -m hotwax_inventory_tests.benchmarks $(SIZE)

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/basedpyright

# The locks hold hashes and no index addresses.
COMPILE := $(VENV)-lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-strip-extras \
	--no-emit-index-url --no-annotate --no-header --upgrade
lock:
	$(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/python -m pip install --quiet uv
	$(COMPILE) --group test --group lint pyproject.toml -o requirements.lock
	$(COMPILE) --group bench -o $(BENCH_LOCK)
	rm -rf $(VENV)-lock
