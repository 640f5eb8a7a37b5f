#!/usr/bin/env bash
# kill -9 at random moments, of memd and of memd-pool in turn, while guests write, share, and give and take memory:
# no guest is lost, no page corrupt, nothing leaks. Some members are stopped (SIGSTOP) meanwhile.
#
#   MEMD_RESTART_SECONDS=40  ends after so long at the latest; 0: only when the kills are done
#   MEMD_RESTART_KILLS=100   ends after so many of each
#   MEMD_RESTART_SEED        of the random moments (printed)

# shellcheck disable=SC2317 # functions are called through claim
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=tests/tap.sh
. tests/tap.sh
# shellcheck source=tests/memd.sh
. tests/memd.sh
seconds=${MEMD_RESTART_SECONDS:-40}
kills=${MEMD_RESTART_KILLS:-100}
seed=${MEMD_RESTART_SEED:-$RANDOM}
RANDOM=$seed
guests=(a b c d)

# As a service manager does: one that could not start (the bus has not yet noticed that its predecessor is gone) is
# started again.
memd_keep() {
	kill -0 "$(cat "$work/memd.pid")" 2>/dev/null || memd_start
}

memd_answers() {
	memd_keep
	memctl status
}

kill_and_wait() {
	kill -9 "$1" 2>/dev/null || return 0
	timeout 20 tail --pid="$1" -f /dev/null
}

comes_up() {
	printf '[Host]\nHostMemoryBudget=512M\nTickInterval=200ms\nCgroupName=%s\n[Share]\nShareScanTargetTime=1s\n' \
		"$cgroup" >"$work/memd.conf"
	bus_comes_up && memd_start && until_true 30 memd_answers
}

