#!/usr/bin/env bash
# What is shipped beside the programs says what the programs do: man pages, completion, the D-Bus policy, scripts.

# shellcheck disable=SC2317 # functions are called through claim
set -euo pipefail
cd "$(dirname "$0")/../.."
memctl=${MEMD_BUILD:?}/memd/memctl
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# shellcheck source=tests/tap.sh
. tests/tap.sh

man_page_has_no_warnings() {
	local output
	output=$(groff -man -Tutf8 -ww -z "$1" 2>&1)
	printf '%s' "$output"
	[ -z "$output" ]
}

# keys_are_documented SOURCE PAGE: both ways.
keys_are_documented() {
	grep -o 'KEY(\("[A-Z][a-z]*", \)\?"[A-Za-z]*", SCHEMA' "$1" | grep -o '"[A-Za-z]*", SCHEMA' | cut -d'"' -f2 |
		sort -u >"$work/keys"
	grep -o '^\.IR\? .*[A-Za-z]*=.*' "$2" | grep -v '[A-Za-z]*=[A-Za-z0-9]' | grep -o '[A-Z][A-Za-z]*=' | tr -d = |
		sort -u >"$work/documented"
	[ -s "$work/keys" ] && diff "$work/keys" "$work/documented"
}

verbs() {
	"$memctl" help | sed -n 's/^  \([a-z][a-z-]*\) .*/\1/p'
}

verbs_are_in() {
	local verb missing=0
	[ -n "$(verbs)" ] || return 1
	for verb in $(verbs); do
		grep -qE "(^|[^a-z-])$verb([^a-z-]|$)" "$1" || {
			echo "$1 does not know the verb $verb"
			missing=1
		}
	done
	return $missing
}

bus_policy_is_accepted() {
	local pid started=1 i
	# the group memd is made by sysusers.d, so not here
	sed 's/group="memd"/group="root"/' packaging/dbus/org.memd1.conf >"$work/policy.conf"
	sed "s|</busconfig>|<include>$work/policy.conf</include></busconfig>|" tests/private-bus.conf >"$work/bus.conf"
	dbus-daemon --config-file="$work/bus.conf" --address="unix:path=$work/bus" --nofork 2>"$work/bus.log" &
	pid=$!
	for ((i = 0; i < 50; i++)); do
		[ ! -S "$work/bus" ] || started=0
		[ $started -ne 0 ] || break
		sleep 0.1
	done
	kill $pid 2>/dev/null
	wait $pid || true
	cat "$work/bus.log"
	return $started
}

for page in packaging/man/*; do
	claim "man_page_has_no_warnings $(basename "$page")" man_page_has_no_warnings "$page"
done
claim memd_conf_page_has_exactly_the_keys_of_the_schema keys_are_documented config/host-config.c packaging/man/memd.conf.5
claim memd_guest_page_has_exactly_the_keys_of_the_schema keys_are_documented config/guest-config.c packaging/man/memd.guest.5
claim memctl_page_has_every_verb verbs_are_in packaging/man/memctl.1
claim completion_has_every_verb verbs_are_in packaging/completion/memctl
claim bus_policy_is_accepted_by_dbus_daemon bus_policy_is_accepted
for script in scripts/* .ci/run packaging/completion/memctl; do
	claim "script_parses $script" bash -n "$script"
done
claims_done
