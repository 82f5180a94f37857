#!/usr/bin/env bash
# Builds what people install: dist/ with pith-agent and pith, static, as packages for ARM64 and x86-64.
#
#   cross/dist.sh                       everything that can be built here; what cannot is said and skipped
#   cross/dist.sh pith-agent:arm64 ...  these alone
#
# Each program is built by cross where it and its images are here, else by cargo-zigbuild with the standard library that the
# toolchain has for the target, or that it builds from its sources (Debian: rust-web-src). Packages by cargo-deb. Exit 0: what was
# built is in dist/ and passed tests/board/check-dist.sh; exit 1: nothing could be built, or something built is not as it should be.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tests/setup/rust.sh
. tests/setup/rust.sh
# shellcheck source=tests/setup/dist.sh
. tests/setup/dist.sh

ALL=(pith-agent:arm64 pith-agent:amd64 pith:arm64 pith:amd64)
# Not installed by anybody: what the emulated board runs (tests/board/run.sh), an application and an agent that a test can spoil. They
# go to dist/.board.
FOR_BOARD=(demo-app:arm64 failing-agent:arm64)
STAGE=dist/.stage
target_dir=${CARGO_TARGET_DIR:-target}
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
# Times in archives are those of the sources.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || stat -c %Y Cargo.lock)}
export SOURCE_DATE_EPOCH

say() { echo "dist: $*" >&2; }

triple() {
  case "$1" in
    arm64) echo aarch64-unknown-linux-musl ;;
    amd64) echo x86_64-unknown-linux-musl ;;
  esac
}

# The crate, profile, file and features of a program.
crate() {
  case "$1" in
    pith-agent) echo agent agent pith-agent ;;
    pith) echo coordinator release pith ;;
    demo-app) echo demo-app release demo-app ;;
    failing-agent) echo agent agent pith-agent --features=failpoints ;;
  esac
}

# by_cross CRATE PROFILE TRIPLE [FEATURES]
by_cross() {
  command -v cross >/dev/null 2>&1 && docker version >/dev/null 2>&1 || return 1
  CROSS_CONFIG=cross/Cross.toml cross build --locked --profile "$2" --target "$3" -p "$1" "${@:4}" && return
  say "cross could not build $1 for $3; trying cargo-zigbuild"
  return 1
}

# Where the builder keeps what it compiles must not be read from a program: the same sources give the same bytes in any folder.
# One flag per line, as CARGO_ENCODED_RUSTFLAGS wants them once joined, so that folders may have spaces.
renamed() {
  local sysroot=$1 crates
  # The last that fits counts.
  echo "--remap-path-prefix=$PWD=/pith"
  echo "--remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo"
  for crates in "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/; do echo "--remap-path-prefix=${crates%/}=/crates"; done
  echo "--remap-path-prefix=$sysroot/lib/rustlib/src/rust=/rustc"
}

by_zigbuild() {
  local rustc how flags more=() bootstrap=()
  command -v cargo-zigbuild >/dev/null 2>&1 || { say "no cargo-zigbuild (cargo install cargo-zigbuild; it needs zig)"; return 1; }
  [ -n "${CARGO_ZIGBUILD_ZIG_PATH:-}" ] || { say "no zig, which cargo-zigbuild links with"; return 1; }
  read -r rustc how < <(compiler_for "$3") || { say "no standard library for $3 (rustup target add $3) and no sources of it"; return 1; }
  # The crates' folder has to be there to be renamed.
  "$(dirname "$rustc")/cargo" fetch --locked --quiet
  flags=$(renamed "$("$rustc" --print sysroot)")
  # What zig brings takes the place of the objects that rustc carries for musl.
  if [ "$how" = builds ]; then
    # Without its own backtraces, which a stripped program cannot print anyway.
    more=(-Zbuild-std=std,panic_abort -Zbuild-std-features=optimize_for_size)
    bootstrap=(RUSTC_BOOTSTRAP=1)
    flags+=$'\n-Clink-self-contained=no'
  fi
  # What many functions have in common becomes one more often: a percent of a program that is built for size, on ARM64.
  flags+=$'\n-Cllvm-args=-machine-outliner-reruns=3'
  # C sources, of ring and of SQLite, name themselves too.
  env "PATH=$(dirname "$rustc"):$PATH" "RUSTC=$rustc" "CARGO=$(dirname "$rustc")/cargo" "${bootstrap[@]}" \
    "CARGO_ENCODED_RUSTFLAGS=${flags//$'\n'/$'\x1f'}" "CFLAGS=-ffile-prefix-map=${CARGO_HOME:-$HOME/.cargo}=/cargo" \
    "$(command -v cargo-zigbuild)" zigbuild --locked --profile "$2" "${more[@]}" --target "$3" -p "$1" "${@:4}"
}

# The program, in dist/.
compile() {
  local program=$1 arch=$2 crate profile file features target
  read -r crate profile file features < <(crate "$program")
  target=$(triple "$arch")
  # shellcheck disable=SC2086
  by_cross "$crate" "$profile" "$target" $features || by_zigbuild "$crate" "$profile" "$target" $features || return 1
  case " ${FOR_BOARD[*]} " in
    *" $program:$arch "*) install -D -m755 "$target_dir/$target/$profile/$file" "dist/.board/$program" ;;
    *) install -m755 "$target_dir/$target/$profile/$file" "dist/${program}_${version}_$arch" ;;
  esac
}

