# Every day commands. `make` alone lists them.
.DEFAULT_GOAL := help
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS += --no-print-directory

SCRIPTS = $(shell git ls-files '*.sh' .ci/run)

.PHONY: help install lint test demo dev bench

help: ## Lists these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: ## Installs the Debian packages that building and testing need
	@softhsm/packages.sh gcc g++ libc6-dev python3 python3-venv
	@softhsm/install.sh

lint: ## Format, clippy, dependencies (licences, bans, advisories), shell scripts
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	.ci/deny.sh
	@if command -v shellcheck >/dev/null; then echo shellcheck $(SCRIPTS); shellcheck $(SCRIPTS); \
	else echo "NOTE: shell scripts were NOT checked: shellcheck is not installed"; fi

# Both tokens first, so that a missing package shows before the long part.
test: install ## Everything CI runs: lint, short fuzzing, every test on SoftHSM and on Kryoptic, the Python client
	@softhsm/packages.sh faketime libnss3 libnss3-tools
	@tests/kryoptic/build.sh >/dev/null
	@$(MAKE) lint
	fuzz/run.sh 10
	KEYREEVE_CAMPAIGN=500 KEYREEVE_CAMPAIGN_ON_THREADS=25 KEYREEVE_KRYOPTIC="$$(tests/kryoptic/build.sh)" \
		tests/counted.sh cargo test --workspace --locked --no-fail-fast
	cargo test -p keyreeve-client --locked --features spiffe --test workload_api
	clients/python/test.sh

demo: install ## Shows it at work: a server, a token, encrypt and decrypt, a refusal, the audit log
	@demo/run.sh

# The dev profile: the first `make dev` should take minutes less to build. Figures come from `make bench`.
dev: install ## Starts a throwaway server on a throwaway token and says how to reach it
	@cargo run --locked --quiet -- dev

bench: install ## Measures CPU per operation, isolation, recovery, overload, local sealing, Python; prints tables, writes target/bench/*.json
	@softhsm/packages.sh age openssl
	@benches/run.sh service
	@benches/run.sh resilience
	@benches/run.sh clients
	@benches/run.sh python
