#!/usr/bin/env bash
# Whether each program in a folder of `make dist` is static, stripped and within its budget, and its package holds it.
#
#   tests/board/check-dist.sh dist
#   tests/board/check-dist.sh --agent FILE   the same of one agent that was built for this machine
set -euo pipefail

# Bytes. What a board carries is kept small; the coordinator's is here so that it does not double unseen.
AGENT_BYTES=4000000
# The same for x86-64, whose instructions are longer, with what glibc brings where `make footprint` builds it.
AGENT_X86_BYTES=6700000
PITH_BYTES=32000000

dir=${1:?usage: check-dist.sh FOLDER | --agent FILE}
wrong=0

fail() {
  echo "check-dist: $*" >&2
  wrong=1
}

check_program() {
  local file=$1 bytes limit=$PITH_BYTES
  bytes=$(stat -c %s "$file")
  case "$(basename "$file")" in pith-agent | pith-agent_*) limit=$AGENT_BYTES ;; esac
  if [ "$limit" = "$AGENT_BYTES" ] && readelf -hW "$file" | grep -q X86-64; then limit=$AGENT_X86_BYTES; fi
  if readelf -lW "$file" | grep -q INTERP; then fail "$file wants a loader: not static"; fi
  if readelf -dW "$file" | grep -q NEEDED; then fail "$file wants libraries: not static"; fi
  if readelf -SW "$file" | grep -qE ' \.(symtab|debug_info) '; then fail "$file is not stripped"; fi
  if [ "$bytes" -gt "$limit" ]; then fail "$file has $bytes bytes, $limit are allowed"; fi
  echo "check-dist: $(basename "$file") $bytes of $limit bytes, static, stripped"
}

check_package() {
  local deb=$1 program inside
  program=$(basename "${deb%%_*}")
  inside=$(dpkg-deb --fsys-tarfile "$deb" | tar -xO "./usr/bin/$program" | sha256sum | cut -d ' ' -f 1)
  if [ "$inside" != "$(sha256sum "${deb%.deb}" | cut -d ' ' -f 1)" ]; then fail "$deb holds another $program"; fi
  if ! dpkg-deb --ctrl-tarfile "$deb" | tar -xO ./conffiles | grep -q '^/etc/pith/'; then fail "$deb has no conffiles"; fi
}

if [ "$dir" = --agent ]; then
  check_program "${2:?usage: check-dist.sh --agent FILE}"
  exit "$wrong"
fi

found=0
for file in "$dir"/pith_* "$dir"/pith-agent_*; do
  case "$file" in
    *.json | *'*') ;;
    *.deb) check_package "$file" ;;
    *)
      check_program "$file"
      found=$((found + 1))
      ;;
  esac
done
[ "$found" -gt 0 ] || fail "no program in $dir"
(cd "$dir" && sha256sum --quiet -c SHA256SUMS) || fail "SHA256SUMS says otherwise"
exit "$wrong"
