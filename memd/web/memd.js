// Reads /metrics every two seconds and draws what came since the page was opened. Nothing but text goes into the
// document (textContent), and nothing is asked of anybody but memd.
"use strict";

const INTERVAL_MS = 2000;
const KEPT = 450; // 15 minutes
const PARTS = [ // bottom up, as they add up to what is used
	["private", "private", "memd_host_private_bytes"],
	["pool", "shared pages", "memd_host_pool_bytes"],
	["swap", "swap in memory", "memd_host_swap_occupied_bytes"],
	["overhead", "overhead", "memd_host_overhead_bytes"],
];
const history = []; // of the host: one map a reading
const guests = new Map(); // name -> readings
let sortKey = "name", sortUp = true;

// "name{a=\"b\"} 1" -> {name: [{labels, value}]}
function parse(text) {
	const families = {};
	for (const line of text.split("\n")) {
		const m = /^([a-z_]+)(?:\{(.*)\})? (\S+)$/.exec(line);
		if (!m) continue;
		const labels = {};
		for (const label of (m[2] || "").matchAll(/([a-z]+)="((?:[^"\\]|\\.)*)"/g)) labels[label[1]] = label[2];
		(families[m[1]] ||= []).push({labels, value: Number(m[3])});
	}
	return families;
}

function size(bytes) {
	const units = ["B", "KiB", "MiB", "GiB", "TiB"];
	let i = 0;
	while (bytes >= 1024 && i < units.length - 1) { bytes /= 1024; i++; }
	return (bytes < 10 && i ? bytes.toFixed(1) : Math.round(bytes)) + " " + units[i];
}

function element(kind, name, attributes) {
	const e = kind === "svg" ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
	for (const key in attributes) e.setAttribute(key, attributes[key]);
	return e;
}

// Points of the readings from left to right; newest at the right edge.
function points(values, width, height, most) {
	const step = width / (Math.max(values.length, 30) - 1);
	const left = width - step * (values.length - 1);
	return values.map((v, i) => (left + i * step).toFixed(1) + "," + (height - v / most * height).toFixed(1));
}

function area(upper, lower, className, width, height, most) {
	const path = points(upper, width, height, most).concat(points(lower, width, height, most).reverse());
	return element("svg", "polygon", {points: path.join(" "), class: className});
}

function line(values, className, width, height, most) {
	return element("svg", "polyline", {points: points(values, width, height, most).join(" "), class: className});
}

function drawHost() {
	const svg = document.getElementById("host"), now = history[history.length - 1];
	const budget = now.memd_host_budget_bytes;
	const most = Math.max(budget * 1.1, ...history.map(h => h.memd_host_used_bytes));
	let below = history.map(() => 0);
	svg.replaceChildren();
	for (const [className, , key] of PARTS) {
		const upper = history.map((h, i) => below[i] + (h[key] || 0));
		svg.append(area(upper, below, className, 900, 200, most));
		below = upper;
	}
	svg.append(element("svg", "line", {x1: 0, x2: 900, y1: 200 - budget / most * 200, y2: 200 - budget / most * 200, class: "budget"}));
	const legend = document.getElementById("legend");
	legend.replaceChildren(...PARTS.map(([className, title, key]) => {
		const span = element("", "span"), box = element("", "i", {class: className});
		span.append(box, title + " " + size(now[key] || 0));
		return span;
	}));
	document.getElementById("saved").textContent = "saved by sharing " + size(now.memd_host_saved_sharing_bytes)
		+ ", by zero pages " + size(now.memd_host_saved_zero_bytes) + ", by balloons " + size(now.memd_host_saved_balloon_bytes)
		+ ", by paging " + size(now.memd_host_saved_paging_bytes);
	document.getElementById("sum").textContent = size(now.memd_host_used_bytes) + " used of a budget of " + size(budget)
		+ "; " + now.memd_host_guests + " guests were given " + size(now.memd_host_configured_bytes);
}

function sparkline(readings) {
	const svg = element("svg", "svg", {viewBox: "0 0 320 34", preserveAspectRatio: "none"});
	const most = Math.max(1, ...readings.map(r => Math.max(r.configured, r.resident)));
	svg.append(area(readings.map(r => r.resident), readings.map(() => 0), "cost", 320, 34, most));
	if (readings.some(r => r.wss)) svg.append(line(readings.map(r => r.wss || 0), "wss", 320, 34, most));
	svg.append(line(readings.map(r => r.target), "target", 320, 34, most));
	return svg;
}

function drawGuests() {
	const rows = [...guests.values()].map(readings => ({readings, now: readings[readings.length - 1]}));
	rows.sort((a, b) => (a.now[sortKey] < b.now[sortKey] ? -1 : a.now[sortKey] > b.now[sortKey] ? 1 : 0) * (sortUp ? 1 : -1));
	document.getElementById("guests").replaceChildren(...rows.map(({readings, now}) => {
		const tr = element("", "tr");
		for (const text of [now.name, now.state, size(now.configured), size(now.resident),
			size(now.target) + (now.fixed ? " *" : ""), size(now.shared), size(now.swapped), size(now.balloon)]) {
			const td = element("", "td");
			td.textContent = text;
			tr.append(td);
		}
		const td = element("", "td");
		td.append(sparkline(readings));
		tr.append(td);
		return tr;
	}));
	for (const th of document.querySelectorAll("th[data-key]")) {
		th.classList.toggle("sorted", th.dataset.key === sortKey);
		th.classList.toggle("up", sortUp);
	}
}

function note(families) {
	const host = {};
	for (const name in families) if (name.startsWith("memd_host_") && name !== "memd_host_state") host[name] = families[name][0].value;
	history.push(host);
	if (history.length > KEPT) history.shift();
	const present = {};
	const fields = {configured: "configured_bytes", resident: "resident_bytes", target: "target_bytes", shared: "shared_bytes",
		swapped: "swapped_bytes", balloon: "balloon_bytes", wss: "working_set_bytes", fixed: "target_fixed"};
	for (const field in fields)
		for (const s of families["memd_guest_" + fields[field]] || [])
			(present[s.labels.guest] ||= {name: s.labels.guest})[field] = s.value;
	for (const s of families.memd_guest_state || []) if (s.value === 1) present[s.labels.guest].state = s.labels.state;
	for (const name of [...guests.keys()]) if (!present[name]) guests.delete(name);
	for (const name in present) {
		const readings = guests.get(name) || [];
		readings.push(present[name]);
		if (readings.length > KEPT) readings.shift();
		guests.set(name, readings);
	}
	const state = (families.memd_host_state || []).find(s => s.value === 1);
	showState(state ? state.labels.state : "?");
}

function showState(state) {
	const e = document.getElementById("state");
	e.textContent = state;
	e.className = "state " + state;
}

async function turn() {
	try {
		const reply = await fetch("/metrics", {cache: "no-store"});
		if (!reply.ok) throw new Error(reply.status);
		note(parse(await reply.text()));
		drawHost();
		drawGuests();
		document.getElementById("clock").textContent = new Date().toLocaleTimeString();
	} catch (e) {
		showState("lost"); // memd restarts, or is gone; the next turn tries again
	}
	setTimeout(turn, INTERVAL_MS);
}

for (const th of document.querySelectorAll("th[data-key]"))
	th.addEventListener("click", () => {
		sortUp = sortKey === th.dataset.key ? !sortUp : th.dataset.key === "name";
		sortKey = th.dataset.key;
		drawGuests();
	});
turn();
