#!/usr/bin/env bash
# Decisions with real guests: what the bus shows, what is explained and what the journal holds are the same figures; a
# replay of it decides the same; and policies that crash, hang, talk rubbish or eat memory cost memd nothing but their
# own say.

# shellcheck disable=SC2317 # functions are called through claim
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=tests/tap.sh
. tests/tap.sh
build=$(realpath "${MEMD_BUILD:-build/debug}")
work=$(mktemp -d)
chmod 755 "$work" # plugins and programs lie in it, and are run by nobody
cgroup=memd-test-$$
export MEMD_BUS=unix:path=$work/bus

memctl() {
	timeout 60 "$build/memd/memctl" "$@"
}

cleanup() {
	local pid
	for pid in $(cat "$work"/*.pid 2>/dev/null) $(pids_of_guests); do kill -9 "$pid" 2>/dev/null || true; done
	find /sys/fs/cgroup -depth -type d -path "*/$cgroup*" -exec rmdir {} \; 2>/dev/null || true
	rm -rf "$work"
}
trap cleanup EXIT

pids_of_guests() {
	find "$work/run" -name '*.pid' -exec cut -d' ' -f1 {} + 2>/dev/null || true
}

# until_true SECONDS COMMAND...
until_true() {
	local end=$((SECONDS + $1))
	shift
	until "$@" >/dev/null 2>&1; do
		[ $SECONDS -lt $end ] || return 1
		sleep 0.1
	done
}

# host NAME: the bare value of a property.
host() {
	dbus-send --bus="$MEMD_BUS" --dest=org.memd1 --print-reply=literal /org/memd1 \
		org.freedesktop.DBus.Properties.Get string:org.memd1.Manager string:"$1" |
		sed 's/^ *variant *//; s/^\(uint64\|uint32\|boolean\) *//; s/ *$//'
}

host_is() {
	[ "$(host "$1")" = "$2" ]
}

host_at_least() {
	[ "$(host "$1")" -ge "$2" ]
}

# configure POLICY [SETTING...]: of the policy.
configure() {
	local setting policy=$1
	shift
	{
		printf '[Host]\nHostMemoryBudget=230M\nTickInterval=800ms\nCgroupName=%s\nPolicy=%s\n' "$cgroup" "$policy"
		printf 'PolicyDir=%s/policies\nPolicyTimeLimit=10s\n' "$work"
		printf '[Share]\nShareScanTargetTime=5s\n[Journal]\nJournalSize=4M\n[Policy %s]\n' "$policy"
		for setting in "$@"; do printf '%s\n' "$setting"; done
	} >"$work/memd.conf"
}

comes_up() {
	mkdir -p "$work/guests.d" "$work/policies"
	chmod 755 "$work/policies"
	install -m 644 "$build"/tests/abi/*.so "$work/policies"
	configure proportional
	dbus-daemon --config-file=tests/private-bus.conf --address="$MEMD_BUS" --nofork >"$work/dbus.log" 2>&1 &
	echo $! >"$work/bus.pid" # a claim runs in a subshell: what it shall leave it writes down
	until_true 20 test -S "$work/bus" || return 1
	"$build/memd/memd" --config "$work/memd.conf" --guests-dir "$work/guests.d" --bus "$MEMD_BUS" \
		--runtime-dir "$work/run" --state-dir "$work/state" >"$work/memd.log" 2>&1 </dev/null &
	echo $! >"$work/memd.pid"
	until_true 20 memctl status
	timeout 300 dbus-monitor --address "$MEMD_BUS" "type='signal',member='PolicySetAside'" >"$work/signals" 2>&1 &
	echo $! >"$work/monitor.pid"
}

start_guest() {
	memctl start "$1" Memory=128M VCpus=1 MemoryMin=16M Shares="$3" Kernel="$build/tests/guest/memd-guest" \
		CommandLine="seed=$2 common_mib=4 unique_mib=60 zero_mib=4 rewrite_per_s=20"
}

guests_run() {
	start_guest a 1 1000 && start_guest b 2 2000 && start_guest c 3 1000 && ticks_pass 8
}

# ticks_pass N
ticks_pass() {
	until_true 60 host_at_least Ticks $(($(host Ticks) + $1))
}

# What the bus shows of all guests within one tick, with the tick's number: a tick in between makes it try again.
snapshot() {
	local before after i
	for ((i = 0; i < 20; i++)); do
		before=$(host Ticks)
		memctl --json list >"$work/bus.json" && memctl --json explain a >"$work/explain.json"
		after=$(host Ticks)
		if [ "$before" = "$after" ]; then
			echo "$before" >"$work/tick"
			return 0
		fi
	done
	return 1
}

journal_agrees_with_the_bus() {
	snapshot || return 1
	ticks_pass 2 # the worker has written it
	memctl --json replay >"$work/replay.json" || return 1
	python3 - "$work" <<'END'
import json, sys
work = sys.argv[1]
number = int(open(work + "/tick").read())
bus = {g["name"]: g for g in json.load(open(work + "/bus.json"))}
lines = [json.loads(line) for line in open(work + "/replay.json")]
tick = [l for l in lines if l["type"] == "tick" and l["number"] == number]
assert len(tick) == 1, "tick %d is in the journal %d times" % (number, len(tick))
assert len(bus) == len(tick[0]["guests"]) == 3
said = json.load(open(work + "/explain.json"))["sentences"]
print(said)
for g in tick[0]["guests"]:
    b = bus[g["name"]]
    for key in ("resident_bytes", "private_bytes", "shared_bytes", "shared_cost_bytes", "swapped_bytes",
                "overhead_bytes", "saved_sharing_bytes", "balloon_target_bytes"):
        assert g[key] == b[key], "%s: %s is %d in the journal, %d on the bus" % (g["name"], key, g[key], b[key])
    assert g["recorded"]["target_bytes"] == b["target_bytes"]
    assert g["recorded"]["reason"] == b["target_reason"], (g["recorded"]["reason"], b["target_reason"])
a = [g for g in tick[0]["guests"] if g["name"] == "a"][0]
assert "(tick %d, " % number in said[0], said[0]
assert any(a["recorded"]["reason"] in s for s in said), (a["recorded"]["reason"], said)
mib = "%.1f" % (a["recorded"]["target_bytes"] / 2.0**20)
assert "its target is %s MiB" % mib.replace(".0", "") in said[0], (mib, said[0])
assert sum(g["resident_bytes"] for g in tick[0]["guests"]) + tick[0]["host"]["overhead_bytes"] == \
    tick[0]["host"]["used_bytes"], "the guests' costs and what is no guest's do not add up"
summary = lines[-1]
print(summary)
assert summary["type"] == "summary" and summary["differ"] == 0 and summary["decisions"] >= 3 * 8
assert summary["damaged_bytes"] == 0
END
}

what_would_change_it_is_said() {
	memctl explain a >"$work/explain" || return 1
	cat "$work/explain"
	grep -q "with twice its shares" "$work/explain" && grep -q "^The host is " "$work/explain"
}

another_policy_is_replayed_and_drawn() {
	local before
	before=$(host Policy)
	printf '[Host]\nPolicyDir=%s/policies\nPolicy=naughty\n[Policy naughty]\nDo=good\n' "$work" >"$work/try.conf"
	memctl replay --config "$work/try.conf" --plot "$work/plot.svg" >"$work/replay" || return 1
	cat "$work/replay"
	grep -q "policy naughty over" "$work/replay" && grep -qE "^a +[0-9]+ .*64M" "$work/replay" &&
		grep -q "</svg>" "$work/plot.svg" && [ "$before" = "$(host Policy)" ]
}

# A copied journal is read without memd.
journal_file_is_replayed() {
	cp "$work/state/journal" "$work/copy"
	MEMD_BUS=unix:path=/none memctl replay "$work/copy"
}

policies_are_listed() {
	memctl policy list >"$work/list"
	cat "$work/list"
	grep -q "^\* proportional" "$work/list" && grep -q "^  naughty *plugin .*$work/policies/naughty.so" "$work/list"
}

bad_policy_does_not_replace_a_good_one() {
	configure naughty Do=refuse-open
	if memctl reload >"$work/out" 2>&1; then return 1; fi
	cat "$work/out"
	grep -q "the former configuration stays: the policy naughty is refused: .*not today" "$work/out" &&
		host_is Policy proportional || return 1
	configure naughty Do=crash-in-open
	if memctl reload >"$work/out" 2>&1; then return 1; fi
	cat "$work/out"
	grep -q "signal 11" "$work/out" && host_is Policy proportional && memctl policy check "$work/memd.conf" >"$work/out" 2>&1 &&
		return 1
	configure nonsense
	! memctl reload && host_is Policy proportional
}

# While a policy hangs in open, ticks go on.
policy_that_hangs_in_open_stops_nothing() {
	local reload before
	configure naughty Do=hang-in-open
	memctl reload >"$work/out" 2>&1 &
	reload=$!
	before=$(host Ticks)
	until_true 9 host_at_least Ticks $((before + 5)) || return 1
	if wait $reload; then return 1; fi
	cat "$work/out"
	grep -q "did not open within 10 s" "$work/out" && host_is Policy proportional
}

plugin_decides() {
	configure naughty Do=good
	memctl reload && host_is Policy naughty && ticks_pass 3 && host_is Policy naughty &&
		memctl explain b >"$work/out" && grep -q "policy naughty" "$work/out" && grep -q "proposed 64 MiB: half" "$work/out"
}

# misbehaves DEED PATTERN: it is set aside, the bus and the log say why, and memd decides on.
misbehaves() {
	local pid
	configure naughty "Do=$1"
	: >"$work/signals"
	memctl reload || return 1
	pid=$(host PolicyPid)
	until_true 60 host_is Policy proportional || return 1
	host PolicySetAside
	host PolicySetAside | grep -q "$2" && host_is PolicyChosen naughty && host_is PolicyPid 0 &&
		until_true 20 grep -q "$2" "$work/signals" && grep -q "policy naughty is set aside.*$2" "$work/memd.log" &&
		memctl status | grep -q "the policy naughty is set aside" || return 1
	if [ "$pid" != 0 ]; then until_true 20 gone "$pid" || return 1; fi
	ticks_pass 3 && host_is NGuests 3
}

gone() {
	! kill -0 "$1"
}

set_aside_is_in_the_journal() {
	ticks_pass 2
	memctl --json replay --policy proportional >"$work/replay.json" || return 1
	grep -c '"policy":"naughty","fell_back":false' "$work/replay.json"
	grep -q '"policy":"proportional","fell_back":true' "$work/replay.json" &&
		grep -q '"policy":"naughty","fell_back":false' "$work/replay.json"
}

program_decides() {
	install -m 755 policy/examples/even.py "$work/even.py"
	configure exec "Command=$work/even.py"
	memctl reload && host_is Policy exec && ticks_pass 3 && host_is Policy exec &&
		memctl explain c >"$work/out" && cat "$work/out" && grep -q "an even part of" "$work/out"
}

figures_are_right() {
	host LedgerMismatchBasisPoints
	[ "$(host LedgerMismatchBasisPoints)" -le 200 ]
}

memd_ends() {
	local pid
	pid=$(cat "$work/memd.pid")
	kill -TERM "$pid"
	timeout 60 tail --pid="$pid" -f /dev/null
	[ -z "$(pids_of_guests)" ] && ! pgrep -f "$build/policy/memd-policy --(plugin $work|exec $work)"
}

claim memd_comes_up comes_up
claim guests_run guests_run
claim journal_and_explanation_agree_with_the_bus_and_replay_decides_the_same journal_agrees_with_the_bus
claim what_would_change_it_is_said what_would_change_it_is_said
claim another_policy_is_replayed_and_drawn_without_touching_anything another_policy_is_replayed_and_drawn
claim journal_file_is_replayed_without_memd journal_file_is_replayed
claim policies_are_listed policies_are_listed
claim bad_policy_does_not_replace_a_good_one bad_policy_does_not_replace_a_good_one
claim policy_that_hangs_in_open_stops_nothing policy_that_hangs_in_open_stops_nothing
claim plugin_decides plugin_decides
claim plugin_that_crashes_is_set_aside misbehaves crash "signal 11"
claim plugin_that_hangs_is_set_aside misbehaves hang "3 ticks in a row"
claim plugin_that_proposes_rubbish_is_set_aside misbehaves rubbish "proposed 18446744073709551615 bytes"
claim plugin_that_allocates_without_end_is_set_aside misbehaves allocate "signal 11"
claim set_aside_is_in_the_journal set_aside_is_in_the_journal
claim program_decides program_decides
claim ledger_is_right_at_the_end figures_are_right
claim memd_ends_and_leaves_nothing memd_ends
claims_done
