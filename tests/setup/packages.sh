#!/usr/bin/env bash
# Installs the Debian packages that are missing for one purpose, and nothing that is there already.
#
#   tests/setup/packages.sh demo|test|bench|board|dist     install what is missing (root), or say the command to run (not root)
#   tests/setup/packages.sh --list PURPOSE      only print what is missing, one per line
#
# A program found in PATH counts as there, whoever installed it. No service that a package brings is started on purpose; on
# machines with systemd apt may start mosquitto, docker-registry, prometheus or nginx, and they are left as apt leaves them.
set -euo pipefail

# program:package. The build needs a C compiler (SQLite and ring are compiled), the demo an engine, the tests real parts beside it.
DEMO=(cc:gcc make:make git:git docker:docker.io dockerd:docker.io iptables:iptables)
TEST=("${DEMO[@]}" mosquitto:mosquitto mosquitto_pub:mosquitto-clients docker-registry:docker-registry skopeo:skopeo
  systemd-analyze:systemd htpasswd:apache2-utils nft:nftables ip:iproute2 strace:strace sqlite3:sqlite3 nsenter:util-linux curl:curl
  ssh:openssh-client sshd:openssh-server sudo:sudo strip:binutils avahi-daemon:avahi-daemon
  prometheus:prometheus promtool:prometheus chromium:chromium)
BENCH=("${TEST[@]}" haproxy:haproxy nginx:nginx wrk:wrk)
# The emulated board: its disk is made by mmdebstrap, and programs for ARM64 run meanwhile through qemu-user.
BOARD=("${DEMO[@]}" qemu-system-aarch64:qemu-system-arm qemu-img:qemu-utils qemu-aarch64-static:qemu-user-static update-binfmts:binfmt-support
  mmdebstrap:mmdebstrap arch-test:arch-test ssh-keygen:openssh-client socat:socat
  qemu-storage-daemon:qemu-system-common mkfs.ext4:e2fsprogs losetup:mount)
# A compiler of Debian's that brings the sources of the standard library, where rustup cannot add a target.
DIST=(cc:gcc git:git /usr/bin/rustc:rustc-web /usr/bin/cargo:cargo-web /usr/lib/rustlib/src:rust-web-src)

usage() {
  echo "usage: packages.sh [--list] demo|test|bench|board|dist" >&2
  exit 2
}

is_there() {
  PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin" command -v "$1" >/dev/null 2>&1
}

list_only=no
if [ "${1:-}" = --list ]; then
  list_only=yes
  shift
fi
case "${1:-}" in
  demo) wanted=("${DEMO[@]}") ;;
  test) wanted=("${TEST[@]}") ;;
  bench) wanted=("${BENCH[@]}") ;;
  board) wanted=("${BOARD[@]}") ;;
  dist) wanted=("${DIST[@]}") ;;
  *) usage ;;
esac

# An engine that answers may come without a dockerd of its own here (Docker Desktop, a socket from elsewhere).
has_engine=no
if is_there docker && docker version >/dev/null 2>&1; then has_engine=yes; fi

look() {
  local pair program package
  missing=()
  for pair in "${wanted[@]}"; do
    program=${pair%%:*} package=${pair#*:}
    if is_there "$program"; then continue; fi
    if [ "$package" = docker.io ] && [ "$has_engine" = yes ] && [ "$purpose" = demo ]; then continue; fi
    case " ${missing[*]-} " in *" $package "*) ;; *) missing+=("$package") ;; esac
  done
}
purpose=$1
look

if [ "$list_only" = yes ]; then
  if [ ${#missing[@]} -gt 0 ]; then printf '%s\n' "${missing[@]}"; fi
  exit 0
fi
if [ ${#missing[@]} -eq 0 ]; then
  echo "packages: everything for '$1' is there"
  exit 0
fi
if ! command -v apt-get >/dev/null 2>&1; then
  echo "packages: missing for '$1': ${missing[*]} (Debian's names), and this machine has no apt-get." >&2
  echo "packages: install them with your system's package manager and run this again." >&2
  exit 1
fi
if [ "$(id -u)" != 0 ]; then
  echo "packages: missing for '$1': ${missing[*]}. Run this, then try again:" >&2
  echo "  sudo apt-get update && sudo apt-get install --no-install-recommends ${missing[*]}" >&2
  exit 1
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT
export DEBIAN_FRONTEND=noninteractive
install() { apt-get install -y --no-install-recommends "${missing[@]}" >"$log" 2>&1; }
echo "packages: installing ${missing[*]}"
# Package lists may be absent or stale on a fresh machine: fetch them only when the first try fails.
if ! install; then
  echo "packages: fetching the package lists and trying again"
  if ! apt-get update >"$log" 2>&1 || ! install; then
    tail -n 20 "$log" >&2
    echo "packages: apt-get could not install ${missing[*]}; its last lines are above" >&2
    exit 1
  fi
fi
echo "packages: installed ${missing[*]}"
# apt takes a package away that comes from elsewhere and fits the new ones no more (qemu-utils of another release): it is brought back.
look
if [ ${#missing[@]} -gt 0 ]; then
  echo "packages: installing ${missing[*]}, which apt took away for the others"
  install || true
  look
  if [ ${#missing[@]} -gt 0 ]; then
    tail -n 20 "$log" >&2
    echo "packages: still missing: ${missing[*]}; apt-get's last lines are above" >&2
    exit 1
  fi
fi
