#!/usr/bin/env bash
# Runs a command with servers of its own, and leaves nothing behind:
#
#   with-servers.sh [--durable] [--no-nats] [--no-postgres | --postgres-optional]
#                   [--nats-port PORT | --nats-servers 1|3] [--data FOLDER] -- COMMAND…
#
#   --durable            nats-server syncs to disk before every acknowledgement
#   --no-nats            no nats-server
#   --no-postgres        no Postgres
#   --postgres-optional  no Postgres where none is to be had
#   --nats-port PORT     nats-server listens here, instead of on a free port
#   --nats-servers 3     a cluster of three nats-servers on free ports
#   --data FOLDER        data is kept here, instead of in a folder that goes at the end
#
# The command sees NATS_URL and PLED_NATS_MONITOR (of the first of a cluster, which names the others to
# its clients), PLED_NATS_PIDS and PLED_NATS_SERVER (the program), DATABASE_URL and PLED_POSTGRES_BIN;
# those of a server that was not started are unset. Without --data, all data is in
# a folder under TMPDIR that goes at the end. The exit status is the command's.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
nats=yes postgres=yes durable='' nats_port=-1 nats_servers=1 data=''
folder='' stored='' nats_pids=() cluster_ports=() postgres_pid='' command_pid=''
unset NATS_URL PLED_NATS_MONITOR PLED_NATS_PIDS DATABASE_URL PLED_POSTGRES_BIN

main() {
  while (($# > 0)); do
    case $1 in
      --durable) durable=yes ;;
      --no-nats) nats='' ;;
      --no-postgres) postgres='' ;;
      --postgres-optional) postgres=optional ;;
      --nats-port) shift && nats_port=${1:?} ;;
      --nats-servers) shift && nats_servers=${1:?} ;;
      --data) shift && data=${1:?} ;;
      --) shift && break ;;
      *) usage ;;
    esac
    shift
  done
  (($# > 0)) || usage
  [[ $nats_servers == [13] ]] || usage

  find_programs
  trap clean_up EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM HUP
  make_folder
  [[ -z $nats ]] || start_nats
  [[ -z $postgres ]] || start_postgres
  wait_for_nats
  wait_for_postgres
  run "$@"
}

usage() {
  sed -n 's/^# \{0,1\}//; 2,15p' "${BASH_SOURCE[0]}" >&2
  exit 2
}

# Before anything is started, so that a missing program costs nothing but its one sentence.
find_programs() {
  if [[ -n $nats ]]; then
    PLED_NATS_SERVER=$("$here/nats-server.sh")
    export PLED_NATS_SERVER
  fi
  case $postgres in
    yes) PLED_POSTGRES_BIN=$("$here/postgres.sh") ;;
    optional) PLED_POSTGRES_BIN=$("$here/postgres.sh") || postgres='' ;;
  esac
  [[ -z $postgres ]] || export PLED_POSTGRES_BIN
}

# Postgres refuses to run as root, and nats-server has no need to.
make_folder() {
  unprivileged=() owner=$(id -un)
  folder=$(mktemp -d "${TMPDIR:-/tmp}/pled.XXXXXX")
  if [[ -n $durable && $(stat -f -c %T "$folder") == tmpfs ]]; then
    echo "${TMPDIR:-/tmp} is in memory, where a sync costs nothing: set TMPDIR to a folder on a disk." >&2
  fi
  if [[ $(id -u) == 0 ]]; then
    owner=$(id -un postgres 2>/dev/null || echo nobody)
    unprivileged=(setpriv --reuid "$owner" --regid "$(id -g "$owner")" --clear-groups)
    command -v setpriv >/dev/null ||
      fail 'setpriv is missing: install util-linux, or run this as another user than root.'
    chown "$owner" "$folder"
    as_owner test -w "$folder" ||
      fail "$owner cannot enter ${TMPDIR:-/tmp}: set TMPDIR to a folder that all users may enter."
  fi
  stored=$folder
  if [[ -n $data ]]; then
    mkdir -p "$data"
    stored=$(cd "$data" && pwd)
    chown "$owner" "$stored"
    as_owner test -w "$stored" || fail "$owner cannot write to $stored: choose another folder."
  fi
}

