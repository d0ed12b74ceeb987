# `make demo` runs the whole loop on real text, `make test` checks everything, `make quick` what can be checked in two minutes.
# Each sets up what it needs.
VENV ?= .venv
# Not that of an activated $(VENV), which the target venv removes first.
OUTSIDE = $$(printf %s "$$PATH" | tr : '\n' | grep -vxF '$(abspath $(VENV))/bin' | paste -sd: -)
PYTHON ?= $(shell PATH="$(OUTSIDE)"; command -v python3.11 || command -v python3)
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# Tested with this PyTorch. PIP_TORCH_ARGS goes to the pip that installs it: `--index-url https://download.pytorch.org/whl/cpu`.
TORCH ?= torch==2.13.0
PIP_TORCH_ARGS ?=
RUNS ?= runs
# Large pages of memory, as steps have them: models in the tests' own processes run faster on a CPU.
export GLIBC_TUNABLES ?= glibc.malloc.hugetlb=1

.PHONY: setup demo quick test lint bench clean
setup: $(VENV)/.ready

# On a machine with an NVIDIA driver the environment sees the system's packages: a PyTorch that is installed there is used.
$(VENV)/.ready: pyproject.toml constraints.txt requirements-no-deps.txt
	@test -x $(BIN)/python && $(BIN)/python -m pip --version >/dev/null 2>&1 || $(MAKE) --no-print-directory venv
	@$(BIN)/python -c 'import torch' 2>/dev/null || $(PIP) install -q $(PIP_TORCH_ARGS) '$(TORCH)'
	$(PIP) install -q -c constraints.txt -e '.[dev]'
	$(PIP) install -q --no-deps -r requirements-no-deps.txt
	@touch $@

.PHONY: venv
venv:
	@rm -rf $(VENV)
	@flags=; command -v nvidia-smi >/dev/null 2>&1 && flags=--system-site-packages; \
	$(PYTHON) -m venv $$flags $(VENV) 2>/dev/null || { \
	  rm -rf $(VENV); \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update -qq && apt-get install -y -qq python3-venv && $(PYTHON) -m venv $$flags $(VENV); \
	  else \
	    echo "This Python cannot make virtual environments. On Debian: sudo apt-get install python3-venv; then run make again." >&2; exit 1; \
	  fi; }

demo: setup
	$(BIN)/synpro run configs/tiny.toml --runs $(RUNS)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The inner loop: style, and the tests that open no model or a small one once.
QUICK := tests/audit/test_reference.py tests/compare/test_config.py tests/compare/test_tuning.py tests/corpus tests/faithfulness/test_logistic.py \
  tests/engines/test_registry.py tests/engines/test_scripted.py tests/lm/test_batches.py tests/lm/test_plateau.py tests/measure tests/operations tests/planning \
  tests/report tests/rewards/test_my_reward.py tests/rewards/test_rewards.py tests/rewards/test_waiting.py tests/runner/test_end.py tests/runner/test_jobs.py tests/runner/test_step.py \
  tests/stages/test_prepare.py tests/stages/test_synthesize.py tests/test_config.py tests/test_config_docs.py \
  tests/test_docs.py tests/test_house.py tests/test_kuberay.py tests/test_mentions.py tests/test_names.py tests/test_plugins.py tests/test_published.py tests/test_schema.py
quick: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest $(QUICK) -m "not loop and not hub" --numprocesses auto --maxprocesses 4 --dist loadfile

# One pytest worker per core, four at most: each loads models of its own.
test: lint
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

# Speed and memory beside the libraries called directly, on the demo's run and a machine with nothing else to do.
bench: setup
	@test -f $(RUNS)/tiny/report.html || $(MAKE) --no-print-directory demo
	$(BIN)/python -m benchmarks.all $(RUNS)/tiny

# A Chromium, in which a test opens the served report; where there is none, that test is skipped.
.PHONY: browser
browser:
	@command -v chromium >/dev/null || command -v google-chrome >/dev/null || { apt-get update -qq && apt-get install -y -qq chromium; }

clean:
	rm -rf $(VENV) build dist *.egg-info src/*.egg-info
