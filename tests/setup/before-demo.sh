#!/usr/bin/env bash
# Says what `make demo` is going to do before it does it.
set -euo pipefail
cd "$(dirname "$0")/../.."

missing=$(tests/setup/packages.sh --list demo | tr '\n' ' ')
echo "make demo will:"
if [ -n "$missing" ]; then echo "  - install with apt: $missing"; else echo "  - install nothing"; fi
if docker version >/dev/null 2>&1; then
  echo "  - use the Docker engine that runs here, touching only what it makes itself"
else
  echo "  - start dockerd, because no engine answers"
fi
if [ -x "${CARGO_TARGET_DIR:-target}/release/pith" ] && [ -x "${CARGO_TARGET_DIR:-target}/release/pith-agent" ]; then
  echo "  - build what has changed since the last time (seconds to a minute)"
else
  echo "  - build pith, pith-agent and the demo service from source: 5 to 12 minutes on two cores, once"
fi
echo "  - run three nodes on 127.0.0.1, .2 and .3 for about two minutes, and clean up after itself"
