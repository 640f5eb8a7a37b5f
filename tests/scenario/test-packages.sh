#!/usr/bin/env bash
# The Debian packages in a fresh Debian with a systemd of its own (a container): they install, memd runs as a service
# with all its restrictions and starts a real guest, reload, kill -9 and upgrade cost no guest, and a purge leaves nothing.

# shellcheck disable=SC2317 # functions are called through claim
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=tests/tap.sh
. tests/tap.sh
build=$(realpath "${MEMD_BUILD:-build/debug}")
work=$(mktemp -d)
root=$work/root
container=memd-test-$$

cleanup() {
	local pid
	for pid in $(cat "$work/nspawn.pid" 2>/dev/null); do
		kill -TERM "$pid" 2>/dev/null || true
		timeout 20 tail --pid="$pid" -f /dev/null || kill -9 "$pid" 2>/dev/null || true
	done
	rm -rf --one-file-system "$work"
}
trap cleanup EXIT

# In the container, in all of its namespaces and with its root.
inside() {
	timeout 120 nsenter --target "$(cat "$work/leader.pid")" --all -- env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin TERM=dumb "$@"
}

packages_build() {
	cpack --config "$build/CPackConfig.cmake" -B "$work/debs" >"$work/cpack.log" 2>&1 || { cat "$work/cpack.log"; return 1; }
	ls "$work"/debs/memd_*.deb "$work"/debs/memd-dev_*.deb "$work"/debs/memd-guest-agent_*.deb
}

