# Sourced: what `make dist` builds with beside Rust: cargo-deb, cargo-zigbuild and zig, and a standard library for musl. What is
# missing is installed where that needs nobody's leave (a folder of ours, root's apt), otherwise dist.sh says what it lacks.
# shellcheck shell=bash

dist_tools=${XDG_CACHE_HOME:-$HOME/.cache}/pith-dist
PATH="$PATH:$dist_tools/bin"
export PATH

# A compiler that can make programs for a target: "RUSTC builds" its standard library from the sources, made small, which a board's
# budget counts on (a twelfth of the agent), or "RUSTC has" it.
compiler_for() {
  local rustc sysroot had=""
  for rustc in "$(rustup which rustc 2>/dev/null || command -v rustc)" /usr/bin/rustc; do
    [ -x "$rustc" ] || continue
    sysroot=$("$rustc" --print sysroot)
    if [ -e "$sysroot/lib/rustlib/src/rust/library/std/Cargo.toml" ]; then echo "$rustc builds"; return; fi
    if [ -z "$had" ] && [ -d "$sysroot/lib/rustlib/$1/lib" ]; then had="$rustc has"; fi
  done
  [ -n "$had" ] && echo "$had"
}

case "$(compiler_for aarch64-unknown-linux-musl)" in
  *" builds") ;;
  *)
    echo "dist: adding the sources of the standard library" >&2
    rustup component add rust-src >/dev/null 2>&1 || tests/setup/packages.sh dist >&2 ||
      rustup target add aarch64-unknown-linux-musl x86_64-unknown-linux-musl >/dev/null 2>&1 || true
    ;;
esac
if ! command -v cargo-zigbuild >/dev/null 2>&1 && command -v python3 >/dev/null 2>&1; then
  echo "dist: installing cargo-zigbuild and zig in $dist_tools" >&2
  if python3 -m venv "$dist_tools" >/dev/null 2>&1; then "$dist_tools/bin/pip" install --quiet cargo-zigbuild ziglang >&2 || true; fi
fi
if [ -z "${CARGO_ZIGBUILD_ZIG_PATH:-}" ]; then
  for python in "$dist_tools/bin/python3" python3; do
    CARGO_ZIGBUILD_ZIG_PATH=$(command -v zig ||
      "$python" -c 'import os, ziglang; print(os.path.join(os.path.dirname(ziglang.__file__), "zig"))' 2>/dev/null) && break
  done
  export CARGO_ZIGBUILD_ZIG_PATH
fi
if ! command -v cargo-deb >/dev/null 2>&1; then
  echo "dist: installing cargo-deb in $dist_tools" >&2
  cargo install --locked --quiet --root "$dist_tools" cargo-deb >&2 || true
fi
