# Everything a person types. `make` prints the list; `make demo` and `make test` each set up what they need, once.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory
# One cache of compiled kernels for everything that is run from here.
export NUMBA_CACHE_DIR := $(CURDIR)/.venv/numba

PIP := .venv/bin/python -m pip --disable-pip-version-check
# Packages whose sha256 stands in a lock file, and no others: nothing is resolved, and what has no wheel is built with what
# build.lock brought.
LOCKED := $(PIP) install --quiet --require-hashes --no-deps --no-build-isolation
COPY := org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies
DELTA := io.delta:delta-spark_4.2_2.13:4.4.0

# Processes that run the tests, each with a Spark session of its own; WORKERS=0 runs them in one, for a debugger.
WORKERS ?= 2

# The first Python that will do. Each is run, not only looked for: a name on PATH may be a shim without a Python.
PYTHON ?=
CANDIDATES := $(PYTHON) python3.11 python3.12 python3.13 python3 python
WILL_DO := import sys; assert sys.version_info >= (3, 11); import ensurepip, venv
NO_PYTHON := Freshet needs Python 3.11 or newer with its venv module, and no such Python is on PATH: apt install python3 \
python3-venv (Debian, Ubuntu) or brew install python@3.13 (Homebrew) brings it.

.PHONY: help audit sbom lock demo demo-kafka kafka test lint type check bench soak package clean tools setup

help: ## print this list
	@echo "make TARGET, where TARGET is one of"
	@sed -n 's/^\([a-z-]*\):.*## /  \1|/p' $(MAKEFILE_LIST) | while IFS='|' read -r name text; do \
	  printf '  %-12s %s\n' "$${name# *}" "$$text"; done
	@echo "Options go into ARGS: make demo ARGS=--quick, make test ARGS='tests/settings -x'."

demo: setup ## watch a recommender learn from a stream, kill it, start it again
	@$(JAVA) .venv/bin/freshet demo $(ARGS)

demo-kafka: setup kafka ## the same with events from a broker of Kafka (needs Maven)
	@$(JAVA) .venv/bin/freshet demo --kafka .venv/kafka/broker --set demo.out=freshet-demo-kafka \
	  --set "spark.conf.spark.jars=$$(ls -d $(CURDIR)/.venv/kafka/connector/*.jar | paste -sd,)" $(ARGS)

test: setup kafka ## run all tests (some 20 minutes on 2 cores)
	@$(JAVA) .venv/bin/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

lint: .venv/ready ## check style
	@.venv/bin/ruff check .

type: .venv/ready ## check types
	@.venv/bin/mypy

check: lint type test ## lint, type and test

bench: setup .venv/bench ## measure against the bars and write docs/benchmarks.md
	@$(JAVA) .venv/bin/python bench/run.py $(ARGS)

soak: setup ## the long tests, 1,000 schedules of faults, 200 random kills, 2,000 micro-batches (hours)
	@FRESHET_SCHEDULES=1000 .venv/bin/python -m pytest -q -p no:xdist tests/faults/test_schedules.py tests/faults/test_machine.py
	@$(JAVA) .venv/bin/python -m pytest -q -p no:xdist -m soak
	@$(JAVA) .venv/bin/python bench/soak.py $(ARGS)

audit: .venv/audit ## ask for advisories on every pinned package
	@.venv/bin/pip-audit --requirement constraints.txt --no-deps --disable-pip

sbom: .venv/audit ## list what is installed, as CycloneDX, into dist/
	@mkdir -p dist && .venv/bin/cyclonedx-py environment .venv --output-file dist/freshet.cdx.json && echo dist/freshet.cdx.json

lock: .venv-lock/ready ## write the hashes of all pinned packages into requirements/
	@.venv-lock/bin/python requirements/make.py

# An environment of its own: .venv cannot be made while a new requirement has no hash yet.
.venv-lock/ready: requirements/build.lock requirements/lock.lock
	@for python in $(CANDIDATES); do \
	  if "$$python" -c '$(WILL_DO)' 2>/dev/null; then "$$python" -m venv .venv-lock; break; fi; done
	@.venv-lock/bin/python -m pip --disable-pip-version-check install --quiet --require-hashes --no-deps --no-build-isolation \
	  --requirement requirements/build.lock --requirement requirements/lock.lock
	@touch $@

