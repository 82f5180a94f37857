# Which of the addresses HOST PORT HOST PORT ... take a connection from here: `up HOST PORT`, `down HOST PORT WHY`. Needs bash and timeout, as
# every Debian has them.
while [ $# -ge 2 ]; do
  if why=$(LC_ALL=C timeout 5 bash -c 'exec 3<>"/dev/tcp/$1/$2"' reach "$1" "$2" 2>&1 </dev/null); then
    echo "up $1 $2"
  else
    code=$?
    if [ "$code" = 124 ]; then why="no answer within 5 s"; else why=$(printf '%s\n' "$why" | head -n 1 | sed 's/.*: //'); fi
    echo "down $1 $2 $why"
  fi
  shift 2
done
