# What there is to do; each target does its own set-up. `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
RUST := . tests/setup/rust.sh

.PHONY: help build demo test lint bench sim fuzz

help:
	@echo "make build   pith and pith-agent (static), in target/release"
	@echo "make demo    three nodes on this machine's Docker take a good version under load and refuse a bad one"
	@echo "make test    everything CI runs: lints, unit tests, end to end on real Docker and brokers"
	@echo "make lint    formatting and clippy alone"
	@echo "make bench   figures against floors and peers in one run, 10 minutes or so"
	@echo "make sim     100,000 seeded fleets in virtual time; PITH_SEEDS=n for fewer, PITH_SEED=n replays one"
	@echo "make fuzz    the wire and the service file, a minute each (needs a nightly toolchain and cargo-fuzz)"

build:
	@$(RUST); cargo build --locked --release -p coordinator
	@$(RUST); RUSTFLAGS="-C target-feature=+crt-static" cargo build --locked --profile agent --target "$$HOST_TRIPLE" -p agent
	@$(RUST); cp --remove-destination "$${CARGO_TARGET_DIR:-target}/$$HOST_TRIPLE/agent/pith-agent" "$${CARGO_TARGET_DIR:-target}/release/pith-agent"
	@ls -l "$${CARGO_TARGET_DIR:-target}"/release/pith "$${CARGO_TARGET_DIR:-target}"/release/pith-agent | awk '{ printf "%s  %.1f MB\n", $$NF, $$5 / 1e6 }'

demo:
	@tests/setup/before-demo.sh
	@tests/setup/packages.sh demo
	@tests/setup/docker.sh
	@$(MAKE) --no-print-directory build
	@tests/setup/images.sh
	@$(RUST); cargo run --locked --release --quiet -p tests --bin demo

lint:
	@$(RUST); cargo fmt --all --check
	@$(RUST); cargo clippy --locked --workspace --all-targets --features agent/failpoints -- -D warnings
	@$(RUST); if command -v cargo-deny >/dev/null; then cargo deny --offline check bans licenses sources; \
	  else echo "deny: cargo-deny is not installed; tests/tests/tidy.rs holds the arrows"; fi

test:
	@tests/setup/packages.sh test
	@tests/setup/docker.sh
	@$(MAKE) --no-print-directory lint
	@$(RUST); cargo build --locked --workspace --features agent/failpoints
	@tests/setup/images.sh
	@$(RUST); cargo test --locked --workspace --features agent/failpoints --no-fail-fast

bench:
	@tests/setup/packages.sh bench
	@tests/setup/docker.sh
	@$(MAKE) --no-print-directory build
	@$(RUST); RUSTFLAGS="-C target-feature=+crt-static" cargo build --locked --quiet --profile agent --target "$$HOST_TRIPLE" -p floor
	@tests/setup/images.sh
	@$(RUST); PITH_STATIC="$${CARGO_TARGET_DIR:-target}/$$HOST_TRIPLE/agent" cargo run --locked --release --quiet -p tests --bin bench

sim:
	@$(RUST); cargo run --locked --release --quiet -p sim

fuzz:
	@$(RUST); cd fuzz; for target in envelope service_file; do cargo +nightly fuzz run "$$target" -- -max_total_time=60; done
