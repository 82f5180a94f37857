#!/usr/bin/env bash
# Makes pith-demo-arm64:v1, v2 and v3 (never ready) of a static ARM64 demo-app, as a file for `docker load`.
#
#   tests/board/demo-image.sh DEMO_APP FILE
#
# By hand, because `docker import --platform` wants an engine in experimental mode.
set -euo pipefail

binary=$1 file=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

mkdir "$work/root" "$work/image"
install -m755 "$binary" "$work/root/demo-app"
tar -C "$work/root" --owner=0 --group=0 --numeric-owner --mtime=@0 -cf "$work/image/layer.tar" demo-app
layer=$(sha256sum "$work/image/layer.tar" | cut -d ' ' -f 1)

entries=""
for tag in v1 v2 v3; do
  more=""
  [ "$tag" = v3 ] && more=',"NEVER_READY=1"'
  config='{"architecture":"arm64","os":"linux","created":"1970-01-01T00:00:00Z","config":{"Env":["VERSION='$tag'"'$more'],'
  config+='"Entrypoint":["/demo-app"],"ExposedPorts":{"8080/tcp":{}},"Labels":{"io.pith.fixture":"1"}},'
  config+='"rootfs":{"type":"layers","diff_ids":["sha256:'$layer'"]}}'
  printf %s "$config" >"$work/image/$tag.json"
  entries+="${entries:+,}"'{"Config":"'$tag'.json","RepoTags":["pith-demo-arm64:'$tag'"],"Layers":["layer.tar"]}'
done
printf '[%s]' "$entries" >"$work/image/manifest.json"
tar -C "$work/image" --owner=0 --group=0 --numeric-owner --mtime=@0 -cf "$file" .
