# make run    the gateway's main job, shown on real traffic, in under 20 seconds
# make test   every test: Rust, Python, and against real Prometheus, VictoriaLogs, Jaeger and Keycloak
# make soak   the fault scenarios in their long form (docs/faults.md): about 25 minutes, stops by itself
# make lint   formatting, lints and types
# make bench  CPU, memory and latency beside the Collector, vmagent and rotel
SHELL := bash
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ENGINE := gateway/_engine.abi3.so
ENGINE_SOURCES := Cargo.toml Cargo.lock engine/Cargo.toml $(shell find engine/src -name '*.rs')

.PHONY: help run test soak lint format bench backends peers build clean need-python need-cargo need-go

help:
	@sed -n 's/^# //p' Makefile

need-python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	  || { echo "Python 3.11 or newer is needed: install it (your package manager, or python.org) or point PYTHON at it: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
	  || { echo "Python's venv module is needed: on Debian and Ubuntu, apt-get install python3-venv" >&2; exit 1; }

need-cargo:
	@command -v cargo >/dev/null || { echo "cargo (Rust 1.88 or newer) is needed to build the engine: see rustup.rs" >&2; exit 1; }

need-go:
	@command -v go >/dev/null || { echo "Go 1.26 or newer is needed to build the test backends: see go.dev/dl" >&2; exit 1; }

$(VENV)/installed: requirements.lock | need-python
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing the Python packages of requirements.lock into $(VENV) (once)"
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@touch $@

$(ENGINE): $(ENGINE_SOURCES) pyproject.toml $(VENV)/installed | need-cargo
	@echo "building the engine (the first time: minutes of CPU; then only what changed)"
	@VIRTUAL_ENV=$(CURDIR)/$(VENV) PIP_QUIET=2 PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/maturin develop --release --locked --quiet
	@touch $@

build: $(ENGINE)

run: build
	@$(BIN)/gateway demo

backends: need-go
	tests/backends/build

peers: need-go
	tests/backends/build otelcol vmagent rotel

# One worker more than two cores, since most tests wait for what they started. Workers take whole files, so that what a file
# shares is started once, in their order, in which the short ones come last. Tests marked `alone` make the others wait.
test: build backends
	cargo test --locked --quiet
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

# Every scenario is bounded by counts and by a time of its own, and all together by the last bound.
soak: build
	GATEWAY_SOAK=1 timeout --signal=INT 2h $(BIN)/python -m pytest tests/fault/scenarios --timeout 1800 -q

lint: build
	cargo fmt --check
	cargo clippy --locked --all-targets --all-features --quiet -- -D warnings
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/installed
	cargo fmt
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: build peers backends
	$(BIN)/python -m pytest bench --benchmark-columns=median,iqr,ops --benchmark-group-by=func
	$(BIN)/python -m bench
	$(BIN)/python -m bench.fairness

clean:
	rm -rf target $(VENV) $(ENGINE) data
