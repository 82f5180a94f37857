# What the units say of themselves, for a node that does not come up.
for unit in pith-proxy pith-agent; do
  echo "$unit: $(systemctl is-active "$unit" 2>&1)"
  journalctl -u "$unit" -n 8 -o cat --no-pager 2>/dev/null | sed 's/^/  | /'
done
