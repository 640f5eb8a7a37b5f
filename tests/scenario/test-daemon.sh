#!/usr/bin/env bash
# memd with real guests on a private bus: bad input gets a clear error and changes nothing, a killed guest leaves the
# others and a ledger that is right, an operator's target is followed, and nothing is left when memd ends.

# shellcheck disable=SC2317 # functions are called through claim
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=tests/tap.sh
. tests/tap.sh
# shellcheck source=tests/memd.sh
. tests/memd.sh

is_gone() {
	! guest "$1" State
}

start_guest() {
	memctl start "$1" Memory=64M VCpus=1 ShareGroup=test Kernel="$build/tests/guest/memd-guest" \
		CommandLine="seed=$2 common_mib=8 unique_mib=12 zero_mib=8 rewrite_per_s=20"
}

refused_with() {
	local pattern=$1 before after
	shift
	before=$(memctl --json list)
	if memctl "$@" >"$work/refused" 2>&1; then
		echo "was not refused"
		return 1
	fi
	after=$(memctl --json list)
	cat "$work/refused"
	grep -q -- "$pattern" "$work/refused" && [ "$(grep -c '"name"' <<<"$before")" = "$(grep -c '"name"' <<<"$after")" ]
}

comes_up() {
	printf '[Host]\nHostMemoryBudget=512M\nTickInterval=500ms\nCgroupName=%s\n[Share]\nShareScanTargetTime=2s\n' \
		"$cgroup" >"$work/memd.conf"
	memd_comes_up
}

guests_run() {
	start_guest a 1 && start_guest b 2 && start_guest c 3 &&
		[ "$(guest a State)$(guest b State)$(guest c State)" = runningrunningrunning ]
}

bad_configuration_names_file_and_line() {
	printf '[Host]\nHostMemoryBudgett=1G\n' >"$work/bad.conf"
	if "$build/memd/memd" --config "$work/bad.conf" --check >"$work/check" 2>&1; then return 1; fi
	cat "$work/check"
	grep -q "bad.conf:2" "$work/check"
}

sharing_begins() {
	until_true 60 host_above SavedSharingBytes 8388608
}

killed_guest_leaves_the_others() {
	timeout 60 dbus-monitor --address "$MEMD_BUS" "type='signal',member='GuestRemoved'" >"$work/signals" 2>&1 &
	echo $! >"$work/monitor.pid"
	until_true 10 test -s "$work/signals" || return 1
	kill -9 "$(guest b Pid)"
	until_true 20 is_gone b || return 1
	until_true 20 host_above Ticks $(($(host Ticks) + 1)) || return 1
	echo "configured $(host ConfiguredBytes), mismatch $(host LedgerMismatchBasisPoints)"
	cat "$work/signals"
	[ "$(host ConfiguredBytes)" = $((2 * 64 * 1024 * 1024)) ] && [ "$(host NGuests)" = 2 ] &&
		[ "$(guest a State)$(guest c State)" = runningrunning ] && ledger_is_right &&
		until_true 10 grep -q "signal 9" "$work/signals"
}

balloon_follows_the_target() {
	memctl set-target a 32M && until_true 60 guest_above a BalloonBytes 0
}

forecast_is_as_admission() {
	# 512 MiB; floors of two guests of 16 and 8 MiB each are taken, and this kind would need 128 and 8
	memctl --json fit any Memory=256M MemoryMin=128M Kernel=/x >"$work/fit"
	cat "$work/fit"
	grep -q '"fit": *3,' "$work/fit" && grep -q "lacks" "$work/fit" && refused_with "no.*nothing" fit nothing
}

guest_has_a_process_namespace() {
	[ "$(readlink "/proc/$(guest a Pid)/ns/pid")" != "$(readlink /proc/self/ns/pid)" ]
}

snapshot_is_taken() {
	memctl snapshot a "$work/snapshot" && ls -l "$work/snapshot" && [ "$(guest a State)" = running ] &&
		[ "$(stat -c %a "$work/snapshot")" = 700 ] && [ -s "$work/snapshot/state" ] &&
		[ "$(stat -c %s "$work/snapshot/ram")" = $((64 * 1024 * 1024)) ]
}

