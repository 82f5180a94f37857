# Standard input becomes /etc/pith/policy.toml, whole or not at all.
set -eu
umask 022
mkdir -p /etc/pith
cat >/etc/pith/policy.toml.new
chown 0:0 /etc/pith/policy.toml.new
mv /etc/pith/policy.toml.new /etc/pith/policy.toml
