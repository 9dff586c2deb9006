#!/usr/bin/env bash
# Prints the folder that holds initdb, postgres and psql of a Postgres that PLED's ledger runs on.
#
# In order: the one in PATH; the newest under /usr/lib/postgresql; the distribution's package, where
# the caller is root and apt is there. Everything but the path goes to stderr.
set -euo pipefail

oldest=15

main() {
  find_postgres && return
  if can_install; then
    echo "Installing Postgres by apt-get, once." >&2
    install_postgres && find_postgres && return
  fi
  echo "Postgres $oldest or newer is missing: install it (on Debian and Ubuntu: apt-get install" \
    "postgresql), or put initdb, postgres and psql into PATH." >&2
  exit 1
}

find_postgres() {
  local folder newest='' newest_major=0 major
  if folder=$(command -v postgres); then
    folder=$(dirname "$(readlink -f "$folder")")
    if (($(major_of "$folder") >= oldest)); then
      echo "$folder"
      return
    fi
  fi
  for folder in /usr/lib/postgresql/*/bin /usr/pgsql-*/bin; do
    major=$(major_of "$folder")
    if ((major >= oldest && major > newest_major)); then
      newest=$folder newest_major=$major
    fi
  done
  [[ -n $newest ]] && echo "$newest"
}

# 0 where one of the programs is missing.
major_of() {
  local said
  if [[ -x $1/initdb && -x $1/psql ]] && said=$("$1/postgres" --version 2>/dev/null); then
    said=${said#*PostgreSQL) }
    echo "${said%%[!0-9]*}"
  else
    echo 0
  fi
}

can_install() { command -v apt-get >/dev/null && [[ $(id -u) == 0 ]]; }

install_postgres() {
  export DEBIAN_FRONTEND=noninteractive
  apt update || true
  apt install -y postgresql-common || return
  # Only the programs are wanted: without this Debian also creates and starts a system cluster.
  local conf=/etc/postgresql-common/createcluster.conf status=0
  cp -p "$conf" "$conf.before-pled"
  echo 'create_main_cluster = false' >>"$conf"
  apt install -y --no-install-recommends postgresql || status=$?
  mv -f "$conf.before-pled" "$conf"
  return "$status"
}

# Silent while all is well; also where another apt-get runs at the same time.
apt() {
  local said
  said=$(apt-get -o DPkg::Lock::Timeout=300 -qq "$@" 2>&1) || {
    echo "$said" >&2
    return 1
  }
}

main
