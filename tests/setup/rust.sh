# Sourced: finds the Rust toolchain (also where HOME or PATH lack it) and sets HOST_TRIPLE; says how to get one otherwise.
# shellcheck shell=bash

# CI runners may start without a usable HOME, and rustup finds its toolchains by it.
if [ -z "${HOME:-}" ] || [ ! -d "$HOME" ]; then
  HOME=$(getent passwd "$(id -u)" | cut -d: -f6)
  export HOME
fi
if [ -f "${CARGO_HOME:-$HOME/.cargo}/env" ]; then
  # shellcheck disable=SC1091
  . "${CARGO_HOME:-$HOME/.cargo}/env"
fi
if ! HOST_TRIPLE=$(rustc -vV 2>/dev/null | sed -n 's/^host: //p') || [ -z "$HOST_TRIPLE" ] || ! cargo --version >/dev/null 2>&1; then
  echo "rust: no working cargo and rustc here. Pith needs Rust 1.95 or newer:" >&2
  echo "  curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh        (any machine)" >&2
  echo "  rustup default stable                                                 (rustup is there, a toolchain is not)" >&2
  echo "  apt-get install rustc-web cargo-web                                   (Debian 12)" >&2
  exit 1
fi
export PATH HOST_TRIPLE
