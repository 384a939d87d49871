# The commands of the project. Each does the set-up that it needs, and does it once.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help run test test-busy test-engine test-server test-clients conformance budget fuzz attack check check-directions check-engine check-server bench bench-check clean

# The browser of the tests.
CHROMIUM ?= /usr/bin/chromium
export CHROMIUM

CLIENTS := test/clients
AUTOBAHN := .toolchain/autobahn
ELIXIR := source bin/env.sh

help:
	@echo 'make run     the chat example on http://localhost:4000 (APP=phoenix for the other one, PORT=..., IP=..., SCHEME=https)'
	@echo 'make test    all tests'
	@echo 'make test-busy  those of the server, ROUNDS=5 times on a busy machine, then with other numbers of schedulers'
	@echo 'make check   who uses whom, formatting, compiler warnings and clippy'
	@echo 'make conformance  Autobahn, other WebSocket clients, wrk, h2load, and a minute of attack and of fuzzing per target'
	@echo 'make budget  what a message takes of the server, held to bench/BUDGET.md'
	@echo 'make attack  the attack alone, for SECS=60 seconds; SEED=... repeats the one that has printed it'
	@echo 'make fuzz    the fuzzing alone, for SECS=60 seconds per target'
	@echo 'make bench   the benchmarks: writes bench/RESULTS.md'
	@echo 'make bench-check  the benchmarks with a target; fails when one is missed by more than 15 %'
	@echo 'make clean   removes what was built'

run:
	@MAKE_PID=$$PPID exec bin/run

# All parts, also when the first one fails.
test:
	@status=0; \
	for part in test-engine test-server; do $(MAKE) --no-print-directory $$part || status=$$?; done; \
	exit $$status

test-engine:
	cargo test --locked --no-fail-fast --package ferrosock_engine --package ferrosock_fuzz --package ferrosock_load

test-server: test-clients
	@$(ELIXIR) || exit; status=0; for project in . test/phoenix test/websock_adapter; do \
	(cd $$project && fetch_packages && mix test) || status=$$?; done; exit $$status

test-busy: test-clients
	@bin/busy-test

test-clients: /usr/bin/curl /usr/bin/openssl /usr/sbin/nginx /usr/sbin/haproxy $(CLIENTS)/node_modules/.package-lock.json $(CLIENTS)/.venv/.installed $(CHROMIUM)

$(CLIENTS)/node_modules/.package-lock.json: $(CLIENTS)/package-lock.json
	cd $(CLIENTS) && npm ci --no-audit --no-fund
	@touch $@

$(CLIENTS)/.venv/.installed: $(CLIENTS)/requirements.txt
	@python3 -c 'import ensurepip' 2>/dev/null || bin/debian python3-venv
	python3 -m venv $(CLIENTS)/.venv
	$(CLIENTS)/.venv/bin/pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

/usr/bin/curl /usr/bin/openssl /usr/bin/valgrind /usr/bin/wrk:
	@bin/debian $(@F)

/usr/sbin/nginx:
	@bin/debian nginx-light

/usr/sbin/haproxy:
	@bin/debian haproxy

/usr/bin/h2load:
	@bin/debian nghttp2-client

/usr/sbin/nghttpx:
	@bin/debian nghttp2-proxy

$(CHROMIUM):
	@bin/debian chromium

# What takes longer than a test should, against the running examples.
conformance: test-clients /usr/bin/wrk /usr/bin/h2load /usr/sbin/nghttpx $(AUTOBAHN)/.installed
	@python3 test/conformance/run.py

$(AUTOBAHN)/.installed: test/conformance/install-autobahn test/conformance/autobahn-requirements.txt
	test/conformance/install-autobahn $(AUTOBAHN)
	@touch $@

budget: /usr/bin/valgrind
	@$(ELIXIR) && fetch_packages && bench/budget

attack: /usr/bin/openssl $(CLIENTS)/.venv/.installed
	@$(CLIENTS)/.venv/bin/python -B test/conformance/attack/main.py

fuzz:
	@bin/fuzz

check: check-directions check-engine check-server

check-directions:
	bin/directions

check-engine:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings

check-server:
	@$(ELIXIR) && fetch_packages && set -x && mix format --check-formatted && \
	MIX_ENV=test mix compile --force --warnings-as-errors
	@$(ELIXIR) && for app in examples/* test/phoenix; do (cd $$app && fetch_packages && set -x && \
	MIX_ENV=prod mix compile --force --warnings-as-errors) || exit; done
	@$(ELIXIR) && cd test/websock_adapter && fetch_packages && set -x && \
	MIX_ENV=test mix compile --force --warnings-as-errors

bench:
	@$(ELIXIR) && fetch_packages && bench/run

# For people: a busy machine misses targets that a change has nothing to do with.
bench-check:
	@$(ELIXIR) && fetch_packages && \
	bench/run --rounds 3 --secs 1 --servers ferrosock,cowboy --cases targets --to target/bench && \
	bench/check target/bench/results.json

clean:
	rm -rf _build target examples/*/_build test/*/_build bench/*/_build
