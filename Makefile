# Everything a developer runs. `make help` lists it.
#
# The virtual environment is .venv, made from requirements/dev.txt when that file changes. Tools are called as
# `python -m ...`, never by their scripts, whose first lines hold the path of the folder they were installed in.

PYTHON ?= python3
VENV   := .venv
PY     := $(VENV)/bin/python
STAMP  := $(VENV)/.stamp
LINTED := operator examples tests $(wildcard bench)

export PYTHONPATH := operator:examples

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help dev fmt lint types house parts test test-unit verify manifests demo stand run soak bench-latency bench-warmup bench-index bench-tuning bench-oneprocess bench-writes bench-answers bench-makespan bench-backfill bench-scale requirements wheels

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

dev: $(STAMP) ## make the virtual environment

$(STAMP): requirements/dev.txt
	@echo "making $(VENV) with the pinned requirements, about a minute"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=...")'
	@$(PYTHON) -m venv $(VENV)
	@$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@touch $@

fmt: $(STAMP) ## format the code and mend what can be mended
	@$(PY) -m ruff check --quiet --fix-only $(LINTED)
	@$(PY) -m ruff format $(LINTED)

lint: $(STAMP) ## check style, format and the walls between layers
	@$(PY) -m ruff check $(LINTED)
	@$(PY) -m ruff format --check $(LINTED)
	@$(PY) -c 'from importlinter.cli import lint_imports_command; lint_imports_command()' --no-logo

types: $(STAMP) ## check the types, strictly
	@$(PY) -m mypy

house: $(STAMP) ## check the house rules
	@$(PY) -m pytest -q tests/test_house.py

# Half of the tests wait for a clock or a neighbour, so two processes share two cores well.
test: lint types verify house parts ## everything CI checks: lint, types, house rules, then all tests but the soak
	@$(PY) -m pytest -m "not soak" -n 2 --dist loadfile

parts: $(STAMP) ## fetch or build what the stand is made of: minutes the first time, nothing afterwards
	@$(PY) -m stand.parts

test-unit: $(STAMP) ## the pure tests only: no database, no API server, seconds
	@$(PY) -m pytest -m "not real and not cluster and not crash and not soak"

verify: $(STAMP) ## fail when crds/ or the chart's copy differ from what the types generate
	@$(PY) -m vectorops manifests --check
	@new=$$(git ls-files --others --exclude-standard -- crds charts 2>/dev/null); \
	test -z "$$new" || { echo "generated, but not in git yet:"; echo "$$new"; exit 1; }

manifests: $(STAMP) ## generate crds/, RBAC and the chart's copy from the types
	@$(PY) -m vectorops manifests

demo: parts ## show the operator at work on a local stand; KEEP=1 leaves it running
	@KEEP="$(KEEP)" $(PY) -m stand.demo

stand: parts ## the same local world by hand, until Ctrl-C; BARE=1 leaves the operator for you to install
	@BARE="$(BARE)" $(PY) -m stand

run: $(STAMP) ## run the operator here, against KUBECONFIG (else ~/.kube/config)
	@KUBECONFIG="$${KUBECONFIG:-$$HOME/.kube/config}" $(PY) -m vectorops run

soak: parts ## the long test: ten minutes in which an unchanged world must write nothing
	@$(PY) -m pytest -m soak --timeout=0

bench-latency: parts ## measure spec edit to status on a real API server
	@$(PY) bench/latency.py

bench-index: parts ## measure a rebuild beside the runbook's and an expert's, ROWS=30000 ROUNDS=3; minutes
	@$(PY) bench/index.py

bench-tuning: parts ## measure a tuning beside the runbook's sweep, ROWS=30000; minutes
	@$(PY) bench/tuning.py

bench-oneprocess: parts ## measure where one operator process stops, beside pgai's worker if PGAI= names it; minutes
	@$(PY) bench/oneprocess.py

bench-answers: $(STAMP) ## measure an answer on its way to COPY beside the usual two ways, ROUNDS=20
	@$(PY) bench/answers.py

bench-makespan: parts ## measure whole backfills at a provider's limits beside what people do now, ROWS=20000; minutes
	@$(PY) bench/makespan.py

bench-scale: parts ## measure readiness and memory with OBJECTS=5000 beside a bare Kopf; minutes
	@$(PY) bench/scale.py

bench-backfill: bench-answers bench-writes bench-makespan bench-oneprocess ## all there is to measure of a backfill

bench-warmup: parts ## measure how good a warmed cache is beside the best possible one
	@$(PY) bench/warmup.py

bench-writes: parts ## measure writing vectors beside other ways, ROWS=20000 ROUNDS=3; minutes
	@$(PY) bench/writes.py

wheels: $(STAMP) ## fetch and build the wheels that the Dockerfile installs from, into wheels/
	@rm -rf wheels
	@$(PY) -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir wheels -r requirements/runtime.txt
	@$(PY) -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir wheels .
	@ls wheels | wc -l | xargs echo "wheels:"

requirements: $(STAMP) ## compile requirements/*.in, some minutes; UPGRADE=1 takes newer versions
	@for file in runtime dev go; do \
	  echo "compiling requirements/$$file.txt"; \
	  CUSTOM_COMPILE_COMMAND="make requirements" $(PY) -m piptools compile --quiet --generate-hashes --allow-unsafe \
	    --strip-extras --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-emit-options \
	    $(if $(UPGRADE),--upgrade) --output-file requirements/$$file.txt requirements/$$file.in || exit 1; \
	done
