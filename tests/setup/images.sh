#!/usr/bin/env bash
# Builds the demo service as a static binary and makes its images FROM scratch; nothing is pulled.
#
#   tests/setup/images.sh
#
# Makes pith-demo:v1 (the first), :v2 (good), :v3 (starts and never becomes ready), :v4 (good), :crash (exits at once),
# :slow (listens after 1 s), :abrupt (20 ms of work, exits at once on SIGTERM). All carry the label io.pith.fixture=1 and
# io.pith.fixture.binary=<sha256>, by which an unchanged image is left alone. PITH_DEMO_REPOSITORY names another repository.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=tests/setup/rust.sh
. tests/setup/rust.sh

REPOSITORY=${PITH_DEMO_REPOSITORY:-pith-demo}
TARGET_DIR=${CARGO_TARGET_DIR:-target}

RUSTFLAGS="-C target-feature=+crt-static" \
  cargo build --quiet --locked --profile agent --target "$HOST_TRIPLE" -p demo-app
binary=$TARGET_DIR/$HOST_TRIPLE/agent/demo-app
hash=$(sha256sum "$binary" | cut -d ' ' -f 1)

context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
cp "$binary" "$context/demo-app"
tar -C "$context" --owner=0 --group=0 --numeric-owner --mtime=@0 -cf "$context/image.tar" demo-app

made=0
# image TAG [NAME=VALUE …]: the environment is baked in, VERSION first.
image() {
  local tag=$1 identity label
  shift
  identity="$hash $*"
  label=$(docker image inspect --format '{{index .Config.Labels "io.pith.fixture.binary"}}' "$REPOSITORY:$tag" 2>/dev/null || true)
  if [ "$label" = "$identity" ]; then return; fi
  local changes=(--change "ENV VERSION=$tag" --change "LABEL io.pith.fixture=1"
    --change "LABEL io.pith.fixture.binary=\"$identity\"" --change "EXPOSE 8080" --change 'ENTRYPOINT ["/demo-app"]')
  local variable
  for variable in "$@"; do changes+=(--change "ENV $variable"); done
  # Import needs neither a builder nor a container: a fifth of the time of a build with a Dockerfile.
  docker import "${changes[@]}" "$context/image.tar" "$REPOSITORY:$tag" >/dev/null
  made=$((made + 1))
}

image v1
image v2
image v3 NEVER_READY=1
image v4
image crash CRASH=1
image slow START_DELAY_MS=1000
image abrupt ABRUPT=1 WORK_MS=20
echo "images: $REPOSITORY:{v1,v2,v3,v4,crash,slow,abrupt} are there ($made made, the others unchanged)"
