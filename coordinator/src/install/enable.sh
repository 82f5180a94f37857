# Starts the units, now and at each boot.
set -eu
systemctl daemon-reload
systemctl enable --now pith-proxy.service pith-agent.service
