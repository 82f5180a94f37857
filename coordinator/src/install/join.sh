# Makes the board a node called $1; the token is a line of standard input. What was begun before is gone on with.
exec /usr/bin/pith-agent join - --name "$1"
