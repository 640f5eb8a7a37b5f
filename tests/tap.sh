# shellcheck shell=bash
# TAP for tests that are shell scripts: sourced, then claim once for each claim, and claims_done at the end.

claims=0
claims_failed=0

# claim NAME COMMAND...: one TAP point; when it fails, what the command printed is the diagnosis.
claim() {
	local name=$1 output
	shift
	claims=$((claims + 1))
	if output=$("$@" 2>&1); then
		echo "ok $claims - $name"
	else
		echo "not ok $claims - $name"
		printf '%s\n' "$output" | tail -n 40 | sed 's/^/# /'
		claims_failed=1
	fi
}

# until_true SECONDS COMMAND...: waits until the command succeeds; its output is dropped.
until_true() {
	local end=$((SECONDS + $1))
	shift
	until "$@" >/dev/null 2>&1; do
		[ $SECONDS -lt $end ] || return 1
		sleep 0.1
	done
}

# Prints the plan; the script's last command.
claims_done() {
	echo "1..$claims"
	return $claims_failed
}
