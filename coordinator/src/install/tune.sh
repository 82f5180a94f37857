# Standard input becomes /etc/docker/daemon.json: checked where dockerd can, the one before kept, and back again if Docker does not come up.
# Docker is reloaded before it is restarted, so that live-restore is in force by then and containers run on.
set -u
umask 022
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin LC_ALL=C
export PATH LC_ALL
file=/etc/docker/daemon.json
before=$file.before-pith
mkdir -p /etc/docker
cat >"$file.new" || exit 1
if dockerd --help 2>&1 | grep -q -- --validate; then
  if ! said=$(dockerd --validate --config-file "$file.new" 2>&1); then
    rm -f "$file.new"
    echo "dockerd refuses the configuration, nothing was changed: $said" >&2
    exit 1
  fi
fi
if [ -e "$file" ] && [ ! -e "$before" ]; then cp -p "$file" "$before"; fi
if [ -e "$file" ]; then cp -p "$file" "$file.undo"; fi
mv "$file.new" "$file"
answers() {
  n=0
  until timeout 5 docker version >/dev/null 2>&1 </dev/null; do
    n=$((n + 1))
    if [ "$n" -ge 20 ]; then return 1; fi
    sleep 1
  done
}
systemctl reload docker 2>/dev/null || true
if systemctl restart docker && answers; then rm -f "$file.undo"; exit 0; fi
if [ -e "$file.undo" ]; then mv "$file.undo" "$file"; else rm -f "$file"; fi
systemctl reset-failed docker 2>/dev/null || true
systemctl restart docker
echo "Docker does not start with the new configuration; the one before is back" >&2
exit 1