# Nothing at all to say, warnings included.
lintian_is_silent() {
	local said
	said=$(lintian --allow-root --fail-on none "$work"/debs/*.deb 2>&1 | grep -v 'root privileges') || true
	echo "$said"
	[ -z "$said" ]
}

# depends DEB: what it needs, without versions.
depends() {
	dpkg-deb -f "$1" Depends | tr ',' '\n' | sed 's/(.*//; s/ //g' | paste -sd,
}

# The host's own mirror, so that a proxy or a cache is used.
mirror() {
	apt-get indextargets --format '$(SITE) $(RELEASE)' 'Created-By: Packages' | awk '$2 == "bookworm" {print $1; exit}'
}

root_is_made() {
	debootstrap --variant=minbase --include="systemd,systemd-sysv,procps,$(depends "$work"/debs/memd_*.deb)" bookworm \
		"$root" "$(mirror)" >"$work/debootstrap.log" 2>&1 || { tail -n 20 "$work/debootstrap.log"; return 1; }
	cp "$work"/debs/*.deb "$build/tests/guest/memd-guest" "$root/root/"
}

leader_is_up() {
	local leader
	leader=$(pgrep -P "$(cat "$work/nspawn.pid")" | head -n 1)
	[ -n "$leader" ] && echo "$leader" >"$work/leader.pid" && inside systemctl is-system-running | grep -qE 'running|degraded'
}

systemd_boots() {
	systemd-nspawn --quiet --directory="$root" --machine="$container" --register=no --keep-unit --boot --bind=/dev/kvm \
		--property=DeviceAllow='/dev/kvm rw' --capability=CAP_NET_ADMIN </dev/null >"$work/boot.log" 2>&1 &
	echo $! >"$work/nspawn.pid"
	until_true 90 leader_is_up || { tail -n 30 "$work/boot.log"; return 1; }
}

packages_install() {
	inside sh -c 'dpkg --install /root/memd_*.deb /root/memd-dev_*.deb' || return 1
	until_true 30 service_is_active || { inside journalctl --no-pager -u memd | tail -n 20; return 1; }
	inside memctl status
}

service_is_active() {
	inside systemctl is-active memd.service
}

unit_is_verified() {
	local said
	said=$(inside systemd-analyze verify memd.service memd-zram.service balloon-agent.service 2>&1 | grep -v "man " || true)
	echo "$said"
	[ -z "$said" ]
}

# In guests it is the only package; here there is no port, so it does not start, and says what it would report.
agent_installs_by_itself() {
	inside sh -c 'dpkg --install /root/memd-guest-agent_*.deb' || return 1
	! inside systemctl is-active balloon-agent.service &&
		[ "$(inside balloon-agent --show | grep -c '_bytes=')" -gt 10 ]
}

# "OK", as systemd calls it. 0.8 of it are the namespaces, mounts and changes of user with which memd-vmm and memd-policy
# shut themselves in: without those it is 3.4, and a guest's process is shut in less.
exposure_is_low() {
	inside systemd-analyze security --no-pager memd.service | tail -n 1 | tee "$work/exposure"
	awk '{for (i = 1; i <= NF; i++) if ($i ~ /^[0-9.]+$/) exit !($i <= 4.2); exit 1}' "$work/exposure"
}

guest_pid() {
	inside memctl --json show g | sed 's/.*"pid":\([0-9]*\).*/\1/'
}

guest_starts_under_the_restrictions() {
	inside memctl start g Memory=64M Kernel=/root/memd-guest CommandLine='seed=1 common_mib=8 unique_mib=8 zero_mib=4' || {
		inside journalctl --no-pager -u memd | tail -n 20
		return 1
	}
	guest_pid >"$work/guest.pid"
	until_true 60 guest_shares
}

guest_shares() {
	[ "$(inside memctl --json show g | sed 's/.*"scan_passes":\([0-9]*\).*/\1/')" -gt 0 ]
}

# A member of the group memd may act; another user may look.
group_memd_may_act() {
	inside useradd --groups memd member && inside useradd visitor || return 1
	inside runuser -u member -- memctl set-target g 48M && inside runuser -u member -- memctl set-target g auto &&
		inside runuser -u visitor -- memctl list && ! inside runuser -u visitor -- memctl set-target g 48M
}

guest_runs_on() {
	[ "$(guest_pid)" = "$(cat "$work/guest.pid")" ] && inside memctl --json show g | grep -q '"state":"running"'
}

main_pid() {
	inside systemctl show --property=MainPID --value memd.service
}

is_another_memd_than() {
	[ "$(main_pid)" != "$1" ] && [ "$(main_pid)" != 0 ] && inside memctl status
}

reload_says_what_is_wrong() {
	inside systemctl reload memd.service || return 1
	inside sh -c 'printf "[Host]\nNonsense=1\n" >/etc/memd/memd.conf.d/50-test.conf'
	! inside systemctl reload memd.service && inside journalctl --no-pager -u memd | grep -q '50-test.conf:2' || return 1
	inside rm /etc/memd/memd.conf.d/50-test.conf
	inside systemctl reload memd.service && service_is_active && guest_runs_on
}

killed_memd_comes_back_and_finds_its_guest() {
	local before
	before=$(main_pid)
	inside systemctl kill --kill-whom=main --signal=KILL memd.service
	until_true 30 is_another_memd_than "$before" && until_true 30 guest_runs_on
}

upgrade_costs_no_guest() {
	local before
	before=$(main_pid)
	inside sh -c 'dpkg --install /root/memd_*.deb' || return 1
	until_true 30 is_another_memd_than "$before" && until_true 30 guest_runs_on
}


purge_leaves_nothing() {
	local left
	inside dpkg --purge memd memd-dev memd-guest-agent || return 1
	left=$(find "$root" -xdev \( -path "$root/root" -o -path "$root/proc" -o -path "$root/var/lib/dpkg" -o -path "$root/var/log" \) \
		-prune -o \( -name '*memd*' -o -name '*balloon-agent*' \) -print; inside pgrep -a memd || true)
	echo "$left"
	[ -z "$left" ]
}

claim packages_build packages_build
claim lintian_is_silent lintian_is_silent
claim fresh_root_is_made root_is_made
# systemd-nspawn makes the root's mounts its own first, which the kernel refuses where the root is none (a chroot).
if ! mountpoint -q /; then
	echo "# left out: the root of this machine is a chroot, where systemd-nspawn cannot start; the service was not run"
	claims_done
	exit
fi
claim systemd_boots_in_it systemd_boots
claim packages_install_and_the_service_runs packages_install
claim agent_installs_by_itself agent_installs_by_itself
claim units_are_verified unit_is_verified
claim exposure_is_low exposure_is_low
claim a_guest_starts_under_all_restrictions guest_starts_under_the_restrictions
claim members_of_the_group_may_act_and_others_look group_memd_may_act
claim reload_is_waited_for_and_says_what_is_wrong reload_says_what_is_wrong
claim killed_memd_comes_back_and_finds_its_guest killed_memd_comes_back_and_finds_its_guest
claim upgrade_costs_no_guest upgrade_costs_no_guest
claim purge_leaves_nothing purge_leaves_nothing
claims_done
