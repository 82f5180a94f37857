# Sourced: finds the Rust toolchain (also where HOME or PATH lack it) and sets HOST_TRIPLE; says how to get one otherwise.
# shellcheck shell=bash

if [ -f "${CARGO_HOME:-${HOME:-/root}/.cargo}/env" ]; then
  # shellcheck disable=SC1091
  . "${CARGO_HOME:-${HOME:-/root}/.cargo}/env"
fi
if ! command -v cargo >/dev/null 2>&1 && [ -x /root/.cargo/bin/cargo ]; then
  PATH="/root/.cargo/bin:$PATH"
fi
if ! command -v cargo >/dev/null 2>&1 || ! command -v rustc >/dev/null 2>&1; then
  echo "rust: no cargo here. Pith needs Rust 1.95 or newer:" >&2
  echo "  curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh        (any machine)" >&2
  echo "  apt-get install rustc-web cargo-web                                   (Debian 12, 1.96 with its security updates)" >&2
  exit 1
fi
HOST_TRIPLE=$(rustc -vV | sed -n 's/^host: //p')
export PATH HOST_TRIPLE
