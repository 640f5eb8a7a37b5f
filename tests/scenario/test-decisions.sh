#!/usr/bin/env bash
# Decisions with real guests: what the bus shows, what is explained and what the journal holds are the same figures; a
# replay of it decides the same; and policies that crash, hang, talk rubbish or eat memory cost memd nothing but their
# own say.

# shellcheck disable=SC2317 # functions are called through claim
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=tests/tap.sh
. tests/tap.sh
# shellcheck source=tests/memd.sh
. tests/memd.sh

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
	mkdir "$work/policies"
	chmod 755 "$work/policies"
	install -m 644 "$build"/tests/abi/*.so "$work/policies"
	configure proportional
	memd_comes_up || return 1
	timeout 300 dbus-monitor --address "$MEMD_BUS" "type='signal',member='PolicySetAside'" >"$work/signals" 2>&1 &
	echo $! >"$work/monitor.pid"
}

# start_guest NAME SEED SHARES [SETTING...]
start_guest() {
	memctl start "$1" Memory=128M VCpus=1 MemoryMin=16M Shares="$3" Kernel="$build/tests/guest/memd-guest" \
		CommandLine="seed=$2 common_mib=4 unique_mib=60 zero_mib=4 rewrite_per_s=20" "${@:4}"
}

guests_run() {
	start_guest a 1 1000 && start_guest b 2 2000 && start_guest c 3 1000 && ticks_pass 8
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

# A balloon's order goes out after a tick was recorded: the bus has it at once, the journal in the next tick. So ticks
# are tried until one has none.
journal_agrees_with_the_bus() {
	local i
	for ((i = 0; i < 8; i++)); do
		if a_tick_agrees_with_the_bus >"$work/comparison" 2>&1; then break; fi
	done
	cat "$work/comparison"
	[ $i -lt 8 ]
}

a_tick_agrees_with_the_bus() {
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

# A guest of a group that has no policy does not start; with one, that divides what the host's policy gives it.
group_has_a_policy_of_its_own() {
	if start_guest d 4 1000 PolicyGroup=lab >"$work/out" 2>&1; then return 1; fi
	cat "$work/out"
	grep -q "PolicyGroup=lab: memd.conf has no section \[Group lab\]" "$work/out" || return 1
	configure proportional "[Group lab]" "Policy=static" "Targett=40M"
	if memctl reload >"$work/out" 2>&1; then return 1; fi
	cat "$work/out"
	grep -q "the former configuration stays: \[Group lab\]: .*there is no setting Targett=; there are Target" "$work/out" ||
		return 1
	configure proportional "[Group lab]" "Policy=static" "Target@d=40M"
	memctl reload && start_guest d 4 1000 PolicyGroup=lab && ticks_pass 3 || return 1
	memctl explain d >"$work/out" && [ "$(guest d PolicyGroup)$(guest a PolicyGroup)" = lab ] &&
		memctl stop d --force && ticks_pass 2 && memctl --json replay >"$work/replay.json" || return 1
	cat "$work/out"
	tail -n 1 "$work/replay.json"
	grep -qE ": group lab has [0-9.]+ MiB for 1 guest, by static: fixed at 40 MiB" "$work/out" &&
		tail -n 1 "$work/replay.json" | grep -q '"differ":0,'
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
	until_true 9 host_above Ticks $((before + 4)) || return 1
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
	if [ "$pid" != 0 ]; then until_true 20 has_ended "$pid" || return 1; fi
	ticks_pass 3 && host_is NGuests 3
}

set_aside_is_in_the_journal() {
	ticks_pass 2
	memctl --json replay --policy proportional >"$work/replay.json" || return 1
	grep -c '"policy":"naughty","fell_back":false' "$work/replay.json"
	grep -q '"policy":"proportional","fell_back":true' "$work/replay.json" &&
		grep -q '"policy":"naughty","fell_back":false' "$work/replay.json"
}

# memd-policy's memory, and that of the program, are in the books: as the kernel counts them. What they share with
# others, the interpreter's code, is divided by how many run just now.
policys_memory_is_in_the_ledger() {
	until_true 30 policys_memory_agrees || policys_memory_agrees
}

policys_memory_agrees() {
	local pid sum=0
	for pid in $(pgrep -f "$work/even.py"); do # memd-policy, too
		sum=$((sum + $(awk '$1 == "Pss_Anon:" || $1 == "Pss_File:" || $1 == "VmPTE:" {sum += $2} END {print sum * 1024}' \
			"/proc/$pid/smaps_rollup" "/proc/$pid/status")))
	done
	echo "by the kernel $sum, in the ledger $(host PolicyBytes) of an overhead of $(host OverheadBytes)"
	[ $(($(host PolicyBytes) * 100)) -ge $((sum * 90)) ] && [ $(($(host PolicyBytes) * 100)) -le $((sum * 110)) ] &&
		host_above PolicyBytes $((4 << 20)) && host_above OverheadBytes "$(host PolicyBytes)"
}

program_decides() {
	install -m 755 policy/examples/even.py "$work/even.py"
	configure exec "Command=$work/even.py"
	memctl reload && host_is Policy exec && ticks_pass 3 && host_is Policy exec &&
		memctl explain c >"$work/out" && cat "$work/out" && grep -q "an even part of" "$work/out"
}

ends_and_leaves_nothing() {
	memd_ends && nothing_is_left && ! pgrep -f "$build/policy/memd-policy --(plugin $work|exec $work)"
}

claim memd_comes_up comes_up
claim guests_run guests_run
claim journal_and_explanation_agree_with_the_bus_and_replay_decides_the_same journal_agrees_with_the_bus
claim what_would_change_it_is_said what_would_change_it_is_said
claim another_policy_is_replayed_and_drawn_without_touching_anything another_policy_is_replayed_and_drawn
claim journal_file_is_replayed_without_memd journal_file_is_replayed
claim policies_are_listed policies_are_listed
claim group_has_a_policy_of_its_own group_has_a_policy_of_its_own
claim bad_policy_does_not_replace_a_good_one bad_policy_does_not_replace_a_good_one
claim policy_that_hangs_in_open_stops_nothing policy_that_hangs_in_open_stops_nothing
claim plugin_decides plugin_decides
claim plugin_that_crashes_is_set_aside misbehaves crash "signal 11"
claim plugin_that_hangs_is_set_aside misbehaves hang "3 ticks in a row"
claim plugin_that_proposes_rubbish_is_set_aside misbehaves rubbish "proposed 18446744073709551615 bytes"
claim plugin_that_allocates_without_end_is_set_aside misbehaves allocate "signal 11"
claim set_aside_is_in_the_journal set_aside_is_in_the_journal
claim program_decides program_decides
claim policys_memory_is_in_the_ledger policys_memory_is_in_the_ledger
claim ledger_is_right_at_the_end ledger_is_right
claim memd_ends_and_leaves_nothing ends_and_leaves_nothing
claims_done
