# shellcheck shell=bash
# A swap device in compressed memory (zram) for one script: sourced by scripts/demo and by tests. zram_up, and zram_down
# on every way out.

zram= # its name, "zram0"; empty: none
zram_is_ours=no

# zram_up SIZE: one of our own, preferred to all other swap. When it fails, zram_problem says why.
zram_up() {
	local control=/sys/class/zram-control number
	zram_problem="this host has no zram device to spare (module zram; CONFIG_ZRAM)"
	[ -e $control ] || modprobe zram 2>/dev/null || true
	if [ -r $control/hot_add ] && number=$(cat $control/hot_add 2>/dev/null); then
		zram_is_ours=yes
		zram=zram$number
	elif [ "$(cat /sys/block/zram0/disksize 2>/dev/null)" = 0 ]; then
		zram=zram0
	else
		return 1
	fi
	[ -b "/dev/$zram" ] || mknod "/dev/$zram" b "$(cut -d: -f1 "/sys/block/$zram/dev")" "$(cut -d: -f2 "/sys/block/$zram/dev")"
	echo "$1" >"/sys/block/$zram/disksize"
	mkswap "/dev/$zram" >/dev/null
	# shellcheck disable=SC2034 # whoever called shows it
	zram_problem="swapon /dev/$zram failed"
	swapon -p 32767 "/dev/$zram"
}

zram_down() {
	local i
	[ -n "$zram" ] || return 0
	# fails while others' guests, whose pages are on it too, have no memory to take them back
	for ((i = 0; i < 50; i++)); do
		swapoff "/dev/$zram" 2>/dev/null && break
		grep -q "^/dev/$zram " /proc/swaps || break
		sleep 0.2
	done
	echo 1 >"/sys/block/$zram/reset" 2>/dev/null || echo "could not reset /dev/$zram" >&2
	if [ $zram_is_ours = yes ]; then
		echo "${zram#zram}" >/sys/class/zram-control/hot_remove 2>/dev/null || echo "could not remove /dev/$zram" >&2
	fi
	zram=
}
