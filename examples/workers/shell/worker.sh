#!/usr/bin/env bash
# A worker of the action demo.charge: one task at a time, with the nats CLI and jq. NATS_URL names
# the server. For scripts and tries; each word costs a process.
set -uo pipefail

next='$JS.API.CONSUMER.MSG.NEXT.PLED_TASKS.worker-demo-charge'
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

charge() {
  sleep "$(jq '(.input.wait_ms // 0) / 1000' "$1")"
  jq -c 'if .input.amount > 0
    # The key is the same over attempts and deliveries: a provider takes the charge once.
    then {ok: true, data: {charged: .input.amount, reference: .task, note: .input.note}}
    else {ok: false, error: {code: "bad_amount", message: "nothing to charge", retryable: false}}
    end' "$1"
}

keep_alive() {
  while sleep "$2"; do nats pub "$1" +WPI --quiet 2>/dev/null; done
}

publish() {
  nats req "$1" --raw --force-stdin --no-templates -H 'Nats-Expected-Last-Subject-Sequence:0' \
    <"$2" 2>/dev/null | jq -e '.error == null or .error.err_code == 10071' >/dev/null
}

while true; do
  inbox=_INBOX.shell.$$.$RANDOM$RANDOM
  nats sub "$inbox" --count=1 --wait=12s >"$folder/message" 2>/dev/null &
  sleep 0.2
  nats pub "$next" '{"batch":1,"expires":10000000000}' --reply "$inbox" --no-templates --quiet 2>/dev/null
  wait $!
  ack=$(sed -n 's/.*with reply "\($JS\.ACK\.[^"]*\)".*/\1/p' "$folder/message")
  [[ -n $ack ]] || continue
  grep '^{' "$folder/message" | tail -n 1 >"$folder/task"
  subject=$(jq -er .result_subject "$folder/task" 2>/dev/null) || {
    nats pub "$ack" +TERM --quiet 2>/dev/null
    continue
  }
  keep_alive "$ack" "$(jq '([.timeout.heartbeat_ms // 30000, 30000] | min) / 3000' "$folder/task")" &
  alive=$!
  charge "$folder/task" >"$folder/result"
  if (($(stat -c %s "$folder/result") > 250000)); then
    echo '{"ok":false,"error":{"code":"result_too_large","message":"","retryable":false}}' >"$folder/result"
  fi
  # Result first, acknowledgement after; without it the task is handed out again.
  publish "$subject" "$folder/result" && nats req "$ack" +ACK --raw >/dev/null 2>&1
  kill "$alive" 2>/dev/null
  wait "$alive" 2>/dev/null
done
