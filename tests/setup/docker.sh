#!/usr/bin/env bash
# Makes sure that a Docker engine answers. An engine that answers is never touched; without one dockerd is started in the
# background when this is root, and left running, as a service would be.
#
#   tests/setup/docker.sh
#
# Exit 0: an engine answers. Exit 1: none does, and the last lines say what to do.
set -euo pipefail

WAIT_S=60
LOG=/var/log/pith-dockerd.log
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"

answers() { docker version --format '{{.Server.Version}}' 2>/dev/null; }

if ! command -v docker >/dev/null 2>&1; then
  echo "docker: no docker command. Debian: apt-get install docker.io; otherwise https://docs.docker.com/engine/install/" >&2
  exit 1
fi
if version=$(answers) && [ -n "$version" ]; then
  echo "docker: engine $version answers"
  exit 0
fi
if [ -n "${DOCKER_HOST:-}" ]; then
  echo "docker: DOCKER_HOST=$DOCKER_HOST does not answer. Start that engine, or unset DOCKER_HOST." >&2
  exit 1
fi
if [ "$(id -u)" != 0 ]; then
  docker version 2>&1 | tail -n 1 >&2 || true
  echo "docker: no engine answers. Start it (sudo systemctl start docker) and let this user reach it (sudo usermod -aG docker $(id -un), then log in again)." >&2
  exit 1
fi
if ! command -v dockerd >/dev/null 2>&1; then
  echo "docker: no engine answers and no dockerd is here. Debian: apt-get install docker.io" >&2
  exit 1
fi

# With systemd the unit is the one way; two daemons would fight for one data root.
if [ -d /run/systemd/system ] && systemctl cat docker.service >/dev/null 2>&1; then
  echo "docker: starting docker.service"
  systemctl start docker.service
elif pgrep -x dockerd >/dev/null 2>&1; then
  echo "docker: dockerd runs and does not answer yet; waiting"
else
  echo "docker: starting dockerd in the background (log: $LOG)"
  setsid nohup dockerd >"$LOG" 2>&1 </dev/null &
fi

for _ in $(seq "$WAIT_S"); do
  if version=$(answers) && [ -n "$version" ]; then
    echo "docker: engine $version answers"
    exit 0
  fi
  sleep 1
done
echo "docker: the engine did not answer in $WAIT_S s; the last lines of its log:" >&2
tail -n 15 "$LOG" >&2 2>/dev/null || true
exit 1
