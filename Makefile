# Everything a fresh machine needs is Python 3.11 (with venv), make and a C++ compiler.
#
#   make demo   set up, compile a video-diffusion UNet for a CPU, an iPhone and an Android GPU, run and verify it
#   make test   set up, then lint, types, architecture rules and all tests
#
# The environment lives in .venv and is made anew only when pyproject.toml or the native sources change.

PYTHON  ?= $(shell command -v python3.11 || command -v python3)
JOBS    ?= $(shell $(PYTHON) -c 'import os; print(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())')
BIN     := .venv/bin
TORCH   := $(shell sed -n 's/^ *"\(torch==[0-9.]*\)".*/\1/p' pyproject.toml)
NATIVE  := CMakeLists.txt $(shell find backends/runtime -type f)

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint types architecture unit models bench clean

help: ## Show this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 20

setup: .venv/.ready ## Create .venv and install the pinned tools

.venv/.ready: pyproject.toml $(NATIVE)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' \
	  || { echo "penstock's pinned tools need Python 3.11; found $$($(PYTHON) --version). Set PYTHON=…" >&2; exit 6; }
	@echo "== environment: .venv (the first time takes a few minutes)"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --progress-bar on $(TORCH)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --progress-bar on -e '.[dev]'
	@touch $@

demo: setup ## Compile, run and verify a small video-diffusion UNet
	$(BIN)/python examples/compile_video_unet.py --output out

test: lint types architecture unit models ## Lint, types, architecture rules and all tests

lint: setup
	@echo "== lint"
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	@echo "== types"
	$(BIN)/mypy

architecture: setup
	@echo "== architecture"
	$(BIN)/lint-imports

# One thread per worker: the workers share the cores.
unit models: export OMP_NUM_THREADS = 1
unit models: export PENSTOCK_THREADS = 1

unit: setup
	@echo "== tests"
	$(BIN)/pytest -n $(JOBS) -m "not models" -q

models: setup
	@echo "== real architectures"
	$(BIN)/pytest -n $(JOBS) -m models -q --durations=5

bench: setup ## Measure against PyTorch eager, torch.compile, ONNX Runtime and TVM
	$(BIN)/python -m benchmarks.models
	$(BIN)/python -m benchmarks.kernels
	$(BIN)/python -m benchmarks.runner_vs_vm
	$(BIN)/python -m benchmarks.graph_passes

clean: ## Remove everything that was made
	rm -rf .venv build out dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
