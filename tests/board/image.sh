#!/usr/bin/env bash
# Makes the disk of the emulated board once: Debian 12 for ARM64 with systemd, Docker and an ssh server.
#
#   tests/board/image.sh            makes what is missing (10 to 15 minutes, root) and prints the folder
#   tests/board/image.sh --folder   prints the folder alone
#   tests/board/image.sh --missing  prints the Debian packages that this machine lacks for it, one per line
#
# The folder, ${XDG_CACHE_HOME:-~/.cache}/pith-board/RECIPE, holds board.ext4 (never written to again: a run boots an
# overlay), vmlinuz, initrd and id_ed25519, the key that opens the board's root and `person`, who may sudo. Raise RECIPE when what is installed changes.
set -euo pipefail

RECIPE=bookworm-2
DISK_MB=4096
PACKAGES=systemd,systemd-sysv,dbus,udev,linux-image-cloud-arm64,docker.io,iptables,nftables,iproute2,ca-certificates,openssh-server,procps
PACKAGES+=,apparmor,sudo,systemd-timesyncd
TOOLS=(mmdebstrap:mmdebstrap arch-test:arch-test qemu-aarch64-static:qemu-user-static update-binfmts:binfmt-support mkfs.ext4:e2fsprogs ssh-keygen:openssh-client)

export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"
here=$(cd "$(dirname "$0")" && pwd)
folder=${XDG_CACHE_HOME:-$HOME/.cache}/pith-board/$RECIPE

missing() {
  local pair
  for pair in "${TOOLS[@]}"; do
    command -v "${pair%%:*}" >/dev/null 2>&1 || echo "${pair#*:}"
  done
}

# Programs for ARM64 run on this kernel through qemu.
let_arm64_run() {
  [ -e /proc/sys/fs/binfmt_misc/register ] || mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
  update-binfmts --enable qemu-aarch64
}

make_disk() {
  local work=$folder.new
  rm -rf "$work"
  mkdir -p "$work/root"
  ssh-keygen -q -t ed25519 -N '' -C pith-board -f "$work/id_ed25519"
  mmdebstrap --arch=arm64 --variant=minbase --include="$PACKAGES" \
    --customize-hook='echo board >"$1/etc/hostname"' \
    --customize-hook='printf "127.0.0.1 localhost board\n" >"$1/etc/hosts"' \
    --customize-hook='printf "[Match]\nName=en*\n[Network]\nDHCP=yes\n" >"$1/etc/systemd/network/en.network"' \
    --customize-hook='mkdir -m700 -p "$1/root/.ssh"' \
    --customize-hook="copy-in $work/id_ed25519.pub /root/.ssh" \
    --customize-hook='mv "$1/root/.ssh/id_ed25519.pub" "$1/root/.ssh/authorized_keys"; chown -R 0:0 "$1/root/.ssh"' \
    --customize-hook='chroot "$1" useradd --create-home --shell /bin/bash person' \
    --customize-hook='echo "person ALL=(ALL) NOPASSWD: ALL" >"$1/etc/sudoers.d/person"' \
    --customize-hook='mkdir -m700 "$1/home/person/.ssh"; cp "$1/root/.ssh/authorized_keys" "$1/home/person/.ssh/"' \
    --customize-hook='chroot "$1" chown -R person:person /home/person/.ssh' \
    --customize-hook="copy-in $here/board-clock.service /etc/systemd/system" \
    --customize-hook='chroot "$1" systemctl enable systemd-networkd ssh docker board-clock' \
    --customize-hook='chroot "$1" systemctl mask apt-daily.timer apt-daily-upgrade.timer' \
    bookworm "$work/rootfs.tar"
  tar -C "$work/root" --numeric-owner -xpf "$work/rootfs.tar"
  cp "$work"/root/boot/vmlinuz-* "$work/vmlinuz"
  cp "$work"/root/boot/initrd.img-* "$work/initrd"
  truncate -s "${DISK_MB}M" "$work/board.ext4"
  mkfs.ext4 -q -L board -d "$work/root" "$work/board.ext4"
  rm -rf "$work/root" "$work/rootfs.tar"
  mv "$work" "$folder"
}

case "${1:-}" in
  --folder) echo "$folder" ;;
  --missing) missing ;;
  "")
    if [ ! -e "$folder/board.ext4" ]; then
      lacking=$(missing | tr '\n' ' ')
      if [ -n "$lacking" ]; then
        echo "board image: install first: $lacking" >&2
        exit 1
      fi
      if [ "$(id -u)" != 0 ]; then
        echo "board image: making it needs root, once: sudo env XDG_CACHE_HOME=${XDG_CACHE_HOME:-$HOME/.cache} tests/board/image.sh" >&2
        exit 1
      fi
      echo "board image: making it in $folder, once (10 to 15 minutes)" >&2
      let_arm64_run >&2
      make_disk >&2
    fi
    echo "$folder"
    ;;
  *)
    echo "usage: image.sh [--folder | --missing]" >&2
    exit 2
    ;;
esac
