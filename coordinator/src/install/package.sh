# Installs the package on standard input: VERSION ARCHITECTURE, and `yes` where what it depends on may be fetched.
# Exit 3: it is another package. Configuration that somebody changed is kept.
set -u
umask 077
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin LC_ALL=C DEBIAN_FRONTEND=noninteractive
export PATH LC_ALL DEBIAN_FRONTEND
dir=$(mktemp -d /var/tmp/pith-install.XXXXXX) || exit 1
trap 'rm -rf "$dir"' EXIT
file=$dir/pith-agent_$1_$2.deb
cat >"$file" || exit 1

for pair in "Package=pith-agent" "Version=$1" "Architecture=$2"; do
  is=$(dpkg-deb -f "$file" "${pair%%=*}" 2>&1) || { echo "this is no Debian package: $is" >&2; exit 3; }
  if [ "$is" != "${pair#*=}" ]; then echo "the package says ${pair%%=*} $is, and ${pair#*=} is needed" >&2; exit 3; fi
done

by_apt() {
  apt-get install -y --no-install-recommends -o DPkg::Lock::Timeout=120 -o Dpkg::Options::=--force-confdef \
    -o Dpkg::Options::=--force-confold "$file" >"$dir/apt" 2>&1 </dev/null
}
by_dpkg() { dpkg --force-confdef --force-confold -i "$file" >"$dir/dpkg" 2>&1 </dev/null; }
show() { tail -n 15 "$1" >&2; exit 1; }

if ! command -v apt-get >/dev/null 2>&1; then by_dpkg || show "$dir/dpkg"; exit 0; fi
if by_apt; then exit 0; fi
if [ "$3" = yes ]; then
  # Lists that are absent or old.
  apt-get update >"$dir/update" 2>&1 </dev/null
  by_apt || show "$dir/apt"
else
  # Without a network, what it depends on is there already.
  by_dpkg || { cat "$dir/apt" >>"$dir/dpkg"; show "$dir/dpkg"; }
fi
