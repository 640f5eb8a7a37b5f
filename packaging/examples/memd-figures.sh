#!/bin/sh
# memd's figures by busctl(1) alone: what each guest costs, and an operator's target for one of them.
#
#   memd-figures.sh            a line for each guest
#   memd-figures.sh NAME SIZE  gives the guest SIZE bytes, which needs the right to do so
#
# MEMD_BUS may hold the address of another bus than the system's.
set -eu

bus() {
	if [ "${MEMD_BUS:-system}" = system ]; then busctl --system "$@"; else busctl --address="$MEMD_BUS" "$@"; fi
}

property() { # PATH NAME: the bare value
	bus get-property org.memd1 "$1" org.memd1.Guest "$2" | cut -d' ' -f2- | tr -d '"'
}

if [ $# = 2 ]; then
	path=$(bus call org.memd1 /org/memd1 org.memd1.Manager GetGuest s "$1" | cut -d'"' -f2)
	bus call org.memd1 "$path" org.memd1.Guest SetTarget t "$2"
	exit
fi
bus --list tree org.memd1 | grep '^/org/memd1/guest/.' | while read -r path; do
	printf '%-20s %-10s costs %5d MiB, target %5d MiB\n' "$(property "$path" Name)" "$(property "$path" State)" \
		$(($(property "$path" ResidentBytes) / 1048576)) $(($(property "$path" TargetBytes) / 1048576))
done
