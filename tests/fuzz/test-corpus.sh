#!/usr/bin/env bash
# Every fuzz target over its corpus, as a regression: one TAP point a target. Targets are built as
# $MEMD_BUILD/tests/fuzz/fuzz-NAME, their inputs lie in tests/fuzz/corpus/NAME/.

set -euo pipefail
shopt -s nullglob
here=$(dirname "$0")
targets=("${MEMD_BUILD:?}"/tests/fuzz/fuzz-*)
echo "1..${#targets[@]}"
n=0
for target in "${targets[@]}"; do
	n=$((n + 1))
	name=$(basename "$target")
	if output=$("$target" "$here/corpus/${name#fuzz-}"/* 2>&1); then
		echo "ok $n - $name over its corpus"
	else
		echo "not ok $n - $name over its corpus"
		printf '%s\n' "$output" | tail -n 30 | sed 's/^/# /'
	fi
done
