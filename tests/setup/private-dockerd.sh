#!/usr/bin/env bash
# A dockerd of a test's own, to be killed, frozen or filled up. Never the machine's engine.
#
#   tests/setup/private-dockerd.sh start DIR [--live-restore] [--tmpfs-mb N]   starts it, prints its socket
#   tests/setup/private-dockerd.sh stop DIR      SIGTERM; containers end too, unless it was started with --live-restore
#   tests/setup/private-dockerd.sh kill DIR      SIGKILL; `start` (with the same flags) brings it back
#   tests/setup/private-dockerd.sh remove DIR    ends containers, networks, daemon and its mounts; DIR's data is deleted
#   tests/setup/private-dockerd.sh socket DIR    prints unix://DIR/docker.sock, for DOCKER_HOST and the agent
#   tests/setup/private-dockerd.sh pid DIR       prints dockerd's pid (kill -STOP and -CONT freeze and wake it)
#
#   tests/setup/private-dockerd.sh run DIR COMMAND …   runs COMMAND in the daemon's network (exec: the pid stays the same)
#
# The way in: the daemon has a network namespace of its own, never the machine's (a second dockerd there takes the first
# one's docker0 and rules away). Its bridges and container addresses are therefore reached from inside only: start agent,
# proxy, broker, coordinator and load through `run`; their unix sockets and files are reached from everywhere as usual.
# Loopback is up in it, with all of 127.0.0.0/8. There is no way out to another network.
# Its mounts are its own too: a holder process keeps both namespaces and every start enters them again, so that containers
# that outlived a killed daemon keep their files and network, and nothing is left after `remove`. /run/containerd is hidden
# in it, so that dockerd starts its own containerd also where a system one runs.
# --tmpfs-mb puts the data root on a tmpfs of that size: a disk that can be filled.
# The images of the other engine are copied with: docker save IMAGE | docker -H "$(private-dockerd.sh socket DIR)" load
set -euo pipefail

WAIT_TENTHS=600
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"

usage() {
  echo "usage: private-dockerd.sh start DIR [--live-restore] [--tmpfs-mb N] | stop|kill|remove|socket|pid DIR | run DIR COMMAND …" >&2
  exit 2
}

# True while the process lives; a zombie (nobody reaps it) is dead.
is_alive() {
  [ -n "$1" ] && [ -r "/proc/$1/stat" ] && [ "$(sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -c 1)" != Z ]
}

# The recorded pid, if it still is the program that was recorded.
recorded() {
  local pid
  pid=$(cat "$1" 2>/dev/null) || return 0
  if is_alive "$pid" && tr '\0' ' ' <"/proc/$pid/cmdline" | grep -qF "$2"; then echo "$pid"; fi
}

wait_gone() {
  for _ in $(seq "$WAIT_TENTHS"); do
    is_alive "$1" || return 0
    sleep 0.1
  done
  return 1
}

