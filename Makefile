# Needs Python 3.11 or later and nothing else; everything is installed into .venv in this folder.
#
#   make run ARGS="--model torchvision:resnet50 --port 8060"
#   make quick       the tests that need no process, no browser and no library's model, in about a minute
#   make test        what CI runs: lint, format, types and all tests but the slow ones
#
# Only relative paths below, and programs only as "python -m NAME": both hold in a folder with a space in its name, and
# after the folder was moved.

VENV := .venv
PY := $(VENV)/bin/python
# PIP_CONSTRAINT takes the place of a constraint in the machine's own pip configuration, which would otherwise apply beside
# the tested versions and can make them impossible; an index or a proxy set there still counts.
PIP := PIP_CONSTRAINT=constraints.txt $(PY) -m pip install --quiet --disable-pip-version-check --no-input
PAGE := $(VENV)/installed-page
DEV := $(VENV)/installed-dev
ORACLES := .venv-oracles/installed
ARGS ?=

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run quick test lint test-slow test-device bench sweep screenshot docker clean

help:
	@echo "make run         start the page; options go through ARGS=\"...\", \"make run ARGS=--help\" lists them"
	@echo "make quick       the tests that need no process, no browser and no library's model: about a minute"
	@echo "make test        lint, types and tests"
	@echo "make test-slow   the tests that take minutes, or need root or Firefox"
	@echo "make test-device  whether it all holds on this machine's accelerator (CUDA, MPS), with the Python in PYTHON=..."
	@echo "make bench       the benchmarks"
	@echo "make sweep       every layer of 150 models against an oracle; takes an hour, and goes on where it stopped"
	@echo "make screenshot  make the README's picture anew"
	@echo "make docker      build the image"
	@echo "make clean       remove .venv and everything else that was made here"

run: $(PAGE)
	@exec $(PY) app.py $(ARGS)

# On two processes, each with whole files, because the fixtures of a file are shared. What needs more, names it in ARGS.
test: lint
	$(PY) -m pytest -n 2 --dist loadfile --durations=25 --durations-min=1 $(ARGS)

quick: $(DEV)
	$(PY) -m pytest -p tests.quick -n 2 --dist loadfile $(ARGS)

lint: $(DEV)
	$(PY) tests/find_chromium.py
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

test-slow: $(DEV) $(ORACLES)
	$(PY) tests/find_chromium.py
	$(PY) tests/find_firefox.py
	$(PY) -m pytest -m slow $(ARGS)

# Installs nothing: it runs with the Python that is given, in which torch is, e.g. make test-device PYTHON=python3.
test-device:
	@PYTHONPATH="src$${PYTHONPATH:+:$$PYTHONPATH}" $(or $(PYTHON),$(PY)) -m bench.device $(ARGS)

bench: $(DEV)
	$(PY) tests/find_chromium.py
	$(PY) -m bench $(ARGS)

sweep: $(DEV)
	$(PY) -W ignore -m bench.sweep --write $(ARGS)

screenshot: $(DEV)
	$(PY) tests/find_chromium.py
	$(PY) docs/screenshot.py

docker:
	@command -v docker >/dev/null || { echo "make docker needs Docker, and there is no program of that name." >&2; exit 1; }
	docker build -t hookscope .

clean:
	rm -rf $(VENV) .venv-oracles build dist *.egg-info src/*.egg-info .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The oldest thing first: a Python that is new enough, with venv. $(PYTHON) is tried before the usual names.
$(PY):
	@for name in $(PYTHON) python3 python3.14 python3.13 python3.12 python3.11 python; do \
	    if "$$name" -c "import sys; sys.exit(sys.version_info < (3, 11))" >/dev/null 2>&1; then found="$$name"; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
	    echo "Hookscope needs Python 3.11 or later, and none was found; name one with make run PYTHON=/path/to/python3." >&2; \
	    exit 1; \
	fi; \
	if ! "$$found" -c "import ensurepip, venv" >/dev/null 2>&1; then \
	    echo "$$found cannot make virtual environments: install its venv module (Debian, Ubuntu: apt-get install python3-venv)." >&2; \
	    exit 1; \
	fi; \
	echo "Making a virtual environment in $(VENV)."; \
	"$$found" -m venv $(VENV) || { rm -rf $(VENV); echo "Making the virtual environment failed; the lines above say why." >&2; exit 1; }

$(PAGE): requirements.txt requirements-fast.txt constraints.txt | $(PY)
	@echo "Installing PyTorch and the other packages into $(VENV): about 5 GB on Linux, once. This takes some minutes."
	@$(PIP) -r requirements.txt -r requirements-fast.txt || { $(FAILED); }
	@touch $@

$(DEV): requirements-dev.txt requirements-hf.txt requirements-hf-trainer.txt requirements-lightning.txt \
        requirements-mcp.txt requirements-tsne.txt $(PAGE)
	@echo "Installing what the tests need, once."
	@$(PIP) -r requirements-dev.txt || { $(FAILED); }
	@touch $@

# Without constraints.txt, with which it clashes.
$(ORACLES): requirements-oracles.txt requirements-mlflow.txt requirements-watchers.txt | $(PY)
	@echo "Installing MLflow, Weights & Biases and NaNsense into .venv-oracles: about 1 GB, once."
	@$(PY) -m venv .venv-oracles
	@PIP_CONSTRAINT= .venv-oracles/bin/python -m pip install --quiet --disable-pip-version-check --no-input \
	    -r requirements-oracles.txt || { $(FAILED); }
	@PIP_CONSTRAINT= .venv-oracles/bin/python -m pip install --quiet --disable-pip-version-check --no-input --no-deps \
	    -r requirements-watchers.txt || { $(FAILED); }
	@touch $@

FAILED = echo "The installation failed; the lines above say why. It needs the network, this once." >&2; exit 1

