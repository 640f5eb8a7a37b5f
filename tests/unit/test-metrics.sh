#!/usr/bin/env bash
# What memd says over HTTP: formats that their checkers accept, figures that are the bus's, a Prometheus that scrapes
# them, and no way in. memd is real, its guests are fakes.

# shellcheck disable=SC2317 # functions are called through claim
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=tests/tap.sh
. tests/tap.sh
build=$(realpath "${MEMD_BUILD:-build/debug}")
work=$(mktemp -d)
guests=(a b c-3)
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
	timeout 40 "$build/memd/memctl" "$@"
}

free_port() {
	/usr/bin/python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}
port=$(free_port)
prometheus_port=$(free_port)

over_socket() {
	curl -sS --max-time 20 --unix-socket "$work/run/metrics.sock" "http://memd$1" "${@:2}"
}

over_tcp() {
	curl -sS --max-time 20 "http://127.0.0.1:$port$1" "${@:2}"
}

openmetrics() {
	over_socket /metrics -H 'Accept: application/openmetrics-text'
}

configure() {
	printf '[Host]\nHostMemoryBudget=256M\nTickInterval=200ms\nCgroup=off\nVmmPath=%s\n[Share]\nMode=zero-only\n%s\n' \
		"$build/tests/unit/fake-vmm" "$1" >"$work/memd.conf"
}

comes_up() {
	local name
	mkdir -p "$work/guests.d"
	configure ''
	dbus-daemon --config-file=tests/private-bus.conf --address="$MEMD_BUS" --nofork >"$work/dbus.log" 2>&1 &
	echo $! >"$work/bus.pid"
	until_true 20 test -S "$work/bus" || return 1
	"$build/memd/memd" --config "$work/memd.conf" --guests-dir "$work/guests.d" --bus "$MEMD_BUS" \
		--runtime-dir "$work/run" --state-dir "$work/state" >"$work/memd.log" 2>&1 </dev/null &
	echo $! >"$work/memd.pid"
	until_true 20 memctl status || return 1
	for name in "${guests[@]}"; do memctl start "$name" Memory=32M Kernel=/none || return 1; done
}

no_port_unless_configured() {
	! over_tcp /metrics
}

socket_is_for_its_group() {
	[ "$(stat -c %a "$work/run/metrics.sock")" = 660 ]
}

# The reference parser of OpenMetrics, strict about order, types, units and the end mark.
reference_parser_accepts() {
	until_true 20 grep -q 'memd_guest_private_bytes{guest="a"} [1-9]' <(openmetrics) || true
	openmetrics >"$work/openmetrics"
	/usr/bin/python3 - "$work/openmetrics" <<-'END'
		import sys
		from prometheus_client.openmetrics.parser import text_string_to_metric_families
		families = list(text_string_to_metric_families(open(sys.argv[1]).read()))
		for f in families:
		    assert f.documentation, f.name
		    assert not f.unit or f.name.endswith("_" + f.unit), f.name
		print(len(families), "families")
		assert len(families) > 40
	END
}

promtool_accepts() {
	over_socket /metrics >"$work/plain"
	promtool check metrics <"$work/plain"
}

formats_are_negotiated() {
	over_socket /metrics -o /dev/null -w '%{content_type}\n' | grep -q '^text/plain; version=0.0.4' &&
		over_socket /metrics -o /dev/null -w '%{content_type}\n' -H 'Accept: application/openmetrics-text; version=1.0.0' |
		grep -q '^application/openmetrics-text; version=1.0.0'
}

figures_are_the_buss() {
	local name
	openmetrics >"$work/openmetrics"
	grep -x "memd_host_configured_bytes $((3 * 32 * 1024 * 1024))" "$work/openmetrics" || return 1
	grep -x "memd_host_guests 3" "$work/openmetrics" || return 1
	for name in "${guests[@]}"; do
		grep -Fx "memd_guest_min_bytes{guest=\"$name\"} $(memctl --json show "$name" |
			sed 's/.*"min_bytes":\([0-9]*\).*/\1/')" "$work/openmetrics" || return 1
		grep -Fx "memd_guest_state{guest=\"$name\",state=\"running\"} 1" "$work/openmetrics" || return 1
	done
}

reload_opens_the_port() {
	configure "[Metrics]
HttpPort=$port"
	memctl reload && over_tcp /metrics >"$work/plain" && grep -q memd_host_used_bytes "$work/plain" &&
		over_socket /metrics >/dev/null
}

# status CODE CURL-ARGUMENT...
status_is() {
	local got
	got=$(curl -sS --max-time 20 -o /dev/null -w '%{http_code}' "${@:2}")
	echo "$got"
	[ "$got" = "$1" ]
}

foreign_names_are_refused() {
	status_is 403 -H 'Host: evil.example' "http://127.0.0.1:$port/metrics" &&
		status_is 403 -H 'Host:' "http://127.0.0.1:$port/" &&
		status_is 403 -H "Host: 127.0.0.1.evil.example:$port" "http://127.0.0.1:$port/" &&
		status_is 200 -H "Host: localhost:$port" "http://127.0.0.1:$port/metrics"
}

