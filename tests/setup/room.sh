#!/usr/bin/env bash
# Says what a purpose takes of the disk, and ends here where there is less: a linker that meets a full disk says it worse.
#
#   tests/setup/room.sh PURPOSE GIB     free below the folder of what is built; a third of it where something is built already
set -euo pipefail
cd "$(dirname "$0")/../.."

purpose=$1 needed=$2
folder=${CARGO_TARGET_DIR:-target}
if [ -d "$folder/debug" ]; then needed=$(((needed + 2) / 3)); fi
while [ ! -d "$folder" ]; do folder=$(dirname "$folder"); done
free=$(($(df -k --output=avail "$folder" | tail -n 1) / 1024 / 1024))
if [ "$free" -lt "$needed" ]; then
  echo "$purpose: $free GiB are free below $folder, and it takes about $needed: free some, or set CARGO_TARGET_DIR to a folder of another disk" >&2
  exit 1
fi
echo "$purpose: takes about $needed GiB of disk below $folder, $free are free" >&2
