# make setup   the environment in .venv (nothing but Python 3.11+, pip and a package index needed)
# make demo    the whole main job on the sample images; open out/demo/overview.png
# make test    lint and tests
# make web     the page of maskseg serve, from web/ into the package (node comes with the environment)
# make wheel   dist/: the wheels of maskseg and Detectron2, to be installed where there is no network
# make bench   the tables of benchmarks/README.md
PYTHON ?= python3
VENV ?= .venv
PY := $(VENV)/bin/python
# Touched when the set-up has ended well, so that the next call costs nothing until one of these files changes.
STAMP := $(VENV)/maskseg-setup-done

D2_WHEEL := dist/detectron2-0.6-py3-none-any.whl

# The page as the package holds it; newer than all that it is made of.
PAGE := maskseg/serve/static/index.html

.PHONY: setup demo test lint web wheel bench

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

web: $(PAGE)

$(PAGE): $(wildcard web/*.json web/*.ts web/*.html web/src/*) | setup
	cd web && export PATH="$(abspath $(VENV))/bin:$$PATH" && npm ci --no-audit --no-fund && npm run build

# With Detectron2's wheel, which tests/test_wheel.py installs beside maskseg's into an empty folder.
test: setup lint web $(D2_WHEEL)
	$(PY) -m pytest

lint: setup
	$(PY) -m ruff check .

# setuptools leaves its build folder, from which a module that is gone would come into the next wheel.
wheel: setup web $(D2_WHEEL)
	rm -rf build dist/maskseg-*.whl
	$(PY) -m pip wheel --disable-pip-version-check --no-deps --no-build-isolation --no-index -w dist .
	rm -rf build

$(D2_WHEEL): tools/install_detectron2.py | setup
	$(PY) tools/install_detectron2.py --wheel-dir dist

bench: setup
	@set -e; for script in benchmarks/*.py; do echo "== $$script"; $(PY) $$script; done