as_owner() { "${unprivileged[@]}" "$@"; }

start_nats() {
  local program=$PLED_NATS_SERVER
  # A cache in root's home is closed to others.
  if ! as_owner test -x "$program"; then
    program=$folder/nats-server
    cp "$PLED_NATS_SERVER" "$program"
  fi
  ((nats_servers == 1)) || find_cluster_ports
  local number
  for ((number = 1; number <= nats_servers; number++)); do
    mkdir -p "$(nats_store "$number")" "$folder/ports-$number"
    nats_conf "$number" >"$folder/nats-$number.conf"
    chown -R "$owner" "$(nats_store "$number")"
  done
  chown -R "$owner" "$folder"
  for ((number = 1; number <= nats_servers; number++)); do
    start "$folder/nats-$number.log" "$program" -c "$folder/nats-$number.conf"
    nats_pids+=($!)
  done
  export PLED_NATS_PIDS=${nats_pids[*]}
}

# The servers of a cluster must know each other's ports before they run, so these are tried.
find_cluster_ports() {
  local port
  while ((${#cluster_ports[@]} < nats_servers)); do
    port=$((20000 + RANDOM % 10000))
    { exec 7<>"/dev/tcp/127.0.0.1/$port"; } 2>/dev/null && exec 7>&- && continue
    cluster_ports+=("$port")
  done
}

nats_store() {
  if ((nats_servers == 1)); then echo "$stored/nats"; else echo "$stored/nats-$1"; fi
}

nats_conf() {
  cat <<CONF
server_name: pled_local_$1
host: 127.0.0.1
port: $nats_port
http_port: -1
ports_file_dir: "$folder/ports-$1"
max_payload: 1MB
jetstream {
  store_dir: "$(nats_store "$1")"
  max_memory_store: 256MB
  max_file_store: 64GB
  ${durable:+sync_interval: always}
}
CONF
  ((nats_servers > 1)) || return 0
  cat <<CONF
cluster {
  name: pled_local
  listen: "127.0.0.1:${cluster_ports[$1 - 1]}"
  routes: [$(printf '"nats://127.0.0.1:%s", ' "${cluster_ports[@]}")]
}
CONF
}

start_postgres() {
  mkdir -p "$stored/postgres" "$folder/socket"
  chown "$owner" "$stored/postgres" "$folder/socket"
  [[ -e $stored/postgres/PG_VERSION ]] ||
    (cd "$folder" && as_owner "$PLED_POSTGRES_BIN/initdb" --pgdata "$stored/postgres" --username pled \
      --auth trust --encoding UTF8 --locale C --no-sync --no-instructions) >"$folder/initdb.log" 2>&1 ||
    fail "initdb failed." "$folder/initdb.log"
  start_postgres_on_a_free_port
}

# Postgres takes no port 0, so one is tried; wait_for_postgres comes back here if it was taken.
start_postgres_on_a_free_port() {
  postgres_port=$((20000 + RANDOM % 10000))
  start "$folder/postgres.log" "$PLED_POSTGRES_BIN/postgres" -D "$stored/postgres" \
    -c listen_addresses=127.0.0.1 -p "$postgres_port" -k "$folder/socket" \
    -c max_connections=200 -c shared_buffers=128MB
  postgres_pid=$!
}

# In a session of its own, so that Ctrl-C stops the command first and the servers after it. Dies
# with this script, also where that is killed outright.
start() {
  local log=$1 died=()
  shift
  command -v setpriv >/dev/null && died=(setpriv --pdeathsig KILL)
  (cd "$folder" && exec setsid "${unprivileged[@]}" "${died[@]}" "$@") >"$log" 2>&1 </dev/null &
}

wait_for_nats() {
  [[ -n $nats ]] || return 0
  local number ports url monitor
  for ((number = 1; number <= nats_servers; number++)); do
    ports=''
    until [[ -n $ports ]]; do
      nats_still_up "$number"
      ports=$(cat "$folder/ports-$number"/*.ports 2>/dev/null) || true
      sleep 0.02
    done
    url=$(sed -n 's/.*"nats": *\[ *"\([^"]*\)".*/\1/p' <<<"${ports//$'\n'/}")
    monitor=$(sed -n 's/.*"monitoring": *\[ *"\([^"]*\)".*/\1/p' <<<"${ports//$'\n'/}")
    NATS_URL=${NATS_URL:-$url}
    PLED_NATS_MONITOR=${PLED_NATS_MONITOR:-$monitor}
    until is_healthy "${monitor#http://}"; do
      nats_still_up "$number"
      sleep 0.02
    done
  done
  # The servers of a cluster have a leader only once most of them are up.
  ((nats_servers == 1)) || until [[ $(get "${PLED_NATS_MONITOR#http://}" /jsz) == *'"leader":'* ]]; do
    nats_still_up 1
    sleep 0.1
  done
  export NATS_URL PLED_NATS_MONITOR
}

nats_still_up() {
  still_up "${nats_pids[$1 - 1]}" nats-server "$folder/nats-$1.log"
}

is_healthy() { [[ $(get "$1" '/healthz?js-enabled-only=true') == HTTP/*" 200 "* ]]; }

# An HTTP answer with its head, or nothing.
get() {
  { exec 7<>"/dev/tcp/${1%:*}/${1#*:}"; } 2>/dev/null || return 0
  printf 'GET %s HTTP/1.0\r\n\r\n' "$2" >&7
  tr -d '\0' <&7
  exec 7>&-
}

wait_for_postgres() {
  [[ -n $postgres ]] || return 0
  local psql=("$PLED_POSTGRES_BIN/psql" -qXAt -h "$folder/socket" -U pled -v ON_ERROR_STOP=1)
  until "${psql[@]}" -p "$postgres_port" -d pled -c 'select 1' >/dev/null 2>&1 ||
    "${psql[@]}" -p "$postgres_port" -d postgres -c 'create database pled' >/dev/null 2>&1; do
    if ! kill -0 "$postgres_pid" 2>/dev/null && grep -q 'could not bind' "$folder/postgres.log"; then
      start_postgres_on_a_free_port
    fi
    still_up "$postgres_pid" Postgres "$folder/postgres.log"
    sleep 0.02
  done
  export DATABASE_URL=postgres://pled@127.0.0.1:$postgres_port/pled
}

still_up() {
  kill -0 "$1" 2>/dev/null || fail "$2 did not start." "$3"
  ((SECONDS < 60)) || fail "$2 was not ready within 60 seconds." "$3"
}

fail() {
  [[ -z ${2:-} ]] || tail -n 20 "$2" | sed 's/^/  /' >&2
  echo "$1" >&2
  exit 1
}

# In the background, since bash acts on a signal only while it waits. Ctrl-C reaches the command by
# itself; other signals to this script alone are passed on.
run() {
  local status=0
  trap ':' INT
  trap 'kill -TERM "$command_pid" 2>/dev/null || true' TERM HUP
  (trap - INT QUIT TERM HUP EXIT && exec "$@") <&0 &
  command_pid=$!
  while :; do
    status=0
    wait "$command_pid" || status=$?
    kill -0 "$command_pid" 2>/dev/null || break
  done
  exit "$status"
}

# The data goes too, so nothing is gained by letting the servers finish.
# shellcheck disable=SC2329 # called by the trap
clean_up() {
  trap '' INT TERM HUP
  ((${#nats_pids[@]} == 0)) || kill -KILL "${nats_pids[@]}" 2>/dev/null || true
  [[ -z $postgres_pid ]] || kill -QUIT "$postgres_pid" 2>/dev/null || true
  wait 2>/dev/null || true
  [[ -z $folder ]] || rm -rf "$folder"
}

main "$@"
