# shellcheck shell=bash
# memd with its guests on a private bus, for scenarios: sourced after tap.sh. Sets
#   build     the programs' directory
#   work      a directory for this script: memd.conf, the logs, memd's own directories
#   cgroup    the name of memd's cgroup
#   MEMD_BUS  the bus, for memctl
# Whatever runs when the script ends, also by a signal, is killed and waited for, and all traces are removed.

# shellcheck disable=SC2317 # functions are called through claim
build=$(realpath "${MEMD_BUILD:-build/debug}")
work=$(mktemp -d)
chmod 755 "$work" # plugins and programs lie in it, and are run by nobody
cgroup=memd-test-$$
export MEMD_BUS=unix:path=$work/bus

memctl() {
	timeout 60 "$build/memd/memctl" "$@"
}

# pids_of guest|pool: the processes that run; memd removes its note of one when that has ended.
pids_of() {
	find "$work/run/$1" -name '*.pid' -exec cut -d' ' -f1 {} + 2>/dev/null | sort -n || true
}

# Also true of one that nobody has waited for yet.
has_ended() {
	[ ! -e "/proc/$1/exe" ]
}

no_cgroup_is_left() {
	find /sys/fs/cgroup -depth -type d -path "*/$cgroup*" -exec rmdir {} \; 2>/dev/null || true
	[ -z "$(find /sys/fs/cgroup -type d -path "*/$cgroup*" 2>/dev/null)" ]
}

# What a claim has started it writes down as $work/NAME.pid, since it runs in a subshell.
memd_cleanup() {
	local pid pids
	pids=$(cat "$work"/*.pid 2>/dev/null; pids_of guest; pids_of pool)
	for pid in $pids; do
		kill -CONT "$pid" 2>/dev/null || true
		kill -9 "$pid" 2>/dev/null || true
	done
	for pid in $pids; do until_true 20 has_ended "$pid" || echo "# process $pid does not end"; done
	until_true 20 no_cgroup_is_left || echo "# cgroup $cgroup cannot be removed"
	rm -rf "$work"
}
trap memd_cleanup EXIT

bus_comes_up() {
	dbus-daemon --config-file=tests/private-bus.conf --address="$MEMD_BUS" --nofork >"$work/dbus.log" 2>&1 &
	echo $! >"$work/bus.pid"
	until_true 20 test -S "$work/bus"
}

# With $work/memd.conf.
memd_start() {
	mkdir -p "$work/guests.d"
	"$build/memd/memd" --config "$work/memd.conf" --guests-dir "$work/guests.d" --bus "$MEMD_BUS" \
		--runtime-dir "$work/run" --state-dir "$work/state" >>"$work/memd.log" 2>&1 </dev/null &
	echo $! >"$work/memd.pid"
}

memd_comes_up() {
	bus_comes_up && memd_start && until_true 30 memctl status
}

memd_ends() {
	local pid
	pid=$(cat "$work/memd.pid")
	kill -TERM "$pid"
	timeout 60 tail --pid="$pid" -f /dev/null
}

# property PATH INTERFACE NAME: the bare value.
property() {
	dbus-send --bus="$MEMD_BUS" --dest=org.memd1 --print-reply=literal "$1" org.freedesktop.DBus.Properties.Get \
		string:"$2" string:"$3" | sed 's/^ *variant *//; s/^\(uint64\|uint32\|boolean\) *//; s/ *$//'
}

# host PROPERTY, guest NAME PROPERTY
host() {
	property /org/memd1 org.memd1.Manager "$1"
}

guest() {
	property "/org/memd1/guest/$1" org.memd1.Guest "$2"
}

host_is() {
	[ "$(host "$1")" = "$2" ]
}

# host_above PROPERTY N, guest_above NAME PROPERTY N
host_above() {
	[ "$(host "$1")" -gt "$2" ]
}

guest_above() {
	[ "$(guest "$1" "$2")" -gt "$3" ]
}

# ticks_pass N
ticks_pass() {
	until_true 60 host_above Ticks $(($(host Ticks) + $1 - 1))
}

ledger_is_right() {
	host LedgerMismatchBasisPoints
	[ "$(host LedgerMismatchBasisPoints)" -le 200 ]
}

nothing_is_left() {
	local left
	left=$(pids_of guest; pids_of pool; find /sys/fs/cgroup -type d -path "*/$cgroup*" 2>/dev/null; find "$work/run" -type s)
	echo "$left"
	[ -z "$left" ]
}
