#!/usr/bin/env bash
# scripts/demo as a visitor runs it: it does what the README says, and leaves nothing behind, however it ends.

# shellcheck disable=SC2317 # functions are called through claim
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=tests/tap.sh
. tests/tap.sh
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Everything on the machine that the demo sets up.
traces() {
	cat /proc/swaps
	ls -d /sys/block/zram* /tmp/memd-demo.* 2>/dev/null || true
	find /sys/fs/cgroup -type d -name 'memd-demo-*' 2>/dev/null || true
	grep -sl memd-demo /proc/[0-9]*/cmdline || true
}

nothing_is_left() {
	traces >"$work/after"
	diff "$work/before" "$work/after"
}

demo_succeeds() {
	scripts/demo --quick --json >"$work/out" 2>"$work/err" || {
		cat "$work/err"
		return 1
	}
}

last_line_has_exactly_the_promised_keys() {
	tail -n 1 "$work/out" | grep -o '"[a-z_]*":' | tr -d '":' >"$work/keys"
	printf '%s\n' guests configured_bytes budget_bytes peak_used_bytes saved_sharing_bytes saved_zero_bytes \
		saved_balloon_bytes saved_paging_bytes pages_verified pages_corrupt | diff - "$work/keys"
}

figure() {
	tail -n 1 "$work/out" | grep -o "\"$1\":[0-9]*" | cut -d: -f2
}

figures_hold() {
	local key
	tail -n 1 "$work/out"
	[ "$(figure pages_corrupt)" = 0 ] && [ "$(figure pages_verified)" -gt 5000000 ] || return 1
	[ "$(figure peak_used_bytes)" -le $(($(figure budget_bytes) * 11 / 10)) ] || return 1
	[ "$(figure configured_bytes)" -ge $(($(figure budget_bytes) * 3)) ] || return 1
	for key in sharing zero balloon paging; do
		[ "$(figure saved_${key}_bytes)" -gt 0 ] || return 1
	done
}

# ends_clean SIGNAL STATUS: started, and ended by the signal in the middle of its work.
ends_clean() {
	local pid status=0 i
	# a background job of a script ignores SIGINT, which cannot be trapped then
	env --default-signal=INT scripts/demo --quick --json >"$work/out" 2>"$work/err" &
	pid=$!
	for ((i = 0; i < 600; i++)); do
		grep -q 'guests=[1-9]' "$work/err" && break
		sleep 0.1
	done
	kill -s "$1" $pid
	wait $pid || status=$?
	echo "exit status $status"
	cat "$work/err"
	[ $status = "$2" ]
}

wrong_option_is_refused() {
	local status=0
	scripts/demo --quik || status=$?
	[ $status = 2 ]
}

traces >"$work/before"
claim demo_succeeds demo_succeeds
claim last_line_has_exactly_the_promised_keys last_line_has_exactly_the_promised_keys
claim figures_hold figures_hold
claim nothing_is_left_after_success nothing_is_left
claim interrupted_it_exits_130 ends_clean INT 130
claim nothing_is_left_after_an_interrupt nothing_is_left
claim terminated_it_exits_143 ends_clean TERM 143
claim nothing_is_left_after_termination nothing_is_left
claim wrong_option_is_refused wrong_option_is_refused
claims_done
