# Sourced: what `make dist` builds with beside Rust: cargo-deb, cargo-zigbuild and zig, and a standard library for musl. What is
# missing is installed where that needs nobody's leave (a folder of ours, root's apt), otherwise dist.sh says what it lacks.
# shellcheck shell=bash

dist_tools=${XDG_CACHE_HOME:-$HOME/.cache}/pith-dist
PATH="$PATH:$dist_tools/bin"
export PATH

dist_has_musl() {
  local rustc sysroot
  for rustc in "$(rustup which rustc 2>/dev/null || command -v rustc)" /usr/bin/rustc; do
    sysroot=$("$rustc" --print sysroot 2>/dev/null) || continue
    [ -d "$sysroot/lib/rustlib/aarch64-unknown-linux-musl/lib" ] && return
    [ -e "$sysroot/lib/rustlib/src/rust/library/std/Cargo.toml" ] && return
  done
  return 1
}

if ! dist_has_musl; then
  echo "dist: adding a standard library for boards" >&2
  rustup target add aarch64-unknown-linux-musl x86_64-unknown-linux-musl >/dev/null 2>&1 || tests/setup/packages.sh dist >&2 || true
fi
if ! command -v cargo-zigbuild >/dev/null 2>&1 && command -v python3 >/dev/null 2>&1; then
  echo "dist: installing cargo-zigbuild and zig in $dist_tools" >&2
  if python3 -m venv "$dist_tools" >/dev/null 2>&1; then "$dist_tools/bin/pip" install --quiet cargo-zigbuild ziglang >&2 || true; fi
fi
if [ -x "$dist_tools/bin/python3" ] && [ -z "${CARGO_ZIGBUILD_ZIG_PATH:-}" ]; then
  CARGO_ZIGBUILD_ZIG_PATH=$("$dist_tools/bin/python3" -c 'import os, ziglang; print(os.path.join(os.path.dirname(ziglang.__file__), "zig"))' 2>/dev/null) &&
    export CARGO_ZIGBUILD_ZIG_PATH || unset CARGO_ZIGBUILD_ZIG_PATH
fi
if ! command -v cargo-deb >/dev/null 2>&1; then
  echo "dist: installing cargo-deb in $dist_tools" >&2
  cargo install --locked --quiet --root "$dist_tools" cargo-deb >&2 || true
fi