# What the command line prints of itself, completions and manual pages, by a pith that runs here.
completions() {
  local pith=""
  for pith in "dist/pith_${version}_$(dpkg --print-architecture)" "$target_dir/release/pith" target/release/pith target/debug/pith; do
    if [ -x "$pith" ]; then break; fi
    pith=""
  done
  [ -n "$pith" ] || { say "no pith runs here, which prints the completions: make build"; return 1; }
  "$pith" completions bash >"$STAGE/pith.bash"
  "$pith" completions zsh >"$STAGE/_pith"
  "$pith" completions fish >"$STAGE/pith.fish"
  # Those of the package before.
  rm -rf "$STAGE/man1"
  "$pith" man "$STAGE/man1"
  gzip -9 --no-name "$STAGE"/man1/*
}

# The agent's manual is its help: no parser on the board that could write another.
manual_of_agent() {
  mkdir -p "$STAGE/man8"
  {
    printf '.TH PITH-AGENT 8 "" "pith-agent %s" "Pith"\n.SH NAME\npith-agent \\- %s\n.SH DESCRIPTION\n.nf\n' \
      "$version" "$(sed -n '1s/^pith-agent: //p' agent/src/cli/help.txt)"
    tail -n +3 agent/src/cli/help.txt | sed -e 's/\\/\\e/g' -e 's/-/\\-/g' -e "s/^\([.']\)/\\\\\&\1/"
    printf '.fi\n.SH SEE ALSO\nfile:///usr/share/doc/pith\\-agent/README.md\n'
  } | gzip -9 --no-name >"$STAGE/man8/pith-agent.8.gz"
}

package() {
  local program=$1 arch=$2 crate
  read -r crate _ < <(crate "$program")
  mkdir -p "$STAGE"
  install -m755 "dist/${program}_${version}_$arch" "$STAGE/$program"
  case "$program" in pith) completions ;; pith-agent) manual_of_agent ;; esac
  cargo deb --quiet --no-build --no-strip --package "$crate" --target "$(triple "$arch")" \
    --deb-version "$version" --output "dist/${program}_${version}_$arch.deb"
}

# What is in a program: CycloneDX 1.5, from the very graph that cargo resolves for it.
bill_of_materials() {
  local program=$1 arch=$2 crate
  read -r crate _ < <(crate "$program")
  cargo tree --locked -p "$crate" -e normal,no-proc-macro --target "$(triple "$arch")" --prefix none --no-dedupe --format '{p}|{l}' |
    sed -E 's/ \(.*\)\|/|/; s/ \(\*\)//' | LC_ALL=C sort -u | awk -F'[ |]' -v program="$program" -v version="$version" '
      BEGIN {
        printf "{\"bomFormat\":\"CycloneDX\",\"specVersion\":\"1.5\",\"version\":1,"
        printf "\"metadata\":{\"component\":{\"type\":\"application\",\"name\":\"%s\",\"version\":\"%s\"}},\"components\":[", program, version
      }
      NF >= 2 {
        name = $1; v = $2; sub(/^v/, "", v); licence = $0; sub(/^[^|]*\|/, "", licence)
        printf "%s\n{\"type\":\"library\",\"name\":\"%s\",\"version\":\"%s\",\"purl\":\"pkg:cargo/%s@%s\"", (n++ ? "," : ""), name, v, name, v
        if (licence != "") printf ",\"licenses\":[{\"expression\":\"%s\"}]", licence
        printf "}"
      }
      END { print "\n]}" }' >"dist/${program}_${version}_$arch.cdx.json"
}

wanted=("$@")
[ ${#wanted[@]} -gt 0 ] || wanted=("${ALL[@]}")
mkdir -p dist
done_here=() skipped=()
for one in "${wanted[@]}"; do
  program=${one%%:*} arch=${one#*:}
  case " ${ALL[*]} ${FOR_BOARD[*]} " in *" $one "*) ;; *) say "no such thing: $one (there are: ${ALL[*]})"; exit 2 ;; esac
  say "building $program for $arch"
  if compile "$program" "$arch"; then done_here+=("$one"); else skipped+=("$one"); fi
done
[ ${#done_here[@]} -gt 0 ] || { say "nothing could be built here"; exit 1; }

for one in "${done_here[@]}"; do
  program=${one%%:*} arch=${one#*:}
  case " ${FOR_BOARD[*]} " in *" $one "*) continue ;; esac
  bill_of_materials "$program" "$arch"
  if command -v cargo-deb >/dev/null 2>&1; then
    package "$program" "$arch"
  else
    say "no cargo-deb (cargo install --locked cargo-deb): no package of $program for $arch"
    skipped+=("$one.deb")
  fi
done
rm -rf "$STAGE"
(cd dist && find . -maxdepth 1 -type f -name 'pith*' -printf '%f\n' | LC_ALL=C sort | xargs sha256sum >SHA256SUMS)
tests/board/check-dist.sh dist
if [ ${#skipped[@]} -gt 0 ]; then say "SKIPPED, as said above: ${skipped[*]}"; fi
