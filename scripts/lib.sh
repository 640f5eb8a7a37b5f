# shellcheck shell=bash
# shellcheck disable=SC2034 # the variables are for the scripts that source this
# What scripts/build, scripts/test and scripts/demo share: messages, Debian packages, the state of /dev/kvm.
# Sourced, never run; changes nothing by itself.

root=$(realpath "$(dirname "${BASH_SOURCE[0]}")/..")
program=$(basename "$0")

# Debian 12 names. What each is for: HACKING.md, "Dependencies".
packages_build=(gcc libc6-dev cmake ninja-build pkg-config libsystemd-dev libxxhash-dev libjemalloc-dev
	libvirt-dev libxml2-dev libseccomp-dev libmicrohttpd-dev liburing-dev libslirp-dev libjson-c-dev libinih-dev libcmocka-dev)
packages_test=(perl dbus-daemon procps groff-base python3 curl iproute2 prometheus python3-prometheus-client
	fish zsh bsdutils debootstrap systemd-container dpkg-dev file lintian gnuplot-nox
	python3-dbus python3-gi qemu-system-x86)
packages_linux=(linux-source-6.1 make flex bison bc libelf-dev xz-utils kmod e2fsprogs)
packages_demo=(dbus-daemon kmod mount util-linux)

say() {
	printf '%s: %s\n' "$program" "$*" >&2
}

die() {
	say "$@"
	exit 1
}

usage_error() {
	say "$@"
	say "try: scripts/$program --help"
	exit 2
}

# The comment that opens the script is its help text.
print_help() {
	sed -n '2,/^$/s/^# \{0,1\}//p' "$0"
}

packages_missing() {
	local name
	for name in "$@"; do
		[ "$(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null)" = installed ] || printf '%s\n' "$name"
	done
}

# need_packages NAME...: installs what is missing; asks nothing, and touches nothing when all is there.
need_packages() {
	local missing log
	command -v dpkg-query >/dev/null || {
		say "this is no Debian: make sure yourself that there is what these packages hold: $*"
		return 0
	}
	mapfile -t missing < <(packages_missing "$@")
	[ ${#missing[@]} -gt 0 ] || return 0
	[ "$(id -u)" = 0 ] || die "missing packages; as root: apt-get install ${missing[*]}"
	say "installing ${missing[*]}"
	log=$(mktemp)
	# Another apt-get at work (a machine that has just booted updates itself) is waited for.
	if ! { apt-get update -q -o DPkg::Lock::Timeout=300 && DEBIAN_FRONTEND=noninteractive apt-get install -q -y \
		-o DPkg::Lock::Timeout=300 --no-install-recommends "${missing[@]}"; } >"$log" 2>&1 </dev/null; then
		tail -n 20 "$log" >&2
		rm -f "$log"
		die "apt-get could not install ${missing[*]}; its last lines are above"
	fi
	rm -f "$log"
}

# Says on stdout why guests cannot run here, and fails; silent success where they can.
kvm_problem() {
	if [ ! -e /dev/kvm ]; then
		echo "there is no /dev/kvm: virtualization is off in the firmware, the kvm module is not loaded," \
			"or this machine is a guest without KVM of its own"
	elif ! (exec 3<>/dev/kvm) 2>/dev/null; then
		echo "/dev/kvm is there, but $(id -un) may not open it: run as root, or join the group" \
			"$(stat -c %G /dev/kvm)"
	else
		return 0
	fi
	return 1
}
