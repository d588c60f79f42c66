# Two commands do everything for a newcomer: `make run` and `make test`.
PYTHON ?= python3
# compiled modules halve every start
unexport PYTHONDONTWRITEBYTECODE
VENV   := .venv
BIN    := $(VENV)/bin

.PHONY: run test check day bench bench-soak bench-classify bench-log bench-routing bench-depth bench-witness bench-simulate soak-crash tour conformance
.PHONY: bench-checks bench-planner bench-drills drills bench-hours third-party vectors fuzz model-signing lock format clean airgap

$(VENV)/.run: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Allod needs Python 3.11 or newer: make PYTHON=python3.11")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.run requirements-dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@

run: $(VENV)/.run         ## the hospital example, in the foreground
	@$(BIN)/python examples/hospital/run.py

test: $(VENV)/.dev        ## all tests; under ten minutes on two cores
	$(BIN)/python -m pytest -n 2 --dist loadfile

check: $(VENV)/.dev       ## what CI runs besides the tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/limits.py
	$(BIN)/python tools/tour.py --check

bench: $(VENV)/.dev       ## overhead beside nginx and LiteLLM (BENCH_DIR names a second harness), then bench-log
	$(BIN)/python benchmarks/overhead.py
	$(BIN)/python benchmarks/log.py

bench-soak: $(VENV)/.dev  ## memory after 200,000 mixed requests
	$(BIN)/python benchmarks/soak.py

bench-log: $(VENV)/.dev   ## the log: leaves/s, bytes of a proof, a million leaves verified; needs 5 GB of disk
	$(BIN)/python benchmarks/log.py

ROUTING_DATA ?= ../shared/data/routing
bench-routing: $(VENV)/.dev ## routing on real outcomes; ROUTING_DATA names the folder of routellm/ and zeroeval/
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/routing/prompt_stage.py --data $(ROUTING_DATA) --nested
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/routing/policy.py --data $(ROUTING_DATA)/zeroeval

day: $(VENV)/.dev         ## a day of traffic: spend, bounds, true quality, what moved; writes docs/day.md and day.svg
	$(BIN)/python examples/day/run.py --data $(ROUTING_DATA)/zeroeval

bench-checks: $(VENV)/.dev ## what the checks of a cascade cost, and what a token margin tells with the model that ships
	$(BIN)/python benchmarks/routing/checks.py -n 100 --margin 500

PLANNER_DATA ?=
bench-planner: $(VENV)/.dev ## speed on measured points never seen, per engine and vendor; PLANNER_DATA names other points
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/planner.py $(if $(PLANNER_DATA),--data $(PLANNER_DATA))

bench-drills: $(VENV)/.dev ## a million recorded requests times 20 worlds; needs some GB of disk
	$(BIN)/python benchmarks/drills.py

drills: $(VENV)/.dev      ## drill reports of the bank and the telephone company; writes docs/drills-*.md and docs/drills/
	$(BIN)/python examples/drills/run.py

bench-depth: $(VENV)/.dev ## reasoning depth per task against always-high, with the model that ships
	$(BIN)/python benchmarks/depth.py -n 200

bench-witness: $(VENV)/.dev ## requests a second with and without witnesses, side by side
	$(BIN)/python benchmarks/witnessing.py --rounds 25

bench-simulate: $(VENV)/.dev ## a million recorded decisions replayed over 20 deployments; needs 30 GB of disk
	$(BIN)/python benchmarks/simulate.py

bench-hours: $(VENV)/.dev ## what region and hour save: a day replayed over the dated prices, in simulated time
	$(BIN)/python benchmarks/hours.py

bench-classify: $(VENV)/.dev  ## what detection finds and misses; CLASSIFY_DATA names the development data
	$(BIN)/python benchmarks/classification.py $(if $(CLASSIFY_DATA),--data $(CLASSIFY_DATA))

soak-crash: $(VENV)/.dev  ## a hundred kills in a row under load, and the other slow tests of the gateway
	ALLOD_SLOW=1 $(BIN)/python -m pytest tests/gateway -m slow -s

airgap: $(VENV)/.dev      ## no attempt to reach out, over every command, under both tracers
	ALLOD_SLOW=1 $(BIN)/python -m pytest tests/airgap -s

tour: $(VENV)/.dev        ## run the commands of README.md and docs/compliance.md and rewrite their outputs
	$(BIN)/python tools/tour.py

conformance: $(VENV)/.dev ## public conformance suites against a real gateway
	$(BIN)/python conformance/run.py

fuzz: $(VENV)/.dev        ## every reader of the vault for FUZZ_S seconds each (60)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "atheris>=3" || true
	$(BIN)/python fuzz/run.py --seconds $(or $(FUZZ_S),60)

model-signing:            ## the reference tool of OpenSSF model signing, in an environment of its own, for the tests
	$(PYTHON) -m venv .conformance/model-signing
	.conformance/model-signing/bin/python -m pip install --quiet --disable-pip-version-check model-signing pyopenssl

COMPILE := $(BIN)/pip-compile -q --strip-extras --allow-unsafe --generate-hashes --no-emit-index-url \
	--no-emit-find-links --no-emit-trusted-host --no-emit-options --no-header --annotation-style line

third-party:              ## an environment for aics-tlog, which needs Python 3.12: make third-party PYTHON=python3.12
	$(PYTHON) -m venv .venv-tlog
	.venv-tlog/bin/python -m pip install --quiet aics-tlog==0.2.1

vectors: $(VENV)/.dev     ## write the hostile vectors of log, receipts and bundles again
	$(BIN)/python conformance/log_vectors.py
	$(BIN)/python conformance/bundle_vectors.py

lock: $(VENV)/.dev        ## resolve the dependencies anew
	$(COMPILE) -o requirements.lock pyproject.toml tools/build.in
	$(COMPILE) --extra dev --extra postgres -c requirements.lock -o requirements-dev.lock pyproject.toml tools/build.in

format: $(VENV)/.dev
	$(BIN)/ruff check --fix . && $(BIN)/ruff format .

clean:                    ## remove what make made, but not the home ./.allod
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
