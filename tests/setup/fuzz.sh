#!/usr/bin/env bash
# Feeds every reader of outside bytes (tests/readers) what a fuzzer thinks of, one target after the other.
#
#   tests/setup/fuzz.sh run [TARGET...]    10 minutes each on 2 cores; PITH_FUZZ_SECONDS and PITH_FUZZ_JOBS for others
#   tests/setup/fuzz.sh keep [TARGET...]   adds to fuzz/seeds what reaches code that the seeds there do not; `make test` feeds them
#
# A finding is left in fuzz/artifacts/TARGET, its path is printed, and nothing else runs.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck disable=SC1091
. tests/setup/rust.sh

seconds=${PITH_FUZZ_SECONDS:-600}
jobs=${PITH_FUZZ_JOBS:-2}
# A larger input says little more, and makes clones large.
kept_max_bytes=2048

usage() {
  echo "usage: fuzz.sh run|keep [TARGET...]" >&2
  exit 2
}

set_up() {
  if ! cargo +nightly --version >/dev/null 2>&1; then
    echo "fuzz: libFuzzer needs a nightly toolchain: rustup toolchain install nightly --profile minimal" >&2
    exit 1
  fi
  if ! command -v cargo-fuzz >/dev/null 2>&1; then
    echo "fuzz: cargo-fuzz is not here; it is built once (cargo install --locked cargo-fuzz)" >&2
    cargo install --locked --quiet cargo-fuzz
  fi
  cargo +nightly fuzz build
}

run() {
  mkdir -p "fuzz/corpus/$1"
  echo "fuzz: $1 for $seconds s on $jobs core(s)"
  cargo +nightly fuzz run "$1" "fuzz/corpus/$1" "fuzz/seeds/$1" -- -max_total_time="$seconds" -fork="$jobs" \
    -ignore_crashes=0 -ignore_timeouts=0 -ignore_ooms=0 -timeout=10 -rss_limit_mb=1024 -print_final_stats=1
}

keep() {
  mkdir -p "fuzz/corpus/$1"
  cargo +nightly fuzz run "$1" "fuzz/seeds/$1" "fuzz/corpus/$1" -- -merge=1 -max_len="$kept_max_bytes"
  echo "fuzz: $1 keeps $(find "fuzz/seeds/$1" -type f | wc -l) inputs"
}

[ $# -ge 1 ] || usage
verb=$1
shift
case "$verb" in
  run | keep) ;;
  *) usage ;;
esac
if [ $# = 0 ]; then
  for file in fuzz/fuzz_targets/*.rs; do
    set -- "$@" "$(basename "$file" .rs)"
  done
fi
set_up
for target in "$@"; do
  "$verb" "$target"
done
