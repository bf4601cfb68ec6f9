# The verbs of this project; `make help` lists them. Each sets up by itself what it needs.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

CACHE := $(CURDIR)/.cache
UV := $(CACHE)/uv/bin/uv
RUN := $(UV) run --frozen --no-sync
ASL_VALIDATOR := node_modules/.bin/asl-validator
GITLEAKS := $(CACHE)/gitleaks
# Where Docker's command line looks for its plugins; it isn't needed itself.
COMPOSE := $(CACHE)/docker/cli-plugins/docker-compose
export SAM_CLI_TELEMETRY := 0
export CARGO_TARGET_DIR := $(CACHE)/cargo
# Byte code is what makes a second start quick; some machines switch it off.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help
help: ## list the verbs
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

.PHONY: setup
setup: $(CACHE)/ready ## install everything (each verb does so by itself)

$(UV):
	python3 -m venv $(CACHE)/uv
	$(CACHE)/uv/bin/pip install --quiet --disable-pip-version-check 'uv>=0.9,<1'

$(CACHE)/ready: $(UV) uv.lock pyproject.toml $(wildcard */pyproject.toml layers/*/pyproject.toml) \
		$(shell find layers/rust_core/src layers/rust_core/data layers/rust_core/python -type f -name '*.[rtp]*') \
		layers/rust_core/Cargo.toml layers/rust_core/Cargo.lock
	$(UV) sync --frozen --compile-bytecode
	@touch $@

.PHONY: demo
demo: setup ## start all servers, send 700 transactions, break a store, stop
	$(RUN) lovectl demo

USUAL := -m 'not sam and not pqtls and not containers and not chaos'

# Tests through the API wait more than they compute: the others run beside them, and are shown at the end.
.PHONY: test
test: setup $(ASL_VALIDATOR) ## every test: unit, integration, end to end, simulation; Rust too
	cargo test --release --locked --manifest-path layers/rust_core/Cargo.toml -- --show-output
	$(RUN) pytest -q $(USUAL) -o cache_dir=$(CACHE)/beside tests/unit tests/integration > $(CACHE)/beside.log 2>&1 & beside=$$!; \
	trap 'kill $$beside 2>/dev/null || true' EXIT; failed=0; \
	$(RUN) pytest -q $(USUAL) tests/e2e tests/simulation || failed=1; \
	wait $$beside || failed=1; \
	cat $(CACHE)/beside.log; exit $$failed

MINUTES ?= 10
SEED ?=
.PHONY: chaos
chaos: setup ## random faults for MINUTES=10 (SEED=… replays them), then the checker's verdict
	$(RUN) lovectl chaos --minutes $(MINUTES) $(if $(SEED),--seed $(SEED)) --report $(CACHE)/chaos.html

.PHONY: test-chaos
test-chaos: setup ## backup routes, three faults at once, a planted defect that the checker has to find
	$(RUN) pytest -q -m chaos tests/simulation

.PHONY: test-kill
test-kill: setup ## kill a voting delegate 1,000 times at random: no nonce is signed for two transactions
	LOVE_KILLS=$${LOVE_KILLS:-1000} $(RUN) pytest -q -s tests/integration/test_vote_lock_kills.py

# No mount is made in it, so that `make clean` may delete it at any time.
TRIXIE := $(CACHE)/trixie
TRIXIE_PACKAGES := openssl,haproxy,python3,python3-msgspec

.PHONY: test-pqtls
test-pqtls: setup $(TRIXIE)/ready ## post-quantum TLS by Debian trixie's OpenSSL 3.5 (as root, on Debian)
	LOVE_TRIXIE=$(TRIXIE)/root $(RUN) pytest -q -m pqtls tests/pqtls

$(TRIXIE)/ready:
	if [ "$$(id -u)" != 0 ]; then echo 'make test-pqtls needs root: it makes a chroot' >&2; exit 1; fi
	command -v debootstrap >/dev/null || { apt-get update -qq && apt-get install -y -qq debootstrap; }
	rm -rf --one-file-system $(TRIXIE)
	mkdir -p -m 700 $(TRIXIE)
	debootstrap --variant=minbase --include=$(TRIXIE_PACKAGES) trixie $(TRIXIE)/root > $(TRIXIE)/log 2>&1 \
	  || { tail -n 20 $(TRIXIE)/log >&2; exit 1; }
	rm -rf $(TRIXIE)/root/var/cache/apt $(TRIXIE)/root/var/lib/apt/lists
	@touch $@

ENGINE := $(CACHE)/engine

.PHONY: test-containers
test-containers: setup $(ENGINE)/ready $(COMPOSE) ## builds the delegate's image, runs compose.yaml's seven (as root, on Debian)
	LOVE_ENGINE=$(ENGINE) LOVE_COMPOSE=$(COMPOSE) $(RUN) pytest -q -m containers tests/containers

.PHONY: test-sam
test-sam: build $(ENGINE)/ready ## each built function by `sam local invoke` (as root, on Debian)
	LOVE_ENGINE=$(ENGINE) $(RUN) pytest -q -m sam tests/sam

$(ENGINE)/ready: infrastructure/containers/engine.sh
	infrastructure/containers/engine.sh $(ENGINE)

.PHONY: lint
lint: setup $(ASL_VALIDATOR) $(GITLEAKS) ## style, types, templates, secrets
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) mypy
	$(RUN) python -m mypy.stubtest cert_rust federation_dag flag_rust rust_core
	cargo fmt --check --manifest-path layers/rust_core/Cargo.toml
	cargo clippy --release --locked --all-targets --manifest-path layers/rust_core/Cargo.toml -- -D warnings
	test -z "$$(gofmt -l infrastructure)" || { gofmt -d infrastructure; exit 1; }
	cd infrastructure/front && go vet ./...
	AWS_DEFAULT_REGION=us-east-1 $(RUN) sam validate --lint
	$(RUN) cfn-lint template.yaml infrastructure/kms/replicas.yaml
	$(ASL_VALIDATOR) --json-path statemachine/pipeline.asl.json
	$(ASL_VALIDATOR) --json-path statemachine/reconcile.asl.json
	$(GITLEAKS) git --no-banner --redact . # every commit
	$(GITLEAKS) git --no-banner --redact --pre-commit . # and what is not committed yet
	if command -v terraform >/dev/null; then terraform fmt -check -diff -recursive infrastructure/terraform; \
	else echo 'terraform is not installed: the format of infrastructure/terraform is not checked'; fi

BUF := $(CACHE)/buf

.PHONY: lint-proto
lint-proto: $(BUF) ## the delegates' protocol by buf's standard rules (the first time builds buf: 2 minutes)
	cd nodes/proto && $(BUF) lint

$(BUF): infrastructure/buf/go.mod infrastructure/buf/go.sum
	cd infrastructure/buf && CGO_ENABLED=0 GOFLAGS=-mod=readonly go build -trimpath -ldflags '-s -w' \
	  -o $@ github.com/bufbuild/buf/cmd/buf
	@touch $@

$(ASL_VALIDATOR): package-lock.json
	npm ci --no-audit --no-fund --silent
	@touch $@

.PHONY: compose-config
compose-config: $(COMPOSE) ## compose.yaml as Docker Compose reads it (the first time builds Compose: 2 minutes)
	if command -v docker >/dev/null; then DOCKER_CONFIG=$(CACHE)/docker docker compose config --quiet; \
	else $(COMPOSE) config --quiet; fi

$(COMPOSE): infrastructure/compose/go.mod infrastructure/compose/go.sum
	cd infrastructure/compose && CGO_ENABLED=0 GOFLAGS=-mod=readonly go build -trimpath -ldflags '-s -w' \
	  -o $@ github.com/docker/compose/v2/cmd
	@touch $@

$(GITLEAKS): infrastructure/gitleaks/go.mod infrastructure/gitleaks/go.sum
	cd infrastructure/gitleaks && CGO_ENABLED=0 GOFLAGS=-mod=readonly go build -trimpath -ldflags '-s -w' \
	  -o $@ github.com/zricethezav/gitleaks/v8
	@touch $@

.PHONY: bench
bench: setup ## each stage and the whole way, beside a same-shaped no-op state machine
	$(RUN) python benchmarks/votes.py
	$(RUN) python benchmarks/pipeline.py
	$(RUN) python benchmarks/failover.py

.PHONY: bench-core
bench-core: setup ## each function of the Rust core beside raw crates and Python's libraries
	$(UV) sync --frozen --inexact --group bench --compile-bytecode --quiet
	cargo build --release --locked --manifest-path layers/rust_core/Cargo.toml --bench beside \
	  --message-format=json-render-diagnostics > $(CACHE)/beside.json
	$(RUN) python benchmarks/core $(CACHE)/beside.json $(BENCH_CORE)

.PHONY: load
load: setup ## the highest rate that the local stack holds for 3 minutes, and what it says beyond
	$(RUN) lovectl load --minutes $${MINUTES:-3}

.PHONY: bench-breakers
bench-breakers: setup ## our circuit breaker beside kept libraries
	$(UV) sync --frozen --inexact --group bench --compile-bytecode --quiet
	$(RUN) python benchmarks/breakers.py

.PHONY: simulate
simulate: setup ## outages of stores, the backup routes, double spending
	for scenario in atlas-down atlas-and-dynamodb-down all-down-then-back backup-routes double-spend; do \
	  $(RUN) lovectl simulate $$scenario; \
	done

.PHONY: build
build: setup ## what Lambda runs: functions and layers, by `sam build`
	$(UV) export --quiet --frozen --no-emit-workspace --no-hashes --no-dev -o $(CACHE)/constraints.txt
	PATH=$(CACHE)/uv/bin:$$PATH AWS_DEFAULT_REGION=us-east-1 \
	  LOVE_CONSTRAINTS=$(CACHE)/constraints.txt \
	  $(RUN) sam build

.PHONY: clean
clean: ## stop a running stack, delete everything that was built or stored
	if [ -x .venv/bin/lovectl ]; then .venv/bin/lovectl down || true; fi
	rm -rf .cache .venv .aws-sam node_modules
