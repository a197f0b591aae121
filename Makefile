# make setup   the environment in .venv (nothing but Python 3.11+, pip and a package index needed)
# make demo    the whole main job on the sample images; open out/demo/overview.png
# make test    lint and tests
# make bench   the tables of benchmarks/README.md
PYTHON ?= python3
VENV ?= .venv
PY := $(VENV)/bin/python
# Touched when the set-up has ended well, so that the next call costs nothing until one of these files changes.
STAMP := $(VENV)/maskseg-setup-done

.PHONY: setup demo test lint bench

setup: $(STAMP)

$(STAMP): setup.cfg setup.py pyproject.toml constraints.txt tools/install_detectron2.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "maskseg needs Python 3.11 or newer; run: make $(or $(MAKECMDGOALS),setup) PYTHON=/path/to/python3.12" >&2; exit 2; }
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --disable-pip-version-check -c constraints.txt -e '.[test]'
	$(PY) tools/install_detectron2.py
	@touch $@

demo: setup
	$(PY) tools/demo.py

test: setup lint
	$(PY) -m pytest

lint: setup
	$(PY) -m ruff check .

bench: setup
	@set -e; for script in benchmarks/*.py; do echo "== $$script"; $(PY) $$script; done
