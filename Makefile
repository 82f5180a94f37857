# What there is to do; each target does its own set-up. `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
RUST := . tests/setup/rust.sh
# One static file, moved anywhere in memory; its relocations packed, a fifth of a megabyte less (GNU ld 2.38, lld 18).
STATIC := RUSTFLAGS="-C target-feature=+crt-static -C link-arg=-Wl,-z,pack-relative-relocs"

.PHONY: board-test dist footprint help build demo test lint audit bench sim fuzz fuzz-keep

help:
	@echo "make build   pith and pith-agent (static), in target/release"
	@echo "make dist    pith-agent and pith for ARM64 and x86-64, static, as packages, in dist/; says what cannot be built here"
	@echo "make board-test  an emulated ARM64 board: install, budgets, clocks, cuts of the power; CASE=name for one; hours in all"
	@echo "make demo    three nodes on this machine's Docker take a good version under load and refuse a bad one"
	@echo "make footprint   the agent as a board gets it, for this processor: static, stripped, within its size"
	@echo "make test    everything CI runs: lints, unit tests, end to end on real Docker and brokers"
	@echo "make lint    formatting and clippy alone"
	@echo "make audit   every dependency against the advisories of RustSec, licences and bans; needs the network and cargo-deny"
	@echo "make bench   figures against floors and peers in one run, 20 minutes or so"
	@echo "make sim     100,000 seeded fleets in virtual time; PITH_SEEDS=n for fewer, PITH_SEED=n replays one"
	@echo "make fuzz    every reader of outside bytes, 10 minutes each on 2 cores; PITH_FUZZ_SECONDS=n for fewer (needs a nightly toolchain)"
	@echo "make fuzz-keep  what fuzzing found and make test does not feed yet goes to fuzz/seeds"

build:
	@$(RUST); cargo build --locked --release -p coordinator
	@$(RUST); $(STATIC) cargo build --locked --profile agent --target "$$HOST_TRIPLE" -p agent
	@$(RUST); cp --remove-destination "$${CARGO_TARGET_DIR:-target}/$$HOST_TRIPLE/agent/pith-agent" "$${CARGO_TARGET_DIR:-target}/release/pith-agent"
	@ls -l "$${CARGO_TARGET_DIR:-target}"/release/pith "$${CARGO_TARGET_DIR:-target}"/release/pith-agent | awk '{ printf "%s  %.1f MB\n", $$NF, $$5 / 1e6 }'

dist:
	@cross/dist.sh

footprint:
	@$(RUST); $(STATIC) cargo build --locked --quiet --profile agent --target "$$HOST_TRIPLE" -p agent
	@$(RUST); tests/board/check-dist.sh --agent "$${CARGO_TARGET_DIR:-target}/$$HOST_TRIPLE/agent/pith-agent"

board-test:
	@tests/board/run.sh $(CASE)

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
	@$(RUST); if command -v cargo-deny >/dev/null; then cargo deny --locked check bans licenses sources; \
	  else echo "deny: cargo-deny is not installed; tests/tests/tidy.rs holds the arrows"; fi

test:
	@tests/setup/room.sh test 6
	@tests/setup/packages.sh test
	@tests/setup/docker.sh
	@$(MAKE) --no-print-directory lint
	@$(RUST); cargo build --locked --workspace --features agent/failpoints
	@tests/setup/images.sh
	@$(RUST); cargo test --locked --workspace --features agent/failpoints --no-fail-fast
	@$(MAKE) --no-print-directory footprint

bench:
	@tests/setup/packages.sh bench
	@tests/setup/docker.sh
	@$(MAKE) --no-print-directory build
	@$(RUST); $(STATIC) cargo build --locked --quiet --profile agent --target "$$HOST_TRIPLE" -p floor
	@tests/setup/images.sh
	@$(RUST); PITH_STATIC="$${CARGO_TARGET_DIR:-target}/$$HOST_TRIPLE/agent" cargo run --locked --release --quiet -p tests --bin bench
	@$(RUST); cargo bench --locked --quiet -p coordinator --bench thousand

sim:
	@$(RUST); cargo run --locked --release --quiet -p sim

audit:
	@$(RUST); command -v cargo-deny >/dev/null || { echo "audit: cargo-deny is not here: cargo install --locked cargo-deny" >&2; exit 1; }
	@$(RUST); cargo deny --locked check

fuzz:
	@tests/setup/fuzz.sh run

fuzz-keep:
	@tests/setup/fuzz.sh keep
