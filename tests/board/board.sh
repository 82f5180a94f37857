# Sourced: an emulated ARM64 board that is booted, asked over ssh, and whose power is cut.
# shellcheck shell=bash
#
#   board_boot [QEMU ARGUMENT...]   boots $BOARD_DISK; NETWORK=cut leaves ssh alone, CLOCK=1970-01-01 is what its clock chip says (docs/plan/05.md)
#   on_board COMMAND...             as root
#   board_cut                       the power goes away
#
# BOARD_DIR (logs, pid), BOARD_IMAGE (tests/board/image.sh), BOARD_DISK and BOARD_SSH_PORT are set by whoever sources this.

# apparmor=0: the image carries no apparmor_parser, without which Docker starts nothing under an AppArmor that is on.
BOARD_MEMORY_MB=${BOARD_MEMORY_MB:-512}
# An emulated board boots in one to four minutes, as busy as this machine is.
BOARD_WAIT_S=${BOARD_WAIT_S:-420}

board_boot() {
  local restrict=off
  [ "${NETWORK:-on}" = cut ] && restrict=on
  qemu-system-aarch64 -M virt -cpu cortex-a72 -smp 2 -m "$BOARD_MEMORY_MB" \
    -kernel "$BOARD_IMAGE/vmlinuz" -initrd "$BOARD_IMAGE/initrd" -append "root=/dev/vda rw console=ttyAMA0 quiet apparmor=0" \
    -drive "file=$BOARD_DISK,format=raw,if=virtio" \
    -netdev "user,id=n0,restrict=$restrict,hostfwd=tcp:127.0.0.1:$BOARD_SSH_PORT-:22" \
    -device virtio-net-pci,netdev=n0,romfile= -rtc "base=${CLOCK:-utc}" \
    -display none -monitor none -serial "file:$BOARD_DIR/console.log" -pidfile "$BOARD_DIR/qemu.pid" "$@" \
    >"$BOARD_DIR/qemu.log" 2>&1 </dev/null &
  board_wait "an ssh server" true
}

on_board() {
  ssh -q -i "$BOARD_IMAGE/id_ed25519" -p "$BOARD_SSH_PORT" -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null \
    -o BatchMode=yes -o ConnectTimeout=10 -o ServerAliveInterval=10 -o ServerAliveCountMax=6 root@127.0.0.1 "$@" </dev/null
}

# Standard input becomes the file $1 on the board.
to_board() {
  ssh -q -i "$BOARD_IMAGE/id_ed25519" -p "$BOARD_SSH_PORT" -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null \
    -o BatchMode=yes root@127.0.0.1 "cat >'$1'"
}

# Waits until a command succeeds on the board: board_wait WHAT COMMAND...
board_wait() {
  local what=$1 until=$((SECONDS + BOARD_WAIT_S))
  shift
  until on_board "$@" >/dev/null 2>&1; do
    if [ "$SECONDS" -ge "$until" ]; then
      echo "board: no $what within $BOARD_WAIT_S s" >&2
      tail -n 5 "$BOARD_DIR/console.log" "$BOARD_DIR/qemu.log" >&2 || true
      return 1
    fi
    sleep 2
  done
}

board_cut() {
  local pid
  [ -s "$BOARD_DIR/qemu.pid" ] || return 0
  pid=$(cat "$BOARD_DIR/qemu.pid")
  kill -9 "$pid" 2>/dev/null || true
  wait "$pid" 2>/dev/null || true
  rm -f "$BOARD_DIR/qemu.pid"
}