guests_run() {
	local name
	for name in "${guests[@]}"; do
		memctl start "$name" Memory=64M VCpus=1 ShareGroup=test Kernel="$build/tests/guest/memd-guest" \
			CommandLine="seed=$RANDOM common_mib=16 unique_mib=8 zero_mib=8 rewrite_per_s=200" || return 1
	done
	pids_of guest >"$work/guests.before"
	[ "$(wc -l <"$work/guests.before")" = ${#guests[@]} ]
}

shares_at_least() {
	[ "$(host SavedSharingBytes)" -ge "$1" ]
}

sharing_begins() {
	until_true 90 shares_at_least $((32 << 20)) || return 1
	host OverheadBytes >"$work/overhead.before"
}

# A moment within MS milliseconds.
random_sleep() {
	sleep "0.$(printf %03d $((RANDOM % $1)))"
}

# One that is killed before it has said READY, is adopting, or works: whatever it is at just then.
kill_memd() {
	kill_and_wait "$(cat "$work/memd.pid")"
	memd_start
}

# The pool of the group that all guests are in; with a member that cannot announce what it maps for a while.
kill_pool() {
	local pid stopped=
	pid=$(pids_of pool | head -n 1)
	[ -n "$pid" ] || return 1
	if [ $((RANDOM % 4)) = 0 ]; then
		stopped=$(sed -n "$((RANDOM % ${#guests[@]} + 1))p" "$work/guests.before")
		kill -STOP "$stopped"
	fi
	kill_and_wait "$pid"
	if [ -n "$stopped" ]; then
		random_sleep 900
		kill -CONT "$stopped"
	fi
}

# Pages are dropped and come back: references are given back and granted all the time.
change_a_target() {
	local name=${guests[RANDOM % ${#guests[@]}]}
	memctl set-target "$name" "$((RANDOM % 2 ? 24 : 64))M" >/dev/null 2>&1 || true
}

survives_kills() {
	local end=$((SECONDS + seconds)) memd=0 pool=0
	while [ $memd -lt "$kills" ] || [ $pool -lt "$kills" ]; do
		[ "$seconds" = 0 ] || [ $SECONDS -lt $end ] || break
		random_sleep 500
		memd_keep
		if [ $((RANDOM % 2)) = 0 ] && [ $memd -lt "$kills" ]; then
			kill_memd
			memd=$((memd + 1))
		elif [ $pool -lt "$kills" ] && kill_pool; then
			pool=$((pool + 1))
		fi
		if [ $((RANDOM % 3)) = 0 ]; then change_a_target; fi
		diff "$work/guests.before" <(pids_of guest) || return 1
	done
	echo "$memd $pool" >"$work/kills"
	[ $memd -ge 5 ] && [ $pool -ge 5 ]
}

no_guest_is_lost() {
	local name
	until_true 60 memd_answers || return 1
	until_true 60 guests_are_running || return 1
	diff "$work/guests.before" <(pids_of guest)
	for name in "${guests[@]}"; do memctl set-target "$name" auto || return 1; done
}

guests_are_running() {
	[ "$(memctl --json list | grep -o '"state":"running"' | wc -l)" = ${#guests[@]} ]
}

# What a page's check says, from the last report of each guest's console.
no_page_is_corrupt() {
	local name line
	for name in "${guests[@]}"; do
		grep -a 'corrupt' "$work/run/guest/$name.console" | tail -n 1 >"$work/line"
		line=$(cat "$work/line")
		echo "$name: $line"
		grep -q ' corrupt=0\b' "$work/line" || return 1
		if grep -aq 'memd-guest: corrupt' "$work/run/guest/$name.console"; then return 1; fi
	done
}

verified() {
	grep -a ' verified=' "$work/run/guest/$1.console" | tail -n 1 | sed 's/.* verified=\([0-9]*\).*/\1/'
}

verified_more_than() {
	[ "$(verified "$1")" -gt "$2" ]
}

guests_go_on_verifying() {
	local name
	for name in "${guests[@]}"; do until_true 60 verified_more_than "$name" "$(verified "$name")" || return 1; done
}

# Files of pools, by inode, that a process maps.
pool_files_of() {
	awk '$6 == "/memfd:memd-pool" {print $5}' "$1/maps" | sort -u
}

# Every page of a pool that a guest maps is of a file that the pool has: nothing of the former ones is left.
nothing_leaked() {
	local pid pool overhead shared
	pool=$(pids_of pool)
	[ "$(wc -w <<<"$pool")" = 1 ] || return 1
	stat -Lc %i "/proc/$pool/fd"/* 2>/dev/null | sort -u >"$work/pool.files"
	for pid in $(pids_of guest); do
		pool_files_of "/proc/$pid" >"$work/guest.files"
		echo "process $pid: $(wc -l <"$work/guest.files") pool files, $(find "/proc/$pid/fd" -type l | wc -l) descriptors"
		[ -z "$(comm -13 "$work/pool.files" "$work/guest.files")" ] || return 1
		[ "$(find "/proc/$pid/fd" -type l | wc -l)" -lt 64 ] || return 1
	done
	# Four guests have what is shared: a page that is kept for fewer than two of them was forgotten by somebody.
	overhead=$(host OverheadBytes)
	shared=$(($(host PoolBytes) + $(host SavedSharingBytes)))
	echo "overhead before $(cat "$work/overhead.before"), now $overhead; pool $(host PoolBytes) for $shared shared"
	[ $(($(host PoolBytes) * 2)) -le $shared ]
}

nothing_leaked_soon() {
	until_true 60 nothing_leaked || nothing_leaked
}

shares_again() {
	until_true 90 shares_at_least $((32 << 20))
}

ends_and_leaves_nothing() {
	memd_ends && nothing_is_left
}

claim memd_comes_up comes_up
claim guests_run guests_run
claim guests_share sharing_begins
claim guests_survive_kills_at_random_moments survives_kills
echo "# killed (memd, memd-pool): $(cat "$work/kills" 2>/dev/null || echo unknown), seed $seed"
claim no_guest_is_lost no_guest_is_lost
claim guests_go_on_verifying guests_go_on_verifying
claim no_page_is_corrupt no_page_is_corrupt
claim guests_share_again shares_again
claim ledger_is_right until_true 30 ledger_is_right
claim nothing_leaked nothing_leaked_soon
claim memd_ends_and_leaves_nothing ends_and_leaves_nothing
if [ $claims_failed != 0 ]; then tail -n 40 "$work/memd.log" | sed 's/^/# memd: /'; fi
claims_done