clones_share_their_template() {
	memctl clone "$work/snapshot" d e || return 1
	[ "$(guest d State)$(guest e State)" = runningrunning ] || return 1
	until_true 30 guest_above d TemplateBytes 8388608 && until_true 30 guest_above e TemplateBytes 8388608 &&
		until_true 30 host_above TemplateBytes 8388608 || return 1
	echo "group $(guest d ShareGroup), configured $(guest d ConfiguredBytes), memory of the template" \
		"$(host TemplateBytes), its part of it $(guest d TemplateCostBytes)"
	[ "$(guest d ShareGroup)" = test ] && [ "$(guest d ConfiguredBytes)" = $((64 * 1024 * 1024)) ] &&
		[ "$(guest d TemplateCostBytes)" -lt "$(guest d TemplateBytes)" ] && ledger_is_right
}

template_is_gone() {
	[ "$(host TemplateBytes)" = 0 ]
}

template_goes_with_the_last_clone() {
	memctl stop d --force && memctl stop e --force && until_true 20 template_is_gone
}

memory_mode_is_explained() {
	memctl mmu a | tee "$work/mmu"
	grep -qE "virtualized by (EPT|NPT|shadow|PVM)" "$work/mmu" && [ "$(guest a KvmExits)" -gt 0 ]
}

objects_can_be_read() {
	dbus-send --bus="$MEMD_BUS" --dest=org.memd1 --print-reply=literal /org/memd1 \
		org.freedesktop.DBus.Introspectable.Introspect >"$work/introspect"
	cat "$work/introspect"
	grep -q 'arg type="a{ss}" name="settings"' "$work/introspect" &&
		grep -q 'arg type="s" name="reason"' "$work/introspect"
}

claim bad_configuration_names_file_and_line bad_configuration_names_file_and_line
claim memd_comes_up comes_up
claim guests_run guests_run
claim second_guest_of_the_name_is_refused refused_with "exists" start a Memory=64M Kernel=/x
claim name_with_a_slash_is_refused refused_with "'/'" start a/b Memory=64M Kernel=/x
claim unknown_key_is_refused refused_with "Memor" start d Memor=64M Kernel=/x
claim overflowing_size_is_refused refused_with "Memory" start d Memory=99999999999999999999G Kernel=/x
claim kernel_that_is_no_elf_is_refused refused_with "ELF" start d Memory=64M Kernel=/etc/passwd
claim floors_above_the_budget_are_refused refused_with "floor" start d Memory=4G Kernel=/x
claim target_below_the_floor_is_refused refused_with "floor" set-target a 1M
claim target_above_the_size_is_refused refused_with "above" set-target a 1G
claim introspection_is_readable objects_can_be_read
claim sharing_begins sharing_begins
claim killed_guest_leaves_the_others_and_the_ledger_right killed_guest_leaves_the_others
claim balloon_follows_the_operators_target balloon_follows_the_target
claim forecast_counts_what_admission_would_let_in forecast_is_as_admission
claim guest_has_a_process_namespace_of_its_own guest_has_a_process_namespace
claim unknown_cpu_feature_is_refused refused_with "no CPU feature" start f Memory=64M Kernel=/x CpuFeatures=-avx3
claim memory_mode_is_explained memory_mode_is_explained
claim snapshot_is_taken snapshot_is_taken
claim snapshot_over_another_is_refused refused_with "directory of its own" snapshot a "$work/snapshot"
claim clone_of_another_group_is_refused refused_with "trust group" start f Snapshot="$work/snapshot" ShareGroup=other
claim clone_of_no_snapshot_is_refused refused_with "cannot read" start f Snapshot="$work"
claim clones_share_their_template clones_share_their_template
claim template_goes_with_the_last_clone template_goes_with_the_last_clone
claim memd_ends_when_told memd_ends
claim nothing_is_left_at_the_end nothing_is_left
claims_done
