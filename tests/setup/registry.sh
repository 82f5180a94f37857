#!/usr/bin/env bash
# A real registry for tests: Debian's docker-registry on 127.0.0.1, with its own config, data and pid file in DIR.
# A registry that the package started as a service is another process with other files and is left alone.
#
#   tests/setup/registry.sh start DIR PORT [USER:PASSWORD]   prints the address; PORT 0 lets the kernel choose
#   tests/setup/registry.sh stop DIR                         ends the process that `start` recorded
#
# Docker accepts plain HTTP on 127.0.0.0/8. The data stays in DIR: `start` on the same DIR finds the images again.
set -euo pipefail

WAIT_TENTHS=100

usage() {
  echo "usage: registry.sh start DIR PORT [USER:PASSWORD] | stop DIR" >&2
  exit 2
}

# True while the process lives; a zombie (nobody reaps it) is dead.
is_alive() {
  [ -r "/proc/$1/stat" ] && [ "$(sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -c 1)" != Z ]
}

is_ours() {
  is_alive "$1" && tr '\0' ' ' <"/proc/$1/cmdline" | grep -qF "$2/config.yml"
}

[ $# -ge 2 ] || usage
verb=$1
mkdir -p "$2"
dir=$(cd "$2" && pwd)
pid_file=$dir/registry.pid
log=$dir/registry.log

address() {
  sed -n 's/.*msg="listening on \([0-9.:]*\)[",].*/\1/p' "$log" 2>/dev/null | tail -n 1
}

start() {
  local port=$1 account=${2:-}
  command -v docker-registry >/dev/null 2>&1 || {
    echo "registry: no docker-registry here. Debian: apt-get install docker-registry" >&2
    exit 1
  }
  if [ -f "$pid_file" ] && is_ours "$(cat "$pid_file")" "$dir"; then
    address
    return
  fi
  cat >"$dir/config.yml" <<CONFIG
version: 0.1
log: { level: info, accesslog: { disabled: true } }
storage:
  filesystem: { rootdirectory: $dir/data }
  delete: { enabled: true }
http: { addr: "127.0.0.1:$port" }
CONFIG
  if [ -n "$account" ]; then
    htpasswd -Bbn "${account%%:*}" "${account#*:}" >"$dir/htpasswd"
    echo "auth: { htpasswd: { realm: pith, path: $dir/htpasswd } }" >>"$dir/config.yml"
  fi
  setsid nohup docker-registry serve "$dir/config.yml" >"$log" 2>&1 </dev/null &
  local pid=$!
  echo "$pid" >"$pid_file"
  for _ in $(seq "$WAIT_TENTHS"); do
    if [ -n "$(address)" ]; then
      address
      return
    fi
    is_alive "$pid" || break
    sleep 0.1
  done
  echo "registry: did not start; its last lines:" >&2
  tail -n 5 "$log" >&2
  exit 1
}

stop() {
  local pid
  [ -f "$pid_file" ] || return 0
  pid=$(cat "$pid_file")
  rm -f "$pid_file"
  is_ours "$pid" "$dir" || return 0
  kill "$pid"
  for _ in $(seq "$WAIT_TENTHS"); do
    is_alive "$pid" || return 0
    sleep 0.1
  done
  kill -9 "$pid"
}

case "$verb" in
  start)
    [ $# -ge 3 ] || usage
    start "$3" "${4:-}"
    ;;
  stop) stop ;;
  *) usage ;;
esac
