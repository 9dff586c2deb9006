#!/usr/bin/env bash
# Runs all tests: test.sh [ARGUMENTS…], which go to cargo nextest, or to cargo test where that is
# not installed.
#
# One Postgres serves the whole run; each test that needs NATS starts a server of its own. Servers
# that cannot be had fail the run before anything is built.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here/../.."

main() {
  PLED_NATS_SERVER=$("$here/nats-server.sh")
  export PLED_NATS_SERVER
  "$here/postgres.sh" >/dev/null
  examples_left_out
  # Built first, so that no server waits for a compiler.
  cargo test --locked --workspace --no-run
  exec "$here/with-servers.sh" --no-nats -- "${BASH_SOURCE[0]}" --with-postgres "$@"
}

# A test cannot say aloud that it looked at nothing. Where CI is set it fails.
examples_left_out() {
  local tool
  for tool in python3 node npm go nats jq; do
    [[ -n $(PATH=$PATH:$HOME/go/bin type -P "$tool") ]] ||
      echo "examples of workers that need $tool: SKIPPED, it is not installed"
  done
}

run_tests() {
  if cargo nextest --version >/dev/null 2>&1; then
    cargo nextest run --locked --workspace "$@"
    cargo test --locked --workspace --doc --quiet
  else
    cargo test --locked --workspace "$@"
  fi
}

if [[ ${1:-} == --with-postgres ]]; then
  shift
  run_tests "$@"
else
  main "$@"
fi
