# What this machine is, one `key value` per line; what is not there is not said. Changes nothing. Read by facts.rs.
LC_ALL=C PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
export LC_ALL PATH
say() { if [ -n "$2" ]; then printf '%s %s\n' "$1" "$2"; fi; }
has() { command -v "$1" >/dev/null 2>&1; }
file() { if [ -r "$2" ]; then say "$1" "$(base64 <"$2" | tr -d '\n')"; fi; }
free_kib() { df -Pk "$1" 2>/dev/null | awk 'NR == 2 { print $4 }'; }

say looked 1
say uid "$(id -u)"
say user "${SUDO_USER:-$(id -un)}"
if [ "$(id -u)" != 0 ]; then
  if ! has sudo; then say sudo none
  elif sudo -n true </dev/null >/dev/null 2>&1; then say sudo free
  else say sudo password; fi
fi
say host "$(uname -n)"
say machine "$(uname -m)"
if [ -r /etc/os-release ]; then
  say os "$(. /etc/os-release; printf '%s' "$ID")"
  say os_like "$(. /etc/os-release; printf '%s' "$ID_LIKE")"
  say os_name "$(. /etc/os-release; printf '%s' "$PRETTY_NAME")"
fi
if has dpkg; then say dpkg "$(dpkg --print-architecture)"; fi
if has apt-get; then say apt yes; fi
if [ -d /run/systemd/system ]; then say systemd "$(systemctl --version | awk 'NR == 1 { print $2 }')"; fi
say clock "$(date +%s)"
say cores "$(grep -c '^processor' /proc/cpuinfo)"
say memory_kib "$(awk '/^MemTotal:/ { print $2 }' /proc/meminfo)"
say free_usr_kib "$(free_kib /usr)"
say free_var_kib "$(free_kib /var)"
if [ -f /sys/fs/cgroup/cgroup.controllers ]; then
  if grep -qw memory /sys/fs/cgroup/cgroup.controllers; then say memory_limits yes; else say memory_limits no; fi
elif awk '$1 == "memory" && $4 == 1 { found = 1 } END { exit !found }' /proc/cgroups 2>/dev/null; then say memory_limits yes
else say memory_limits no; fi
# Ports that somebody listens on; 0A is LISTEN.
say listening "$(cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | awk '$4 == "0A" { n = split($2, at, ":"); print at[n] }' | sort -u | tr '\n' ' ')"

if has docker; then
  say docker_client "$(docker --version </dev/null | sed -n 's/^Docker version \([^,]*\).*/\1/p')"
  say docker "$(timeout 20 docker version --format '{{.Server.Version}}' </dev/null 2>/dev/null)"
  say containers "$(timeout 20 docker ps -q </dev/null 2>/dev/null | wc -l | tr -d ' ')"
fi
if getent group docker >/dev/null 2>&1; then say docker_group yes; fi
file daemon_json /etc/docker/daemon.json

if has dpkg-query; then
  say agent "$(dpkg-query -W -f='${db:Status-Status} ${Version}' pith-agent 2>/dev/null)"
  for package in docker.io docker-ce moby-engine; do
    if [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" = installed ]; then say docker_package "$package"; fi
  done
  say policy_shipped_md5 "$(dpkg-query -W -f='${Conffiles}\n' pith-agent 2>/dev/null | awk '$1 == "/etc/pith/policy.toml" { print $2 }')"
fi
if [ -x /usr/bin/pith-agent ]; then say agent_binary "$(/usr/bin/pith-agent --version </dev/null | awk '{ print $2 }')"; fi
file policy /etc/pith/policy.toml
if [ -r /etc/pith/policy.toml ]; then say policy_md5 "$(md5sum </etc/pith/policy.toml | cut -d ' ' -f 1)"; fi
file certificate /var/lib/pith/tls/node.crt
if [ -d /run/systemd/system ]; then
  for unit in pith-proxy pith-agent; do
    say "unit_$unit" "$(systemctl is-active "$unit" 2>/dev/null) $(systemctl is-enabled "$unit" 2>/dev/null)"
  done
fi
say end 1
