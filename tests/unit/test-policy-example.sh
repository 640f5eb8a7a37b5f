#!/usr/bin/env bash
# The examples of policies are built and tried as their readers would: with the installed header alone, outside this
# tree, by memd-policy --check.

# shellcheck disable=SC2317 # functions are called through claim
set -euo pipefail
cd "$(dirname "$0")/../.."
helper=$(realpath "${MEMD_BUILD:?}/policy/memd-policy")
work=$(mktemp -d)
chmod 755 "$work"
trap 'rm -rf "$work"' EXIT
# shellcheck source=tests/tap.sh
. tests/tap.sh

plugin_is_short() {
	[ "$(sed '/^$/d' policy/examples/even.c | wc -l)" -le 36 ]
}

plugin_is_built_with_the_header_alone() {
	install -D -m 644 policy/include/memd/policy.h "$work/include/memd/policy.h"
	cp policy/examples/even.c "$work"
	(cd "$work" && "${CC:-cc}" -std=c11 -pedantic -Wall -Wextra -Werror -I include -shared -fPIC -o even.so even.c)
}

# is_good POLICY [KEY=VALUE...]
is_good() {
	"$helper" --check "$@" >"$work/out" 2>&1 || {
		cat "$work/out"
		return 1
	}
	[ "$(tail -n 1 "$work/out")" = good ] && grep -q 'busy .* of 1 GiB: ' "$work/out"
}

# is_refused PATTERN POLICY [KEY=VALUE...]
is_refused() {
	local pattern=$1
	shift
	if "$helper" --check "$@" >"$work/out" 2>&1; then return 1; fi
	cat "$work/out"
	grep -q -- "$pattern" "$work/out"
}

naughty() {
	cp "$MEMD_BUILD/tests/abi/naughty.so" "$work"
	is_refused "$1" "$work/naughty.so" "Do=$2"
}

claim plugin_is_short plugin_is_short
claim plugin_is_built_with_the_header_alone plugin_is_built_with_the_header_alone
claim plugin_is_good is_good "$work/even.so"
claim setting_that_the_plugin_does_not_take_is_refused is_refused "takes no settings" "$work/even.so" Colour=red
claim program_is_good is_good "$(install -m 755 policy/examples/even.py "$work" && echo "$work/even.py")"
claim setting_that_the_program_does_not_take_is_refused is_refused "no setting Colour=" "$work/even.py" Colour=red
claim builtin_policy_is_good is_good proportional
claim unknown_policy_is_refused is_refused "no built-in policy" nonsense
claim rubbish_is_refused naughty "18446744073709551615 bytes proposed" rubbish
claim proposal_without_reason_is_refused naughty "without a reason" say-nothing
claim failing_policy_is_refused naughty "evaluate() failed" fail
claims_done