[ $# -ge 2 ] || usage
verb=$1
mkdir -p "$2"
dir=$(cd "$2" && pwd)
shift 2
socket=$dir/docker.sock
holder() { recorded "$dir/holder.pid" "pith-private-dockerd $dir"; }
daemon() { recorded "$dir/docker.pid" "$dir/docker.sock"; }
containerd() { recorded "$dir/exec/containerd/containerd.pid" "$dir/exec"; }
# nsenter into the holder's network (and more, by flags); refuses the machine's own network whatever went wrong before.
in_holder() {
  local pid
  pid=$(holder)
  if [ -z "$pid" ] || [ "$(readlink "/proc/$pid/ns/net")" = "$(readlink /proc/1/ns/net)" ]; then
    echo "private-dockerd: no network of its own for $dir; start it first" >&2
    exit 1
  fi
  exec nsenter --target "$pid" --net "$@"
}
docker_here() { docker -H "unix://$socket" "$@"; }

start() {
  local live_restore=false tmpfs_mb='' pid
  while [ $# -gt 0 ]; do
    case "$1" in
      --live-restore) live_restore=true ;;
      --tmpfs-mb) tmpfs_mb=$2 && shift ;;
      *) usage ;;
    esac
    shift
  done
  if [ "$(id -u)" != 0 ]; then
    echo "private-dockerd: needs root (namespaces and bridges)" >&2
    exit 1
  fi
  if [ -n "$(daemon)" ]; then
    echo "unix://$socket"
    return
  fi
  mkdir -p "$dir/data" "$dir/exec"
  if [ -z "$(holder)" ]; then start_holder "$tmpfs_mb"; fi
  # Its own file: the machine's /etc/docker/daemon.json is not for this one.
  echo '{}' >"$dir/daemon.json"
  # A killed daemon leaves pid files, which a daemon that finds the number in use again believes.
  rm -f "$dir/docker.pid" "$socket"
  if [ -z "$(containerd)" ]; then rm -f "$dir/exec/containerd/containerd.pid"; fi
  in_holder --mount setsid nohup dockerd --config-file "$dir/daemon.json" --host "unix://$socket" \
    --data-root "$dir/data" --exec-root "$dir/exec" --pidfile "$dir/docker.pid" \
    --userland-proxy=false --live-restore="$live_restore" \
    >>"$dir/dockerd.log" 2>&1 </dev/null &
  pid=$!
  for _ in $(seq "$WAIT_TENTHS"); do
    if docker_here version >/dev/null 2>&1; then
      echo "unix://$socket"
      return
    fi
    is_alive "$pid" || break
    sleep 0.1
  done
  echo "private-dockerd: did not start; its last lines:" >&2
  tail -n 10 "$dir/dockerd.log" >&2
  exit 1
}

start_holder() {
  local tmpfs_mb=$1
  rm -f "$dir/holder.ready"
  # The name given by `exec -a` is what `ps` and `holder` show. Slave: what the machine mounts later is seen, not the other way.
  setsid nohup unshare --mount --net --propagation slave bash -c '
    set -e
    dir=$1 tmpfs_mb=$2
    ip link set lo up
    if [ -d /run/containerd ]; then mount -t tmpfs -o size=1m tmpfs /run/containerd; fi
    if [ -n "$tmpfs_mb" ]; then mount -t tmpfs -o "size=${tmpfs_mb}m" tmpfs "$dir/data"; fi
    touch "$dir/holder.ready"
    exec -a "pith-private-dockerd $dir" sleep infinity
  ' holder "$dir" "$tmpfs_mb" >"$dir/holder.log" 2>&1 </dev/null &
  echo $! >"$dir/holder.pid"
  for _ in $(seq 100); do
    if [ -e "$dir/holder.ready" ] && [ -n "$(holder)" ]; then return 0; fi
    sleep 0.05
  done
  echo "private-dockerd: no namespaces (is unshare allowed here?)" >&2
  cat "$dir/holder.log" >&2
  exit 1
}

end_daemon() {
  local pid
  pid=$(daemon)
  [ -n "$pid" ] || return 0
  kill "-$1" "$pid"
  wait_gone "$pid" || { echo "private-dockerd: pid $pid does not end" >&2; exit 1; }
  rm -f "$dir/docker.pid"
}

remove() {
  local pid ids
  if [ -z "$(daemon)" ] && [ -n "$(holder)" ]; then start >/dev/null; fi
  if [ -n "$(daemon)" ]; then
    ids=$(docker_here ps -aq)
    # shellcheck disable=SC2086
    [ -z "$ids" ] || docker_here rm -f $ids >/dev/null
    docker_here network prune -f >/dev/null
    end_daemon TERM
  fi
  pid=$(containerd)
  if [ -n "$pid" ]; then kill "$pid" && wait_gone "$pid"; fi
  pid=$(holder)
  if [ -n "$pid" ]; then
    # The namespaces, with their mounts and bridges, go with the last process in them.
    kill -9 "$pid"
    wait_gone "$pid"
  fi
  rm -rf "$dir/data" "$dir/exec" "$dir/docker.sock" "$dir/docker.pid" "$dir"/holder.{pid,ready,log}
}

case "$verb" in
  start) start "$@" ;;
  stop) end_daemon TERM ;;
  kill) end_daemon KILL ;;
  remove) remove ;;
  socket) echo "unix://$socket" ;;
  pid) daemon ;;
  run)
    [ $# -gt 0 ] || usage
    in_holder -- "$@"
    ;;
  *) usage ;;
esac
