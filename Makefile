# `make` lists what there is. Everything happens in .venv of this folder.
PYTHON ?= python3
BIN := .venv/bin
TOGETHER := -n auto --maxprocesses 8
export OMP_WAIT_POLICY ?= passive

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow smoke lint types wheel bench results reproduce docs gpu clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

setup: .venv/.ready  ## a virtual environment with everything in it

.venv/.ready: pyproject.toml requirements/pinned.txt requirements/learn2learn.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@# An older pip can't build learn2learn, which has no wheel.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'pip>=24'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements/pinned.txt -e '.[dev]'
	$(BIN)/python scripts/install_learn2learn.py
	touch $@

demo: setup  ## train and test on the built-in data, some minutes on a CPU
	$(BIN)/metavision train

test: setup  ## the tests, offline, some minutes
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(TOGETHER)

test-slow: setup  ## the slow tests too
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(TOGETHER) -m 'not gpu and not network'

smoke: setup  ## every algorithm learns: all of them on glyphs, under a minute each, in one table
	$(BIN)/metavision train -m algo=$(shell ls conf/algo | sed 's/.yaml//' | paste -sd,) budget=smoke backbone.filters=16 \
		'references=[untrained]' logger=none

lint: setup  ## style
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: setup  ## types
	$(BIN)/mypy

wheel: setup  ## build the wheel, install it elsewhere, and train with it
	$(BIN)/python scripts/try_wheel.py

bench: setup  ## time the ways to map over tasks, training, adapting and data against peers: in turns, half an hour
	$(BIN)/python benchmarks/mapping.py
	$(BIN)/metavision bench train --json outputs/bench-train.json --chart outputs/bench-train.png
	$(BIN)/metavision bench adapt --json outputs/bench-adapt.json
	$(BIN)/metavision bench data --json outputs/bench-data.json

results: setup  ## write RESULTS.md from conf/experiment and the runs in benchmarks/runs
	$(BIN)/python scripts/results.py

reproduce: setup  ## train the published numbers that lag most: BUDGET=short|full TIME=minutes make reproduce
	$(BIN)/python scripts/reproduce.py

docs: setup  ## the documentation as a site in build/site; a broken link is an error
	$(BIN)/python scripts/docs

gpu: $(if $(wildcard wheels),,setup)  ## tests, benchmarks, profile and pending runs on a CUDA device, in BUDGET seconds
	$(PYTHON) scripts/gpu.py

clean:  ## remove the virtual environment and caches, never outputs
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
