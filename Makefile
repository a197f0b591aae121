# make setup   the environment in .venv (nothing but Python 3.11+, pip and a package index needed)
# make demo    the whole main job on the sample images; open out/demo/overview.png
# make test    lint, all tests with the examples of the docstrings, and the share of the branches that they reach
# make quick   the same tests but for the slow ones
# make test-napari   the tests of the plugin, on a display that nobody sees (xvfb-run; Debian: xvfb, libgl1-mesa-dri, libegl1)
# make lint    formatting, lint, which module may import which, types
# make fuzz    spoiled files for every reader, for MINUTES=5
# make web     the page of maskseg serve, from web/ into the package (node comes with the environment)
# make hashes  requirements-hashes.txt anew, after a change of setup.cfg or constraints.txt
# make wheel   dist/: maskseg's wheel, which carries Detectron2, and wheels of what the index has as source only
# make docs    the documentation in docs/_build/html, its pages with code executed
# make bench   the tables of benchmarks/README.md, with DATA=data/dsb2018 and TISSUE=monuseg_train.zip
PYTHON ?= python3
VENV ?= .venv
PY := $(VENV)/bin/python
# Touched when the set-up has ended well, so that the next call costs nothing until one of these files changes.
STAMP := $(VENV)/maskseg-setup-done

SOURCE_ONLY := fvcore iopath antlr4-python3-runtime

# The page as the package holds it; newer than all that it is made of.
PAGE := maskseg/serve/static/index.html

.PHONY: setup demo test quick fuzz test-napari lint web wheel docs hashes bench

setup: $(STAMP)

$(STAMP): setup.cfg setup.py pyproject.toml constraints.txt tools/vendor_detectron2.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "maskseg needs Python 3.11 or newer; run: make $(or $(MAKECMDGOALS),setup) PYTHON=/path/to/python3.12" >&2; exit 2; }
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --disable-pip-version-check -c constraints.txt -e '.[test]'
	@touch $@

demo: setup
	$(PY) tools/demo.py

web: $(PAGE)

$(PAGE): $(wildcard web/*.json web/*.ts web/*.html web/src/*) | setup
	cd web && export PATH="$(abspath $(VENV))/bin:$$PATH" && npm ci --no-audit --no-fund && npm run build

# One process a core, and one thread a process: the small networks of the tests gain nothing from more.
PARALLEL := OMP_NUM_THREADS=1 $(PY) -m pytest -n auto --dist loadfile

test: setup lint web
	$(PARALLEL) --cov

test-napari: setup
	$(PY) -m pip install --disable-pip-version-check -q -c constraints.txt -e '.[napari]' pytest-qt
	QT_QPA_PLATFORM=xcb LIBGL_ALWAYS_SOFTWARE=1 xvfb-run -a $(PY) -m pytest tests/napari_plugin

quick: setup
	$(PARALLEL) -m "not slow"

# Hypothesis goes on with new examples until the time is over; what it finds is printed with the bytes that show it.
MINUTES ?= 5
fuzz: setup
	end=$$(($$(date +%s) + 60 * $(MINUTES))); while test $$(date +%s) -lt $$end; do \
	  MASKSEG_FUZZ_EXAMPLES=300 $(PY) -m pytest tests/fuzz tests/formats/test_fuzz.py -q -p no:cacheprovider || exit 1; done

lint: setup
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(VENV)/bin/lint-imports --no-logo
	$(PY) -m mypy

# fvcore, iopath and antlr are on the index as source only. With their wheels a whole set can be carried to where there
# is no network, for another system too:
#   pip download --only-binary=:all: --find-links dist -d dist maskseg    then there: pip install --no-index --find-links dist maskseg
# setuptools leaves its build folder, from which a module that is gone would come into the next wheel.
wheel: setup web
	rm -rf build dist/maskseg-*.whl
	$(PY) -m pip wheel --disable-pip-version-check --no-deps --no-build-isolation --no-index -w dist .
	rm -rf build
	$(PY) -m pip wheel --disable-pip-version-check --no-deps -c constraints.txt -w dist $(SOURCE_ONLY)

# Beside what the tests need: Sphinx, its theme, and Jupyter, which executes pages.
docs: setup
	$(PY) -m pip install --disable-pip-version-check -q -c constraints.txt -e '.[docs]'
	$(PY) -m sphinx -W --keep-going -q -b html docs docs/_build/html
	@echo docs/_build/html/index.html

hashes: setup
	$(PY) -m pip install --disable-pip-version-check -q uv
	$(PY) tools/hashes.py

# The converted images of the 2018 Data Science Bowl, and tissue images in a zip: datasets/README.md says where from.
# Left out is generalise.py, which trains for hours, soak.py, which takes three, before_after.py, which wants another
# model, and the largest image of tiles.py.
DATA ?= data/dsb2018
TISSUE ?= monuseg_train.zip
BENCH := check.py convert.py convolutions.py empty.py postprocess.py nuclei.py load.py peers.py protein.py backends.py brightness.py evaluate.py \
  "predict.py --data $(DATA):train" "predict.py --dense" "views.py --data $(DATA):dev" "train_sample.py $(DATA):train" "train_step.py $(DATA):train" \
  "grouping.py $(DATA)" "mosaics.py $(DATA)" "tiles.py $(TISSUE) --runs compare,middle" "corrections.py $(TISSUE) out/bench"
bench: setup
	@status=0; for words in $(BENCH); do echo "== benchmarks/$$words"; $(PY) benchmarks/$$words || status=1; done; exit $$status
