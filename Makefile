# Everything a contributor runs. `make help` explains the targets; CI runs `make check` and `make test`.

PYTHON ?= python3
# Processes that run the tests; each uses one thread, so that they do not fight for the cores.
WORKERS ?= 2

BIN := .venv/bin
STAMP := .venv/.installed
CUDA_STAMP := .venv-cuda/.installed
PEERS_STAMP := .venv-peers/.installed
TORCH := $(shell sed -n 's/^torch==//p' constraints.txt)

.DEFAULT_GOAL := help
.PHONY: help setup train learn test test-cuda check-cuda crash-test fuzz mutants check fmt bench bench-peers clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## make .venv with everything that training, tests and checks need

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "$(PYTHON) is missing or older than 3.11: install Python 3.11 or newer," \
	    "or name one: make setup PYTHON=/path/to/python3.11" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[box2d,minatar,plots,reference,dev]'
	@touch $@

train: setup ## train the CartPole preset, a quarter of a minute on one core
	$(BIN)/dqn train configs/cartpole.yaml

learn: setup ## show that every variant learns CartPole, on two seeds, half an hour
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/learn.py

test: setup ## run the tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

test-cuda: setup ## run the tests that need a CUDA GPU
	@case $$($(BIN)/python -c 'import torch; print(torch.cuda.is_available())') in \
	  True) $(BIN)/python -m pytest -m cuda ;; \
	  False) echo "test-cuda: skipped, there is no CUDA GPU here" ;; \
	  *) echo "test-cuda: torch cannot be asked for a GPU, see above" >&2; exit 1 ;; \
	esac

check-cuda: $(CUDA_STAMP) ## run every preset on a GPU that is not there and count waits; downloads gigabytes the first time
	OMP_NUM_THREADS=1 .venv-cuda/bin/python -m tests.cuda_without_gpu.run

# Three equals signs: where a build for CPUs is at hand, two would take that.
$(CUDA_STAMP): pyproject.toml constraints.txt
	@test -x .venv-cuda/bin/python || $(PYTHON) -m venv .venv-cuda
	.venv-cuda/bin/python -m pip install --quiet --no-cache-dir -c constraints.txt 'torch===$(TORCH)'
	.venv-cuda/bin/python -m pip install --quiet --no-cache-dir -c constraints.txt -e '.[box2d,minatar]'
	@touch $@

crash-test: setup ## kill runs of many kinds at random moments and compare them with unkilled ones, five minutes
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.crash.run

fuzz: setup ## mutate ten thousand configs and ten thousand files of a run, half an hour
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.fuzz.configs --cases 10000
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.fuzz.files --cases 10000

mutants: setup ## show that the tests catch each of more than a hundred defects, a quarter of an hour
	$(BIN)/python tests/mutants/run.py

check: setup ## everything but the tests: format, lint, types, floors, generated docs
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python docs/generate.py --check

fmt: setup ## format, fix what the linter can fix, rewrite the generated docs
	$(BIN)/ruff format
	$(BIN)/ruff check --fix
	$(BIN)/python docs/generate.py

bench: setup ## measure the training speed on Pong
	$(BIN)/python benchmarks/pong_speed.py

bench-peers: setup $(PEERS_STAMP) ## compare speed with stable-baselines3 and Tianshou, installed first; rewrites benchmarks/data
	$(BIN)/python benchmarks/cartpole_speed.py --peer-python .venv-peers/bin/python --rounds 4
	$(BIN)/python benchmarks/pong_speed.py --peer-python .venv-peers/bin/python --rounds 5 --steps 1600

# An environment of their own, without constraints.txt: Tianshou wants pandas and virtualenv of earlier major versions.
$(PEERS_STAMP): pyproject.toml constraints.txt
	@test -x .venv-peers/bin/python || $(PYTHON) -m venv .venv-peers
	.venv-peers/bin/python -m pip install --quiet 'torch==$(TORCH)'
	.venv-peers/bin/python -m pip install --quiet -e '.[peers]'
	@touch $@

clean: ## remove all environments, caches and build outputs; never runs/
	rm -rf .venv .venv-cuda .venv-peers build dist *.egg-info .coverage
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -path ./runs -prune -o -path ./.git -prune -o -type d -name __pycache__ -exec rm -rf {} +
