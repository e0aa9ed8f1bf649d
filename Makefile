# make run    the cohort of config/config.yaml, from nothing to solver decks and report
# make test   environment, style, lint, dry run, all tests
# make bench  seconds and memory of sampling and planning into results/bench/, on a quiet machine
# make bench-scale  costs of large trials, under SLURM too where it is installed, into results/bench/scale.tsv
# Variables: CORES (default all), ARGS (for Snakemake, e.g. ARGS="--configfile mine.yaml"), PYTHON,
# WORKERS (test files that run side by side; 3 GB each).

CORES ?= all
ARGS ?=
WORKERS ?= 2
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
export PYTHONNOUSERSITE := 1

.PHONY: run test bench bench-scale environment style dry-run tests

run: environment
	@$(BIN)/python workflow/run.py --cores $(CORES) --rerun-incomplete $(ARGS)

test: environment style dry-run tests

bench: environment
	@$(BIN)/python workflow/run.py --cores $(CORES) --rerun-incomplete bench $(ARGS)

bench-scale: environment
	@PYTHONPATH=workflow/scripts $(BIN)/python tests/bench_scale.py

# The lock file's copy is written last: an installation that was cut off is done again. Modules are compiled
# when they are first imported, which is a small part of them.
environment:
	@cmp -s requirements.lock .venv/requirements.lock || { \
	    "$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	        { echo "Python 3.11 or newer is needed; say which by: make PYTHON=/path/to/python3" >&2; exit 1; }; \
	    echo "Installing the environment into .venv (once, some minutes)"; \
	    "$(PYTHON)" -m venv .venv && \
	    $(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check -r requirements.lock && \
	    cp requirements.lock .venv/requirements.lock; \
	}

style: environment
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m snakefmt --check workflow
	$(BIN)/python -m snakemake --lint

dry-run: environment
	$(BIN)/python -m snakemake --dry-run --quiet rules

tests: environment
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder
