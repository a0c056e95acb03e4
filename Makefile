# `make run` and `make test` do all their set-up: a virtual environment in .venv beside this file.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PEERS  := .venv-peers/openagents
SITE   := .venv-docs
export PYTHONDONTWRITEBYTECODE =

.DEFAULT_GOAL := help
.PHONY: help run test test-all long deploy-test coverage check format house docs docs-site diagram bench bench-smoke cost instructions profile crossings chaos reloads strangers agents cluster frames screenshots clean

help:  ## show this
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

# Installed anew when what it depends on changes; --editable, so that the sources here are what runs.
$(VENV)/.installed: pyproject.toml clients/python/pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "modvisor needs Python 3.11 or newer; try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing modvisor and its tools into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --editable clients/python --editable . --group test --group check
	@touch $@

run: $(VENV)/.installed  ## start the example network and replay this repository's own history through it
	@$(BIN)/python examples/run.py

# Three processes keep two cores busy while some tests wait. Each has whole files, those that come first in the tree first.
# In one process: make test ARGS="-n 0".
THREE := -n 3 --dist loadfile --no-loadscope-reorder

# Each of the three would rewrite the assertions of all test files for itself, half a minute of processor time together.
TESTS := $(shell find tests -name '*.py')
$(VENV)/.rewritten: $(VENV)/.installed $(TESTS)
	@for half in "$(wildcard tests/[a-h]*/)" "$(wildcard tests/[i-z]*/ tests/test_*.py)"; do \
		$(BIN)/python -m pytest -q --collect-only $$half >/dev/null 2>&1 & done; wait
	@touch $@

test: $(VENV)/.rewritten  ## the tests, in three processes (three minutes)
	@$(BIN)/python -m pytest -m "not slow" $(THREE) $(ARGS)

# What a worker's life depends on, with workers that are not forked; all of it: make test ARGS="--launch exec tests/processes".
LIFE := $(patsubst %,tests/processes/test_%.py,endings forked isolation limits loading reload trees)

# What meets the event loop most: `modvisor run` and the tests are on uvloop where it is installed, so here on asyncio's own.
LOOP := $(patsubst %,tests/processes/test_%.py,durable events exclusive fairness floods output redelivery reload) \
	$(patsubst %,tests/http/%.py,content/test_bodies test_servers routes/test_streams) \
	$(patsubst %,tests/ipc/test_%.py,pipe spinning writing reading)

# What takes seconds or minutes has a core for each process.
TWO := -n 2 --dist loadfile

test-all: $(VENV)/.installed  ## the slow ones too: the wheel, real peers, the TypeScript client in Node and Chromium, long loops, what measures; workers that are not forked; asyncio's loop
	@$(BIN)/python -m pytest -m "slow" $(TWO) --ignore tests/benchmarks $(ARGS)
	@$(BIN)/python -m pytest -m "slow" $(TWO) tests/benchmarks $(ARGS)
	@$(BIN)/python -m pytest -m "not slow" $(TWO) --launch exec $(LIFE)
	@$(BIN)/python -m pytest -m "not slow" $(TWO) --loop asyncio $(LOOP)

# Seconds and kills by hand: make long FOR=60 KILLS=10
long: $(VENV)/.installed  ## an hour of random histories of a whole network on a virtual clock, 100 kills of a supervisor, three times, and of agents; a million random frames
	@MODVISOR_LIFE_SECONDS=$(or $(FOR),3600) $(BIN)/python -m pytest tests/supervisor/test_whole_life.py -k for_long -s $(ARGS)
	@MODVISOR_KILLS=$(or $(KILLS),100) $(BIN)/python -m pytest tests/processes/test_killed_by_an_event.py -k held_against_no_event -m slow $(ARGS)
	@MODVISOR_KILLS=$(or $(KILLS),100) $(BIN)/python -m pytest tests/processes/test_killed_supervisor.py -m slow $(ARGS)
	@MODVISOR_FRAMES=1000000 $(BIN)/python -m pytest tests/ipc/test_fuzz.py -k random_frames -m slow $(ARGS)
	@MODVISOR_HISTORIES=$(or $(KILLS),100) $(BIN)/python -m pytest tests/cluster/test_watches.py -m slow $(ARGS)
	@$(BIN)/python -m benchmarks.agents --kills $(or $(KILLS),100)

# What is fetched and built lies in build/deploy, so the second time takes half as long.
deploy-test: $(VENV)/.installed  ## the unit under a booted systemd, the image built and run; needs root, mmdebstrap, systemd-container, buildah
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --group deploy
	@MODVISOR_DEPLOY=1 $(BIN)/python -m pytest -m slow tests/deploy $(ARGS)

$(VENV)/.coverage: $(VENV)/.installed
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --group coverage
	@touch $@

# What is measured of killed processes is lost, and tests of what a worker imports and weighs may fail while it is measured.
coverage: $(VENV)/.coverage  ## which lines the tests run, per folder and file, forked workers included
	@rm -rf build/coverage
	@mkdir -p build/coverage
	@PYTHONPATH=$(CURDIR)/tests/measured $(BIN)/python -m pytest -m "not slow" $(THREE) $(ARGS) || echo "some tests failed while they were measured"
	@export COVERAGE_FILE=build/coverage/data; $(BIN)/python -m coverage combine --quiet && \
		$(BIN)/python -m coverage report --skip-covered --sort=cover && \
		for folder in ipc mods worker supervisor $(wildcard supervisor/*/); do \
			echo "$$folder $$($(BIN)/python -m coverage report --format=total --include="$${folder%/}/*") %"; done

check: $(VENV)/.installed  ## format, lint, types
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/pyright

format: $(VENV)/.installed  ## put the sources into shape
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

house: $(VENV)/.installed  ## print rooms, long files, circles of imports, imports that run up
	@$(BIN)/python -m tests.house

docs: $(VENV)/.installed  ## print what is printed from the code: docs' keys, drawing, OpenAPI documents and attacks, the types of clients/ts
	@$(BIN)/python docs/print_keys.py
	@$(BIN)/python docs/print_metrics.py
	@$(BIN)/python docs/print_errors.py
	@$(BIN)/python docs/print_commands.py
	@$(BIN)/python docs/print_comparison.py
	@$(BIN)/python docs/print_openapi.py
	@$(BIN)/python docs/print_routes.py
	@$(BIN)/python docs/draw_lifecycle.py
	@$(BIN)/python -m tests.cell.page
	@test ! -d clients/ts/node_modules || npm --prefix clients/ts run --silent generate
	@test ! -e $(SITE)/.ready || $(MAKE) --no-print-directory docs-site

# What builds the site imports nothing of modvisor, and has an environment of its own. It is used once or twice:
# without a pip of its own and without bytecode, it takes a third of the processor time.
$(SITE)/.ready: pyproject.toml $(VENV)/.installed
	@echo "installing what builds the site into $(SITE) ..."
	@test -x $(SITE)/bin/python || $(PYTHON) -m venv --without-pip $(SITE)
	@$(BIN)/python -m pip --python $(SITE)/bin/python install -qq --no-compile --disable-pip-version-check --group docs
	@touch $@

docs-site: $(SITE)/.ready  ## the documentation as a site that needs no server and no network, into build/site; links are checked
	@NO_MKDOCS_2_WARNING=1 $(SITE)/bin/python -m mkdocs build --strict --config-file docs/site/mkdocs.yml
	@echo "build/site/index.html"

diagram: docs

# The peers have an environment of their own: nothing else needs them.
$(PEERS)/.ready: pyproject.toml $(VENV)/.installed
	@echo "installing the peers into $(PEERS) ..."
	@test -x $(PEERS)/bin/python || $(PYTHON) -m venv $(PEERS)
	@$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"
	@$(PEERS)/bin/python -m pip install -qq --disable-pip-version-check --group peers
	@$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["dependency-groups"]["peers"], end="")' > $@

bench: $(VENV)/.installed $(PEERS)/.ready  ## our figures beside the machine's floor and others', into docs/ (five minutes)
	@$(BIN)/python -m benchmarks.speed --write docs $(ARGS)
	@$(BIN)/python docs/print_comparison.py

bench-smoke: $(VENV)/.installed  ## every measurement of it once, with tiny counts: does it work? (20 seconds)
	@$(BIN)/python -m benchmarks.speed --smoke

cost: $(VENV)/.installed  ## processor time per event, memory, starts; beside another checkout: ARGS="--against PYTHON"
	@$(BIN)/python -m benchmarks.speed.cost $(ARGS)

instructions: $(VENV)/.installed  ## instructions of an event in the network, counted by valgrind: for busy machines; beside another checkout: ARGS="--against PYTHON"
	@$(BIN)/python -m benchmarks.speed.instructions $(ARGS)

profile: $(VENV)/.installed  ## which functions an event calls in supervisor and worker, how often; one at a time: ARGS="--width 1"
	@$(BIN)/python -m benchmarks.speed.profiling $(ARGS)

crossings: $(VENV)/.installed  ## how many files a load, an event, a reload, a restart and an unload cross
	@$(BIN)/python benchmarks/crossings.py $(ARGS)

chaos: $(VENV)/.installed  ## ten of twenty mods misbehave in every way there is; every event is counted (three minutes)
	@$(BIN)/python -m benchmarks.chaos $(ARGS)

reloads: $(VENV)/.installed  ## 100 reloads in a row of a mod under 5,000 events per second; every event is counted
	@$(BIN)/python -m benchmarks.reloads $(ARGS)

# Both drive Chromium by what the TypeScript client is tested with.
clients/ts/node_modules: clients/ts/package-lock.json
	@npm --prefix clients/ts ci --no-progress
	@touch $@

frames: $(VENV)/.installed clients/ts/node_modules  ## how much of each frame the dashboard scripts, with a thousand mods (five minutes); fewer: ARGS="--mods 100"
	@$(BIN)/python -m benchmarks.board $(ARGS)

screenshots: $(VENV)/.installed clients/ts/node_modules  ## the dashboard's pictures in docs/screenshots, of a real network in Chromium (two minutes)
	@$(BIN)/python -m docs.screenshots

strangers: $(VENV)/.installed  ## what strangers may do to the port while honest agents work, with its bounds (two minutes)
	@$(BIN)/python -m benchmarks.strangers $(ARGS)

agents: $(VENV)/.installed  ## 500 agents on WebSockets, 100 killed and back, and a thousand that never read; every event is counted (two minutes)
	@$(BIN)/python -m benchmarks.agents $(ARGS)

cluster: $(VENV)/.installed  ## three nodes and three NATS servers, of which some die, stop or are cut off; every event is counted (four minutes; best as root)
	@$(BIN)/python -m benchmarks.nodes $(ARGS)

clean:  ## remove what make made
	@rm -rf clients/ts/node_modules clients/ts/build clients/ts/dist
	@rm -rf $(VENV) .venv-peers $(SITE) build dist *.egg-info clients/python/build clients/python/src/*.egg-info .pytest_cache .ruff_cache .hypothesis
