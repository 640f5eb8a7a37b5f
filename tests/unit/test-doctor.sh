#!/usr/bin/env bash
# memctl doctor over hosts that are made up of a few files: what it finds, what it advises, and its exit code. And that
# zsh and fish complete what memctl has.

# shellcheck disable=SC2317 # functions are called through claim
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=tests/tap.sh
. tests/tap.sh
build=$(realpath "${MEMD_BUILD:-build/debug}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export MEMD_BUS=unix:path=$work/no-bus

put() {
	mkdir -p "$work/host/$(dirname "$1")"
	printf '%s\n' "$2" >"$work/host/$1"
}

good_host() {
	rm -rf "$work/host"
	put dev/kvm ''
	put proc/sys/vm/max_map_count 1048576
	put proc/sys/vm/overcommit_memory 0
	put proc/sys/vm/page-cluster 0
	put proc/sys/kernel/numa_balancing 0
	put proc/pressure/memory 'some avg10=0.00'
	put proc/swaps "$(printf 'Filename\tType\tSize\tUsed\tPriority\n/dev/zram0 partition 1048576 0 100')"
	put sys/kernel/mm/transparent_hugepage/enabled 'always [madvise] never'
	put sys/kernel/mm/transparent_hugepage/defrag 'always defer [madvise] never'
	put sys/kernel/mm/ksm/run 0
	put run/memd/metrics.sock ''
}

# finding NAME: "STATUS FOUND -> ADVICE"
finding() {
	"$build/memd/memctl" --json doctor "$work/host" >"$work/json" || true
	/usr/bin/python3 - "$work/json" "$1" <<-'END'
		import json, sys
		for c in json.load(open(sys.argv[1]))["checks"]:
		    if c["name"] == sys.argv[2]: print(c["status"], c["found"], "->", c["advice"])
	END
}

# finds NAME PATTERN
finds() {
	finding "$1" | tee "$work/finding"
	grep -q -- "$2" "$work/finding"
}

nothing_is_wrong_with_a_good_host() {
	local name
	good_host
	for name in kvm map-count overcommit swap swap-read-ahead pressure huge-pages ksm numa-balancing rights; do
		finds "$name" '^ok ' || return 1
	done
}

# wrong NAME PATTERN FILE CONTENT: a good host but for that file.
wrong() {
	good_host
	if [ "$4" = - ]; then rm "$work/host/$3"; else put "$3" "$4"; fi
	finds "$1" "$2"
}

exit_code_tells_of_problems() {
	local code=0
	good_host
	"$build/memd/memctl" doctor "$work/host" >"$work/out" 2>&1 || code=$?
	cat "$work/out"
	[ $code = 1 ] && grep -q 'memd does not answer' "$work/out" # there is no bus
}

colours_are_for_terminals() {
	"$build/memd/memctl" doctor "$work/host" >"$work/plain" || true
	NO_COLOR=1 script -qec "$build/memd/memctl doctor $work/host" /dev/null >"$work/no-color" || true
	TERM=xterm script -qec "$build/memd/memctl doctor $work/host" /dev/null >"$work/color" || true
	! grep -q $'\e' "$work/plain" && ! grep -q $'\e' "$work/no-color" && grep -q $'\e' "$work/color"
}

zram_needs_a_sensible_size() {
	! "$build/memd/memctl" setup-zram 1K 2>"$work/out" && grep -q 'not between' "$work/out" &&
		! "$build/memd/memctl" setup-zram nonsense 2>"$work/out" && grep -q size "$work/out"
}

fish_completes() {
	PATH=$build/memd:$PATH fish --no-config -c "source packaging/completion/memctl.fish; complete -C 'memctl '" >"$work/verbs"
	PATH=$build/memd:$PATH fish --no-config -c "source packaging/completion/memctl.fish; complete -C 'memctl top --'" >"$work/options"
	cat "$work/verbs" "$work/options"
	grep -q '^set-target' "$work/verbs" && grep -q '^doctor' "$work/verbs" && grep -q '^--interval' "$work/options"
}

claim nothing_is_wrong_with_a_good_host nothing_is_wrong_with_a_good_host
claim no_kvm_is_a_problem wrong kvm '^problem .*no /dev/kvm.*modprobe' dev/kvm -
claim few_mappings_are_told wrong map-count '^note .*65530.*sysctl vm.max_map_count=1048576' proc/sys/vm/max_map_count 65530
claim enough_mappings_are_enough wrong map-count '^ok ' proc/sys/vm/max_map_count 1048577
claim one_mapping_too_few_is_told wrong map-count '^note ' proc/sys/vm/max_map_count 1048575
claim strict_overcommit_is_a_problem wrong overcommit '^problem .*sysctl' proc/sys/vm/overcommit_memory 2
claim no_swap_is_a_problem wrong swap '^problem .*setup-zram' proc/swaps 'Filename Type Size Used Priority'
claim swap_without_zram_could_be_better wrong swap '^note .*none of them zram' proc/swaps \
	"$(printf 'Filename Type Size Used Priority\n/dev/sda2 partition 1048576 0 -2')"
claim nonsense_in_a_file_is_no_crash wrong map-count '^note ' proc/sys/vm/max_map_count 'abc def'
claim direct_compaction_is_told wrong huge-pages '^note .*defrag' sys/kernel/mm/transparent_hugepage/defrag '[always] never'
claim exit_code_tells_of_problems exit_code_tells_of_problems
claim colours_are_for_terminals_and_follow_no_color colours_are_for_terminals
claim zram_needs_a_sensible_size zram_needs_a_sensible_size
claim fish_completes_verbs_and_options fish_completes
claim zsh_reads_its_completion zsh -n packaging/completion/_memctl
claims_done