.venv/audit: .venv/ready requirements/audit.lock
	@$(LOCKED) --requirement requirements/audit.lock
	@touch $@

package: .venv/ready ## build the wheel into dist/
	@rm -rf dist
	@$(PIP) wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .
	@ls dist/*.whl

clean: ## remove what was built and cached; the environment (.venv) stays
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis spark-warehouse metastore_db derby.log
	find lib tests jobs bench -name __pycache__ -type d -prune -exec rm -rf {} +

# Sets JAVA_HOME to what freshet.java chose; empty means the Java on PATH.
JAVA = JAVA_HOME="$$(PYTHONPATH=lib .venv/bin/python -m freshet.java)"

setup: tools .venv/ready .venv/jars .venv/kernels

tools:
	@for python in $(CANDIDATES); do \
	  if "$$python" -c '$(WILL_DO)' 2>/dev/null; then \
	    PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=lib "$$python" -m freshet.java >/dev/null || exit 2; exit 0; fi; done; \
	echo "$(NO_PYTHON)" >&2; exit 2

.venv/ready: pyproject.toml $(addprefix requirements/,build.lock run.lock test.lock)
	@for python in $(CANDIDATES); do \
	  if "$$python" -c '$(WILL_DO)' 2>/dev/null; then found="$$python"; break; fi; done; \
	if [ -z "$$found" ]; then echo "$(NO_PYTHON)" >&2; exit 2; fi; \
	if [ ! -x .venv/bin/python ]; then echo "Making .venv with $$("$$found" --version)."; "$$found" -m venv .venv; fi
	@echo "Installing Spark, Delta Lake, numba and the test tools into .venv: half a gigabyte, some minutes, once."
	@$(LOCKED) --requirement requirements/build.lock
	@$(LOCKED) --requirement requirements/run.lock --requirement requirements/test.lock
	@$(PIP) install --quiet --no-deps --no-build-isolation --no-index --editable .
	@$(PIP) check || echo "pip finds the above in .venv; Freshet's own packages are as pinned." >&2
	@touch $@

# Some tests need a broker and Spark's connector. Without them they are skipped, and fail where CI is set.
kafka: .venv/ready
	@if command -v mvn >/dev/null; then $(MAKE) -s .venv/kafka/ready; else \
	  echo "No jars of Kafka (they come through Maven, mvn): the tests with Kafka are skipped."; fi

.venv/kafka/ready: $(wildcard tests/kafka/*.xml) tests/kafka/jars.sha256
	@echo "Fetching a broker of Kafka and Spark's connector through Maven, once."
	@rm -rf .venv/kafka .venv/kafka.new && mkdir -p .venv/kafka.new
	@for name in connector broker; do \
	  mvn -q -B -f tests/kafka/$$name.xml $(COPY) -DincludeScope=runtime -DoutputDirectory=$(CURDIR)/.venv/kafka.new/$$name || exit 2; done
	@.venv/bin/python tests/kafka/pinned.py .venv/kafka.new
	@mv .venv/kafka.new .venv/kafka && touch $@

.venv/bench: .venv/ready requirements/bench.lock requirements/vowpalwabbit.lock
	@echo "Installing the peers of the benchmarks into .venv, once."
	@$(LOCKED) --requirement requirements/bench.lock
	@$(LOCKED) --only-binary :all: --requirement requirements/vowpalwabbit.lock || \
	  echo "Vowpal Wabbit has no wheel here; its line is left out."
	@touch $@

# Spark's own resolver keeps the jars in its cache, where every later start finds them.
.venv/jars: .venv/ready
	@echo "Fetching the Delta Lake jars ($(DELTA)) through Spark, once."
	@$(JAVA) .venv/bin/python -c "from freshet.engine.session import build; from freshet.settings import SparkSettings; \
	  build(SparkSettings(master='local[1]', driver_memory='1g')).stop()" >.venv/jars.log 2>&1 || \
	  { cat .venv/jars.log >&2; echo "The jars could not be fetched; the lines above say why." >&2; exit 2; }
	@touch $@

# numba's cache looks at the file of a function, not at those it takes others from: so all of it goes when one changes.
.venv/kernels: .venv/ready $(wildcard lib/freshet/kernels/*.py)
	@rm -rf .venv/numba
	@echo "Compiling the learning kernels, once."
	@.venv/bin/python -m freshet.pipelines.warming
	@touch $@
