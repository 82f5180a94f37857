#!/usr/bin/env bash
# The cases of the emulated board (tests/src/board/cases), on a package built from this tree: `make board-test [CASE=name]`.
#
#   tests/board/run.sh [CASE...]
#
# Skipped, with a word that says why, where the machine lacks what emulates a board. PITH_PACKAGE=FILE.deb tries a package that is
# there instead of building one, PITH_BINARIES=FOLDER a `pith` that is there. What runs leave is in target/board.
set -euo pipefail
cd "$(dirname "$0")/../.."

lacking=$(tests/setup/packages.sh --list board | tr '\n' ' ')
if [ -n "$lacking" ] && ! tests/setup/packages.sh board; then
  echo "board-test: SKIPPED: no emulated board without: $lacking" >&2
  exit 0
fi
tests/setup/docker.sh
# shellcheck source=tests/setup/rust.sh
. tests/setup/rust.sh

if [ -z "${PITH_BINARIES:-}" ]; then make --no-print-directory build; fi
if [ -z "${PITH_PACKAGE:-}" ]; then
  cross/dist.sh pith-agent:arm64 failing-agent:arm64 demo-app:arm64
  PITH_PACKAGE=$(find dist -name 'pith-agent_*_arm64.deb' | LC_ALL=C sort | tail -n 1)
fi
image=$(tests/board/image.sh)
folder=${CARGO_TARGET_DIR:-target}/board
mkdir -p "$folder"
tests/board/demo-image.sh dist/.board/demo-app "$folder/demo.tar"
docker load --quiet --input "$folder/demo.tar"
cargo build --locked --release --quiet -p powerloss
cargo run --locked --release --quiet -p tests --bin board-test -- \
  --image "$image" --package "$PITH_PACKAGE" --demo "$folder/demo.tar" --agent dist/.board/failing-agent --folder "$folder" "$@"
