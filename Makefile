# make atlas   measure the default model and write runs/atlas/report.html
# make anatomy the same, then structure, predictability, manipulation, roles and the audit of claims
# make test    run the tests
#
# All set themselves up in .venv. Another Python: make test PYTHON=python3.12 VENV=.venv312

PYTHON ?= python3
VENV ?= .venv
TORCH ?= torch==2.13.0
PY := $(VENV)/bin/python
# Most modules of what is installed are never imported; Python compiles those that are.
PIP_INSTALL := $(PY) -m pip install --quiet --disable-pip-version-check --no-compile
WORKDIR ?= runs/atlas

.PHONY: atlas anatomy test slow worlds model lint format parity harness bench bench-recovery bench-train bench-overheads clean

atlas: model
	$(PY) -m experiments.importance --config=configs/importance.py --workdir=$(WORKDIR)

anatomy: atlas
	$(PY) -m experiments.structure --config=configs/structure.py --workdir=runs/structure
	$(PY) -m experiments.predictability --config=configs/predictability.py --workdir=runs/predict
	$(PY) -m experiments.manipulation --config=configs/manipulation.py --workdir=runs/manipulation
	$(PY) -m experiments.roles --config=configs/roles.py --workdir=runs/roles
	$(PY) -m experiments.claims --config=configs/claims.py --workdir=runs/claims

# A file's tests stay in one of two processes, which share what its fixtures made; files with slow
# tests come first (tests/conftest.py).
PYTEST := $(PY) -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder --durations 40
# Test processes start many more; what one of them compiled the others find, small as it may be.
test slow worlds parity: export JAX_COMPILATION_CACHE_DIR = $(abspath $(VENV))/jax_cache
test slow worlds parity: export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS = 0
# Small programs take longer to compile than to run; make parity compiles them as users do.
test slow worlds: export JAX_DISABLE_MOST_OPTIMIZATIONS = 1

# With SLOW=1 what takes more than ten seconds each, too.
test: model
	$(PYTEST) -m "not parity and not worlds $(if $(SLOW),,and not slow)"

slow: model
	$(PYTEST) -m "slow and not parity"

# Every claim on 200 draws of a world in which it is true and of one in which nothing happens.
worlds: model
	$(PY) -m pytest --numprocesses 2 -m worlds

model: $(VENV)/.installed
	$(PY) tools/fetch_model.py

lint: $(VENV)/.installed
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .

format: $(VENV)/.installed
	$(PY) -m ruff format .
	$(PY) -m ruff check --fix .

# Against live transformers; the only place besides the benchmark that needs torch.
# Torch's threads spin while they wait for each other: one in each process.
parity: export OMP_NUM_THREADS = 1
parity: model $(VENV)/.torch
	$(PYTEST) -m parity tests/parity tests/tools

# lm-evaluation-harness on models and their variants; .ci/run leaves out its many dependencies.
harness: model $(VENV)/.torch
	$(PIP_INSTALL) -e ".[eval]"
	$(PY) -m pytest tests/parity/test_harness.py

bench: model $(VENV)/.torch
	$(PIP_INSTALL) -e ".[bench]"
	$(PY) tools/bench_sweep.py

bench-recovery: model $(VENV)/.torch
	$(PIP_INSTALL) -e ".[bench]"
	$(PY) tools/bench_recovery.py

bench-train: $(VENV)/.torch
	$(PIP_INSTALL) -e ".[bench]"
	$(PY) tools/bench_train.py

bench-overheads: $(VENV)/.installed
	for config in growth_small khop_growth role_moves; do $(PY) tools/bench_overheads.py --config $$config || exit 1; done

clean:
	rm -rf $(VENV)

$(VENV)/.installed: setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "jaxanatomy needs Python 3.11 or newer; $(PYTHON) is older or missing: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PIP_INSTALL) -e ".[test]"
	@touch $@

$(VENV)/.torch: $(VENV)/.installed
	$(PIP_INSTALL) "$(TORCH)"
	@touch $@
