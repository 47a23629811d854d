# Two commands matter: `make train` runs the main job, `make test` runs the tests.
# Both set everything up first; the stamp file lets a second call start at once.

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# One OpenMP thread per process: the processes of a run share the cores.
RUN := OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup train train-quick control test test-slow fuzz lint format lock

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile

setup: $(STAMP) ## make the virtual environment with the locked CPU stack

$(STAMP): requirements/cpu.lock requirements/install.sh pyproject.toml
	@PYTHON=$(PYTHON) bash requirements/install.sh $(VENV)
	@touch $@

train: $(STAMP) ## the main job: masked SFT, then PPO on the shipped start, evaluated before and after (ARGS="key=value ...")
	@$(RUN) $(BIN)/tether train ppo_tiny laptop $(ARGS)

train-quick: $(STAMP) ## the same in a fifth of the time and with fewer evaluation tasks
	@$(RUN) $(BIN)/tether train ppo_quick laptop $(ARGS)

# The words that give the control the seconds, the seed and the evaluation of a run.
define SAME_AS
import json, pathlib, sys
run = pathlib.Path(sys.argv[1])
seconds = json.loads((run / "summary.json").read_text())["learning_seconds"]
config = json.loads((run / "run.json").read_text())
own = config["evaluation"]
print(f"run.max_seconds={seconds}", f"run.seed={config['run']['seed']}")
print(*(f"evaluation.{key}={own[key]}" for key in ("seed", "num", "num_others", "num_during")))
endef
export SAME_AS

control: $(STAMP) ## plain SFT for the seconds that a run of the main job learned, and their paired tests (PPO=runs/NAME)
	@test -f "$(PPO)/summary.json" || { echo "make control PPO=RUN: expected the folder of a finished run, with summary.json"; exit 2; }
	@$(RUN) $(BIN)/tether train sft_control_tiny laptop run.directory=$(PPO)/control \
	    $$($(BIN)/python -c "$$SAME_AS" $(PPO)) $(ARGS)
	@$(BIN)/tether compare $(PPO) $$(ls -d $(PPO)/control/*/ | tail -n 1) --control

test: $(STAMP) ## the tests, without the slow ones and those that need a GPU
	@$(RUN) $(BIN)/python -m pytest -q $(ARGS)

test-slow: $(STAMP) ## all tests that need no GPU: real Ray, vLLM and DeepSpeed; minutes
	@$(RUN) $(BIN)/python -m pytest -q -m "not gpu" $(ARGS)

CASES ?= 100000
fuzz: $(STAMP) ## fuzz parsers, schema checks and score input with atheris (CASES=100000 each; what it finds lies in build/fuzz)
	@mkdir -p build/fuzz/parse build/fuzz/schema build/fuzz/score
	@for target in parse schema score; do $(RUN) PYTHONPATH=$(CURDIR) $(BIN)/python tests/fuzz/harness.py $$target \
	    -runs=$(CASES) -timeout=60 -max_len=400 -len_control=0 -print_final_stats=1 -verbosity=0 \
	    -artifact_prefix=build/fuzz/ build/fuzz/$$target || exit 1; done

lint: $(STAMP) ## ruff, pyright and the import contracts
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright
	$(BIN)/lint-imports

format: $(STAMP) ## rewrite the sources in the house style
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

# uv only resolves here; what it writes is installed by pip. torch is left out
# because its CPU build comes from an index of its own (requirements/install.sh);
# away from that index: make lock LOCK_TORCH="--find-links FOLDER_OF_THE_WHEEL".
LOCK_TORCH ?= --torch-backend cpu
lock: ## resolve requirements/cpu.in anew into requirements/cpu.lock
	$(PYTHON) -m venv build/lock
	build/lock/bin/pip --quiet --disable-pip-version-check install uv
	@echo "# The whole CPU environment but torch, for Python 3.11 on Linux x86-64. Made by \`make lock\`; install with --no-deps." > build/cpu.lock
	build/lock/bin/uv pip compile requirements/cpu.in --quiet --no-header --no-annotate --no-emit-package torch $(LOCK_TORCH) \
	    --override requirements/overrides.txt --python-version 3.11 --python-platform x86_64-manylinux_2_28 >> build/cpu.lock
	mv build/cpu.lock requirements/cpu.lock
