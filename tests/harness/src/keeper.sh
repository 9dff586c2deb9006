#!/bin/sh
# Keeps one server for a test: keeper.sh FOLDER COMMAND...
#
# Reads one order a line from standard input and answers each with a line once it is done:
#   start   starts the server
#   check   answers "up" or "down"
#   freeze  answers when all of it stands still
#   thaw    lets it go on
#   kill    answers when it is gone
# When the input ends, because the test is over, has panicked or was killed itself, the server and
# its folder go.
trap '' INT TERM HUP
folder=$1 server=''
shift

# A dead child keeps its id until the shell has looked at its jobs.
is_up() {
  jobs >/dev/null
  [ -n "$server" ] && kill -0 "$server" 2>/dev/null
}

# The signal is sent to the process and reaches its threads a little later, one by one.
freeze() {
  kill -STOP "$server"
  while is_up && grep -hs '^State:' /proc/"$server"/task/*/status | grep -qv 'T (stopped)'; do :; done
}

end() {
  [ -n "$server" ] || return
  kill -KILL "$server" 2>/dev/null
  wait "$server" 2>/dev/null
  server=''
}

while read -r order; do
  answer=$order
  case $order in
    start)
      "$@" >>"$folder/log" 2>&1 &
      server=$!
      ;;
    check) if is_up; then answer=up; else answer=down; fi ;;
    freeze) freeze ;;
    thaw) kill -CONT "$server" ;;
    kill) end ;;
  esac
  echo "$answer"
done
end
rm -rf "$folder"
