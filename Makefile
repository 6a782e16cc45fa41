# Every target has its plain pip line in the README, for people without make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

# Two threads in all: more make the small models slower, and two notebooks of one thread beat one of two.
export OMP_NUM_THREADS ?= 2
# Threads that wait must sleep, not spin: on a busy machine spinning made training ten times slower.
export OMP_WAIT_POLICY ?= PASSIVE
export TOKENIZERS_PARALLELISM := false
# numpy sorts by AVX-512, on an AMD Zen 4 three times slower than by AVX2 (numpy/x86-simd-sort, issue 6).
ZEN4 := $(shell awk '/^cpu family/ {f = $$NF} /^flags/ {print f == 25 && / avx512f /; exit}' /proc/cpuinfo 2>/dev/null)
ifeq ($(ZEN4),1)
export NPY_DISABLE_CPU_FEATURES ?= X86_V4 AVX512_ICL
endif

.PHONY: install notebooks execute test test-full lint format lab bench

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed: pass make PYTHON=/path/to/python3.11"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[test]"
	touch $@

notebooks: $(INSTALLED)
	HF_HUB_OFFLINE=1 $(BIN)/python -m tools.notebooks run --out runs --jobs 2

execute: $(INSTALLED)
	$(BIN)/python -m tools.notebooks execute

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --exclude '*.ipynb' .
	$(BIN)/lint-imports --no-cache

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format --exclude '*.ipynb' .

# nbval runs the cells with the small values of tests/nbval_parameters.yaml; papermill runs the defaults.
# Two processes of one thread each, a file at a time: 25 minutes would not do for one after the other.
test: export HF_HUB_OFFLINE := 1
test: export OMP_NUM_THREADS := 1
test: lint
	$(BIN)/pytest -n 2 --dist loadfile tests
	$(BIN)/pytest -n 2 --dist loadfile --nbval-lax --nbval-current-env --nbval-cell-timeout=300 notebooks
	$(BIN)/python -m tools.notebooks run --out runs --jobs 2

# The real models' sizes, presets and folders, with random weights.
test-full: export HF_HUB_OFFLINE := 1
test-full: $(INSTALLED)
	$(BIN)/pytest -m slow tests

# JupyterLab makes a fresh token and prints the address that holds it.
lab: $(INSTALLED)
	$(BIN)/jupyter lab --ip=127.0.0.1 --ServerApp.root_dir=notebooks

bench: $(INSTALLED)
	$(BIN)/python -m tools.bench
