#!/usr/bin/env bash
# Who may do what on the bus: everybody looks, root acts, others act when polkit says so. The examples of clients. memd is
# real, its guests are fakes.
#
#   MEMD_LOAD=1  also: 50 clients that ask for everything of 200 guests do not hold up a tick (30 s of both cores)

# shellcheck disable=SC2317 # functions are called through claim
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=tests/tap.sh
. tests/tap.sh
build=$(realpath "${MEMD_BUILD:-build/debug}")
work=$(mktemp -d)
chmod 755 "$work"
export MEMD_BUS=unix:path=$work/bus

cleanup() {
	local pid
	for pid in $(cat "$work"/*.pid 2>/dev/null) $(find "$work/run" -name '*.pid' -exec cut -d' ' -f1 {} + 2>/dev/null); do
		kill -9 "$pid" 2>/dev/null || true
	done
	rm -rf "$work"
}
trap cleanup EXIT

memctl() {
	timeout 60 "$work/memctl" "$@"
}

# As a user who is nobody in particular.
nobody() {
	timeout 60 setpriv --reuid=65534 --regid=65534 --clear-groups -- env MEMD_BUS="$MEMD_BUS" "$@"
}

comes_up() {
	mkdir -p "$work/guests.d"
	cp "$build/memd/memctl" "$work/" # where everybody may read it
	printf '[Host]\nHostMemoryBudget=90%%\nTickInterval=1s\nCgroup=off\nVmmPath=%s\n[Share]\nMode=zero-only\n[Metrics]\nSocket=no\n' \
		"$build/tests/unit/fake-vmm" >"$work/memd.conf"
	# every user may connect, and the policy is the one that is shipped
	sed "s|<policy context=\"default\">|<policy context=\"default\"><allow user=\"*\"/>|;
		s|</busconfig>|<include>$PWD/packaging/dbus/org.memd1.conf</include></busconfig>|" tests/private-bus.conf >"$work/bus.conf"
	dbus-daemon --config-file="$work/bus.conf" --address="$MEMD_BUS" --nofork >"$work/dbus.log" 2>&1 &
	echo $! >"$work/bus.pid"
	until_true 20 test -S "$work/bus" || return 1
	"$build/memd/memd" --config "$work/memd.conf" --guests-dir "$work/guests.d" --bus "$MEMD_BUS" \
		--runtime-dir "$work/run" --state-dir "$work/state" >"$work/memd.log" 2>&1 </dev/null &
	echo $! >"$work/memd.pid"
	until_true 20 memctl status || { tail -n 5 "$work/memd.log"; return 1; }
	memctl start a Memory=32M Kernel=/none CommandLine=touch_mib=4
}

everybody_may_look() {
	nobody "$work/memctl" list && nobody "$work/memctl" show a >/dev/null && nobody "$work/memctl" status >/dev/null
}

# refused_to_nobody PATTERN VERB...
refused_to_nobody() {
	local pattern=$1 code=0
	shift
	nobody "$work/memctl" "$@" >"$work/refused" 2>&1 || code=$?
	cat "$work/refused"
	[ $code = 1 ] && grep -q -- "$pattern" "$work/refused"
}

fixed() {
	memctl --json show a | grep -o '"target_fixed":[a-z]*'
}

without_polkit_others_may_change_nothing() {
	refused_to_nobody 'not permitted.*not there' set-target a 16M && refused_to_nobody 'not permitted' stop a &&
		refused_to_nobody 'not permitted' pause a && refused_to_nobody 'not permitted' reload &&
		refused_to_nobody 'not permitted' start b Memory=32M Kernel=/none &&
		[ "$(fixed)" = '"target_fixed":false' ] && [ "$(memctl --json list | grep -o '"name"' | wc -l)" = 1 ]
}

polkit_is_there() {
	busctl --address="$MEMD_BUS" list | grep -q org.freedesktop.PolicyKit1
}

polkit_says_no() {
	echo no >"$work/answer"
	/usr/bin/python3 tests/unit/fake-polkit.py "$work/answer" "$work/asked" >"$work/polkit.log" 2>&1 &
	echo $! >"$work/polkit.pid"
	until_true 20 polkit_is_there || { cat "$work/polkit.log"; return 1; }
	refused_to_nobody 'it says no' set-target a 16M && grep -q '^org.memd1.set-target system-bus-name :1\.' "$work/asked"
}

polkit_wants_a_password() {
	echo ask >"$work/answer"
	refused_to_nobody 'password' stop a && grep -q '^org.memd1.stop-guest ' "$work/asked"
}

polkit_says_yes() {
	echo yes >"$work/answer"
	nobody "$work/memctl" set-target a 16M && [ "$(fixed)" = '"target_fixed":true' ] || return 1
	nobody "$work/memctl" set-target a auto && [ "$(fixed)" = '"target_fixed":false' ] || return 1
	nobody "$work/memctl" pause a && nobody "$work/memctl" resume a && nobody "$work/memctl" reload
}

root_is_not_asked() {
	: >"$work/asked"
	memctl set-target a 16M && memctl set-target a auto && [ ! -s "$work/asked" ]
}

# Every action that memd names is described, and no other.
actions_are_described() {
	diff <(grep -o '"org\.memd1\.[a-z-]*"' memd/bus-authorize.c | tr -d '"' | sort -u) \
		<(grep -o 'action id="[^"]*' packaging/polkit/org.memd1.policy | cut -d'"' -f2 | sort -u)
}

# compare INTERFACE PATH: the members that packaging/dbus/org.memd1.xml describes are there, and of that type.
described_members_are_there() {
	busctl --address="$MEMD_BUS" introspect --xml-interface org.memd1 /org/memd1 >"$work/manager.xml" || return 1
	busctl --address="$MEMD_BUS" introspect --xml-interface org.memd1 /org/memd1/guest/a >"$work/guest.xml" || return 1
	/usr/bin/python3 - "$work/manager.xml" "$work/guest.xml" <<-'END'
		import sys, xml.etree.ElementTree as tree
		def members(path):
		    return {(i.get("name"), c.tag, c.get("name"), c.get("type"), tuple(a.get("type") for a in c.findall("arg")))
		            for i in tree.parse(path).getroot().findall("interface") for c in i if c.tag != "annotation"}
		live = members(sys.argv[1]) | members(sys.argv[2])
		described = members("packaging/dbus/org.memd1.xml")
		ours = {m for m in live if m[0].startswith("org.memd1.")}
		print("described and not there:", described - live)
		print("not described:", sorted(m[2] for m in ours - described))
		sys.exit(bool(described - live) or len(ours - described) > len(ours) / 10)
	END
}

examples_run() {
	packaging/examples/memd-figures.sh | tee "$work/figures" && grep -q '^a  *running .*costs' "$work/figures" &&
		packaging/examples/memd-figures.sh a $((16 << 20)) && [ "$(fixed)" = '"target_fixed":true' ] &&
		memctl set-target a auto && packaging/examples/memd-watch.py --once | tee "$work/watch" &&
		grep -q '^a: running, costs' "$work/watch"
}

ticks() {
	memctl --json status | sed 's/.*"ticks":\([0-9]*\).*/\1/'
}

# The guests cost little: a megabyte each, and nothing of memd but their figures.
many_clients_hold_up_no_tick() {
	local i before began after
	for ((i = 0; i < 199; i++)); do
		echo "start g$i Memory=8M Kernel=/none CommandLine=touch_mib=1"
	done | xargs -P 4 -L 1 "$work/memctl" >"$work/started" 2>&1 || { tail -n 3 "$work/started"; return 1; }
	[ "$(memctl --json list | grep -o '"state":"running"' | wc -l)" = 200 ] || return 1
	for ((i = 0; i < 50; i++)); do
		timeout --foreground 25 "$work/memctl" --json top --interval 1s 2>/dev/null | wc -l >"$work/reads-$i" &
	done
	sleep 2
	before=$(ticks)
	began=$(date +%s%N)
	until_true 60 ticks_reach $((before + 10)) || return 1
	after=$((($(date +%s%N) - began) / 1000000))
	wait
	echo "10 ticks of 1 s took $after ms while 50 clients read all of 200 guests $(cat "$work"/reads-* | awk '{n += $1} END {print n}') times in 25 s" \
		>"$work/load"
	[ "$after" -le 12000 ]
}

ticks_reach() {
	[ "$(ticks)" -ge "$1" ]
}

claim memd_comes_up comes_up
claim everybody_may_look everybody_may_look
claim without_polkit_others_may_change_nothing without_polkit_others_may_change_nothing
claim polkit_is_asked_and_its_no_counts polkit_says_no
claim a_password_that_is_wanted_is_told polkit_wants_a_password
claim polkits_yes_counts polkit_says_yes
claim root_is_not_asked_about root_is_not_asked
claim every_action_is_described_for_polkit actions_are_described
claim described_members_are_there described_members_are_there
claim examples_of_clients_run examples_run
if [ -z "${MEMD_LOAD:-}" ]; then claims_done && exit; fi
claim many_clients_hold_up_no_tick many_clients_hold_up_no_tick
sed "s/^/# /" "$work/load" || true
claims_done