only_reading_is_served() {
	status_is 405 -X POST -d x=1 "http://127.0.0.1:$port/metrics" && status_is 405 -X DELETE "http://127.0.0.1:$port/" &&
		status_is 200 -I "http://127.0.0.1:$port/" && status_is 404 "http://127.0.0.1:$port/etc/passwd" &&
		status_is 404 --path-as-is "http://127.0.0.1:$port/../../etc/passwd"
}

nothing_listens_but_on_loopback() {
	ss -Hltn "sport = :$port" | awk '{print $4}' >"$work/listeners"
	cat "$work/listeners"
	[ "$(cat "$work/listeners")" = "127.0.0.1:$port" ]
}

ticks() {
	memctl --json status | sed 's/.*"ticks":\([0-9]*\).*/\1/'
}

# More clients than are let in, who say nothing or half of a request.
silent_clients_delay_nothing() {
	/usr/bin/python3 - "$port" <<-'END' &
		import socket, sys, time
		s = []
		for i in range(100):
		    c = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
		    if i % 2: c.send(b"GET /metrics HTTP/1.1\r\nHost: local")
		    s.append(c)
		time.sleep(60)
	END
	echo $! >"$work/silent.pid"
	local before
	sleep 1
	before=$(ticks)
	until_true 10 ticks_above $((before + 10)) && over_socket /metrics >/dev/null || return 1
	kill "$(cat "$work/silent.pid")"
	until_true 20 over_tcp /metrics
}

ticks_above() {
	[ "$(ticks)" -gt "$1" ]
}

rules_are_good() {
	promtool check rules packaging/prometheus/memd.rules.yml || return 1
	cp packaging/prometheus/memd.rules.yml tests/unit/prometheus-rules-test.yml "$work/"
	(cd "$work" && promtool test rules prometheus-rules-test.yml)
}

query() {
	curl -sS --max-time 20 "http://127.0.0.1:$prometheus_port/api/v1/query" --data-urlencode "query=$1"
}

query_is() {
	query "$1" | /usr/bin/python3 -c 'import json, sys
r = json.load(sys.stdin)["data"]["result"]
assert r and all(float(x["value"][1]) == float(sys.argv[1]) for x in r), r' "$2"
}

prometheus_scrapes() {
	cat >"$work/prometheus.yml" <<-END
		global: {scrape_interval: 1s, evaluation_interval: 1s}
		rule_files: [$PWD/packaging/prometheus/memd.rules.yml]
		scrape_configs: [{job_name: memd, static_configs: [{targets: ["127.0.0.1:$port"]}]}]
	END
	promtool check config "$work/prometheus.yml" || return 1
	prometheus --config.file="$work/prometheus.yml" --storage.tsdb.path="$work/tsdb" \
		--web.listen-address="127.0.0.1:$prometheus_port" >"$work/prometheus.log" 2>&1 </dev/null &
	echo $! >"$work/prometheus.pid"
	until_true 60 query_is 'up{job="memd"}' 1 && until_true 30 query_is memd_host_guests 3 &&
		until_true 30 query_is 'count(memd_guest_resident_bytes > 0)' 3 &&
		until_true 30 query_is 'count(memd_host_ticks_total > 0)' 1
}

# Every metric that a panel or an alert asks for is one that memd has.
dashboard_and_rules_ask_for_what_there_is() {
	openmetrics >"$work/openmetrics"
	/usr/bin/python3 - "$work/openmetrics" packaging/grafana/memd.json packaging/prometheus/memd.rules.yml <<-'END'
		import json, re, sys
		have = set(re.findall(r"^(memd_\w+)", open(sys.argv[1]).read(), re.M))
		d = json.load(open(sys.argv[2]))
		text = " ".join(t["expr"] for p in d["panels"] for t in p["targets"])
		text += " ".join(re.findall(r"expr: (.*)", open(sys.argv[3]).read()))
		wanted = set(re.findall(r"\bmemd_\w+", text))
		print(len(wanted), "metrics asked for; missing:", wanted - have)
		assert wanted and wanted <= have
	END
}

page_is_served_whole() {
	local file
	for file in index.html memd.js memd.css; do
		over_socket "/${file/index.html/}" | cmp - "memd/web/$file" || return 1
	done
	over_socket / -D - -o /dev/null | grep -qi "^content-security-policy: default-src 'none'"
}

claim memd_and_guests_come_up comes_up
claim no_port_is_open_unless_configured no_port_unless_configured
claim socket_is_for_its_group_only socket_is_for_its_group
claim reference_parser_of_openmetrics_accepts_it reference_parser_accepts
claim promtool_check_metrics_accepts_it promtool_accepts
claim format_is_what_the_scraper_asks_for formats_are_negotiated
claim figures_are_those_of_the_bus figures_are_the_buss
claim page_is_served_as_it_is_in_the_tree page_is_served_whole
claim reload_opens_the_port reload_opens_the_port
claim names_of_others_are_refused foreign_names_are_refused
claim there_is_nothing_but_reading only_reading_is_served
claim nothing_listens_but_on_loopback nothing_listens_but_on_loopback
claim silent_clients_delay_no_tick silent_clients_delay_nothing
claim alert_rules_fire_when_they_should rules_are_good
claim a_real_prometheus_scrapes_it prometheus_scrapes
claim dashboard_and_rules_ask_for_what_there_is dashboard_and_rules_ask_for_what_there_is
claims_done
