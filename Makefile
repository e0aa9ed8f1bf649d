# make help lists the targets. Variables:
#   CORES    cores of a run (default: all)
#   ARGS     more for Snakemake, such as ARGS="--configfile mine.yaml" or ARGS="--config cohort=mine"
#   PYTHON   the Python that makes the environment (3.11 or newer)
#   WORKERS  test files that run side by side (3 GB each)

CORES ?= all
ARGS ?=
WORKERS ?= 2
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
export PYTHONNOUSERSITE := 1
unexport PYTHONDONTWRITEBYTECODE

SNAKEMAKE := @$(BIN)/python workflow/run.py --cores $(CORES) --rerun-incomplete
BENCHMARKS := @$(BIN)/python -m snakemake --snakefile benchmarks/Snakefile --cores $(CORES)

.PHONY: help run test site bench bench-guidance bench-scale environment style layers dry-run tests

help: ## this list, and the targets of the workflow
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 24
	@echo 'Targets of the workflow, make run <target> ARGS="--configfile mine.yaml":'
	@sed -n 's/^#   \([a-z_]*\)  *\(.*\)/  \1\t\2/p' workflow/Snakefile | expand -t 24

run: environment ## the cohort of config/config.yaml, from nothing to solver decks and report
	$(SNAKEMAKE) $(GOALS) $(ARGS)

# `make run simulate`: the targets of the workflow among the words of the call are for Snakemake
GOALS := $(filter $(shell sed -n 's/^#   \([a-z_]*\)  .*/\1/p' workflow/Snakefile),$(MAKECMDGOALS))
ifneq (,$(GOALS))
.PHONY: $(GOALS)
$(GOALS): run ;
endif

test: environment style layers site dry-run tests ## style, import layers, documents' site, dry run, all tests

site: environment ## the documentation as a site, into site/ (works from a file, without a network)
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict

bench: environment ## seconds and memory of sampling and planning, into results/bench/
	$(BENCHMARKS) bench --forcerun bench_sampling bench_planning $(ARGS)

bench-guidance: environment ## what settings of guidance cost and reach, into results/bench/
	$(BENCHMARKS) guidance_bench --forcerun bench_guidance $(ARGS)

bench-scale: environment ## costs of large trials (SLURM too, where it is installed), into results/bench/scale.tsv
	@PYTHONPATH=tests/support $(BIN)/python benchmarks/scale.py $(ARGS)

# The lock file's copy is written last: an installation that was cut off is done again. Modules are compiled
# when they are first imported, which is a small part of them. So a variable of many container images that keeps
# Python from storing what it compiled does not count: each job would compile all its modules again.
environment: ## the virtual environment .venv, with the library as an editable installation
	@cmp -s requirements.lock .venv/requirements.lock || { \
	    "$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	        { echo "Python 3.11 or newer is needed; say which by: make PYTHON=/path/to/python3" >&2; exit 1; }; \
	    echo "Installing the environment into .venv (once, some minutes)"; \
	    "$(PYTHON)" -m venv .venv && \
	    $(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check -r requirements.lock && \
	    $(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --disable-pip-version-check -e . && \
	    cp requirements.lock .venv/requirements.lock; \
	}

style: environment ## ruff, snakefmt, Snakemake's linter and the linter of the documents
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m snakefmt --check workflow benchmarks/Snakefile
	$(BIN)/python -m snakemake --lint
	$(BIN)/python tests/support/prose.py

layers: environment ## import layers of the package
	$(BIN)/lint-imports --no-cache

dry-run: environment ## the plan of the demo cohort, without running it
	$(BIN)/python -m snakemake --dry-run --quiet rules

# A worker that crashes ends the tests: pytest-xdist 3.8 hangs after it has replaced one (its issues 784 and 1378).
tests: environment ## all tests, in WORKERS processes
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder --max-worker-restart 0 \
	    --durations 30 --durations-min 20
