/*
 * The metrics: one line of a table each, which says where in the host's or the guest's figures the
 * value is. Names follow the rules of OpenMetrics: base units (bytes, seconds, ratio), _total for what
 * only grows.
 */
#include "memd/metrics.h"

#include <inttypes.h>
#include <stddef.h>
#include <string.h>

#include "memd/base/clock.h"
#include "memd/manager.h"

enum scale {
	PLAIN, /* uint64_t, as it is */
	PAGES, /* uint64_t of 4 KiB, shown in bytes */
	MICROSECONDS, /* uint64_t, shown in seconds */
	BASIS_POINTS, /* uint32_t, shown as a ratio */
	NUMBER, /* uint32_t, as it is */
	CLAIM, /* uint64_t bytes of which UINT64_MAX says that there are none: then no sample */
};

enum kind { GAUGE, COUNTER };

struct metric {
	const char *name; /* without _total */
	const char *unit; /* that the name ends in; NULL: none */
	const char *help;
	enum kind kind;
	enum scale scale;
	size_t offset;
};

/* clang-format off */
#define HOST(name, unit, kind, scale, field, help) \
	{"memd_host_" name, unit, help, kind, scale, offsetof(struct manager, field)}
#define GUEST(name, unit, kind, scale, field, help) \
	{"memd_guest_" name, unit, help, kind, scale, offsetof(struct guest, field)}

static const struct metric host_metrics[] = {
	HOST("budget_bytes", "bytes", GAUGE, PLAIN, budget_bytes,
		"What guests and memd together may take of the host's memory."),
	HOST("memory_bytes", "bytes", GAUGE, PLAIN, memory_total_bytes, "Memory of the host."),
	HOST("used_bytes", "bytes", GAUGE, PLAIN, figures.used_bytes,
		"What guests, pools, swap in memory and memd take of the host now."),
	HOST("used_peak_bytes", "bytes", GAUGE, PLAIN, figures.peak_used_bytes,
		"The most that was used since memd started."),
	HOST("configured_bytes", "bytes", GAUGE, PLAIN, figures.configured_bytes,
		"Memory that the guests were given, added up."),
	HOST("private_bytes", "bytes", GAUGE, PLAIN, figures.guest_private_bytes,
		"Guest memory that no other guest shares."),
	HOST("pool_bytes", "bytes", GAUGE, PLAIN, figures.pool_bytes,
		"Shared pages, each counted once."),
	HOST("swap_used_bytes", "bytes", GAUGE, PLAIN, figures.swap_used_bytes,
		"Guest memory that is paged out."),
	HOST("swap_occupied_bytes", "bytes", GAUGE, PLAIN, figures.swap_occupied_bytes,
		"What that takes of the host's memory, compressed."),
	HOST("overhead_bytes", "bytes", GAUGE, PLAIN, figures.overhead_bytes,
		"memd itself, its policy's process, the pools', and the guests' beside their "
		"memory."),
	HOST("policy_bytes", "bytes", GAUGE, PLAIN, figures.policy_bytes,
		"Of the overhead: the process of a policy that is not built in, and what it runs."),
	HOST("saved_sharing_bytes", "bytes", GAUGE, PLAIN, figures.saved_sharing_bytes,
		"Memory saved by sharing equal pages."),
	HOST("saved_zero_bytes", "bytes", GAUGE, PLAIN, figures.saved_zero_bytes,
		"Memory saved by dropping pages of zeros."),
	HOST("saved_balloon_bytes", "bytes", GAUGE, PLAIN, figures.saved_balloon_bytes,
		"Memory that guests gave by balloon or reported free."),
	HOST("saved_paging_bytes", "bytes", GAUGE, PLAIN, figures.saved_paging_bytes,
		"Memory saved by page-out."),
	HOST("ledger_mismatch_ratio", "ratio", GAUGE, BASIS_POINTS, figures.ledger_mismatch_bp,
		"How far memd's sums are from the kernel's figures."),
	HOST("guests", NULL, GAUGE, NUMBER, figures.n_guests, "Guests that memd looks after."),
	HOST("ticks", NULL, COUNTER, PLAIN, figures.ticks, "Control ticks since memd started."),
	HOST("tick_interval_seconds", "seconds", GAUGE, MICROSECONDS, config.tick_us,
		"How often memory is measured and targets are decided (TickInterval=)."),
	HOST("allocated_bytes", "bytes", GAUGE, PLAIN, figures.allocated_bytes,
		"Heap of the memd process."),
};

static const struct metric guest_metrics[] = {
	GUEST("configured_bytes", "bytes", GAUGE, PLAIN, config.memory_bytes, "Memory it was given."),
	GUEST("min_bytes", "bytes", GAUGE, PLAIN, min_bytes, "Its floor (MemoryMin=)."),
	GUEST("max_bytes", "bytes", GAUGE, PLAIN, max_bytes, "Its limit (MemoryMax=)."),
	GUEST("target_bytes", "bytes", GAUGE, PLAIN, target_bytes, "What the policy gives it."),
	GUEST("resident_bytes", "bytes", GAUGE, PLAIN, ledger.resident_bytes,
		"What it takes of the host: private pages, its part of shared ones, overhead."),
	GUEST("private_bytes", "bytes", GAUGE, PLAIN, ledger.private_bytes,
		"Its memory that nobody shares."),
	GUEST("shared_bytes", "bytes", GAUGE, PLAIN, ledger.shared_bytes,
		"Its memory that is mapped from the pool."),
	GUEST("shared_cost_bytes", "bytes", GAUGE, PLAIN, ledger.shared_cost_bytes,
		"Its part of the pool."),
	GUEST("swapped_bytes", "bytes", GAUGE, PLAIN, ledger.swapped_bytes,
		"Its memory that is paged out."),
	GUEST("hole_untouched_bytes", "bytes", GAUGE, PLAIN, ledger.hole_untouched_bytes,
		"Its memory that it never touched."),
	GUEST("hole_zero_bytes", "bytes", GAUGE, PLAIN, ledger.hole_zero_bytes,
		"Its pages of zeros that were dropped."),
	GUEST("hole_balloon_bytes", "bytes", GAUGE, PLAIN, ledger.hole_balloon_bytes,
		"Its memory in the balloon."),
	GUEST("hole_reported_bytes", "bytes", GAUGE, PLAIN, ledger.hole_reported_bytes,
		"Its memory that it reported free."),
	GUEST("hole_hinted_bytes", "bytes", GAUGE, PLAIN, ledger.hole_hinted_bytes,
		"Its memory that it hinted to be free when it was asked."),
	GUEST("overhead_bytes", "bytes", GAUGE, PLAIN, ledger.overhead_bytes,
		"What its process takes beside its memory."),
	GUEST("saved_sharing_bytes", "bytes", GAUGE, PLAIN, ledger.saved_sharing_bytes,
		"Memory saved in it by sharing."),
	GUEST("saved_zero_bytes", "bytes", GAUGE, PLAIN, ledger.saved_zero_bytes,
		"Memory saved in it by dropping pages of zeros."),
	GUEST("saved_balloon_bytes", "bytes", GAUGE, PLAIN, ledger.saved_balloon_bytes,
		"Memory that it gave by balloon or reported free."),
	GUEST("saved_paging_bytes", "bytes", GAUGE, PLAIN, ledger.saved_paging_bytes,
		"Memory saved in it by page-out."),
	GUEST("balloon_target_bytes", "bytes", GAUGE, PAGES, sample.after.balloon_target_pages,
		"What its balloon was asked to hold."),
	GUEST("balloon_bytes", "bytes", GAUGE, PAGES, sample.after.balloon_actual_pages,
		"What its balloon holds."),
	GUEST("available_bytes", "bytes", GAUGE, CLAIM, sample.after.guest_available_bytes,
		"What it says that it could give without paging."),
	GUEST("free_bytes", "bytes", GAUGE, CLAIM, sample.after.guest_free_bytes,
		"What it says is free in it."),
	GUEST("refault_bytes", "bytes", COUNTER, PAGES, reclaim.refault_pages,
		"Its memory that was paged out and came back."),
	GUEST("page_out_bytes", "bytes", COUNTER, PAGES, reclaim.out_pages_total,
		"Its memory that was paged out."),
	GUEST("major_faults", NULL, COUNTER, CLAIM, sample.after.guest_major_faults,
		"Major page faults that it says it had."),
	GUEST("scan_passes", NULL, COUNTER, PLAIN, sample.after.scan_passes,
		"Passes of its sharing scanner."),
	GUEST("scan_cpu_seconds", "seconds", COUNTER, MICROSECONDS, sample.after.scan_cpu_us,
		"Processor time of its sharing scanner."),
	GUEST("memory_waits", NULL, COUNTER, PLAIN, sample.after.memory_waits,
		"How often it waited since no memory could be had."),
	GUEST("mappings", NULL, GAUGE, PLAIN, sample.after.ram_mappings,
		"Mappings that its memory consists of; vm.max_map_count limits them."),
	GUEST("device_resets", NULL, COUNTER, PLAIN, sample.after.device_needs_reset,
		"How often it misused a device."),
	GUEST("working_set_bytes", "bytes", GAUGE, PLAIN, wss.figures.bytes,
		"What it really uses, by sampling; 0 while nobody knows."),
	GUEST("stall_some_60_ratio", "ratio", GAUGE, BASIS_POINTS, stall.figures.some_60_bp,
		"Part of the last minute that some of it waited for memory."),
	GUEST("stall_full_60_ratio", "ratio", GAUGE, BASIS_POINTS, stall.figures.full_60_bp,
		"Part of the last minute that all of it waited for memory."),
	GUEST("stall_some_seconds", "seconds", COUNTER, MICROSECONDS, stall.figures.some_us,
		"Time that some of it waited for memory."),
	GUEST("ledger_mismatch_ratio", "ratio", GAUGE, BASIS_POINTS, ledger.mismatch_bp,
		"How far its figures are from the kernel's."),
};
/* clang-format on */

/* OpenMetrics names the family, the older format the sample. */
static void print_head(FILE *f, enum metrics_format format, const struct metric *metric)
{
	const char *suffix =
		format == METRICS_PROMETHEUS && metric->kind == COUNTER ? "_total" : "";

	fprintf(f, "# TYPE %s%s %s\n", metric->name, suffix,
		metric->kind == COUNTER ? "counter" : "gauge");
	if (format == METRICS_OPENMETRICS && metric->unit)
		fprintf(f, "# UNIT %s %s\n", metric->name, metric->unit);
	fprintf(f, "# HELP %s%s %s\n", metric->name, suffix, metric->help);
}

static uint64_t read_u64(const void *object, size_t offset)
{
	uint64_t v;

	memcpy(&v, (const char *)object + offset, sizeof(v));
	return v;
}

static uint32_t read_u32(const void *object, size_t offset)
{
	uint32_t v;

	memcpy(&v, (const char *)object + offset, sizeof(v));
	return v;
}

/* labels: "" or "{...}" */
static void print_sample(
	FILE *f, const struct metric *metric, const void *object, const char *labels)
{
	const char *suffix = metric->kind == COUNTER ? "_total" : "";
	uint64_t v;

	if (metric->scale == CLAIM && read_u64(object, metric->offset) == UINT64_MAX)
		return;
	fprintf(f, "%s%s%s ", metric->name, suffix, labels);
	switch (metric->scale) {
	case PAGES:
		fprintf(f, "%" PRIu64 "\n", read_u64(object, metric->offset) * PAGE_BYTES);
		break;
	case MICROSECONDS:
		v = read_u64(object, metric->offset);
		fprintf(f, "%" PRIu64 ".%06" PRIu64 "\n", v / US_PER_S, v % US_PER_S);
		break;
	case BASIS_POINTS:
		v = read_u32(object, metric->offset);
		fprintf(f, "%" PRIu64 ".%04" PRIu64 "\n", v / 10000, v % 10000);
		break;
	case NUMBER:
		fprintf(f, "%" PRIu32 "\n", read_u32(object, metric->offset));
		break;
	default:
		fprintf(f, "%" PRIu64 "\n", read_u64(object, metric->offset));
	}
}

/* Names of guests hold nothing that would need escapes (guest_name_valid). */
static void guest_labels(const struct guest *g, char *ret, size_t size)
{
	snprintf(ret, size, "{guest=\"%s\"}", g->name);
}

static void print_guest_flags(FILE *f, const struct manager *m, enum metrics_format format)
{
	static const struct metric state = {
		.name = "memd_guest_state", .help = "1 for the state that the guest is in."};
	static const struct metric fixed = {
		.name = "memd_guest_target_fixed", .help = "1 when the operator fixed its target."};
	static const struct metric stuck = {.name = "memd_guest_balloon_stuck",
		.help = "1 when its balloon makes no progress, so that paging carries the rest."};

	print_head(f, format, &state);
	for (size_t i = 0; i < m->n_guests; i++)
		for (int s = GUEST_STARTING; s <= GUEST_FAILED; s++)
			fprintf(f, "memd_guest_state{guest=\"%s\",state=\"%s\"} %d\n",
				m->guests[i]->name, guest_state_name((enum guest_state)s),
				m->guests[i]->state == (enum guest_state)s);
	print_head(f, format, &fixed);
	for (size_t i = 0; i < m->n_guests; i++)
		fprintf(f, "%s{guest=\"%s\"} %d\n", fixed.name, m->guests[i]->name,
			m->guests[i]->fixed_bytes != 0);
	print_head(f, format, &stuck);
	for (size_t i = 0; i < m->n_guests; i++)
		fprintf(f, "%s{guest=\"%s\"} %d\n", stuck.name, m->guests[i]->name,
			m->guests[i]->balloon.stuck);
}

static void print_host_flags(FILE *f, const struct manager *m, enum metrics_format format)
{
	static const struct metric state = {
		.name = "memd_host_state", .help = "1 for the state that the host's memory is in."};
	static const struct metric build = {
		.name = "memd_build_info", .help = "Always 1; the labels tell."};

	print_head(f, format, &state);
	for (int s = MEMD_HOST_HIGH; s <= MEMD_HOST_LOW; s++)
		fprintf(f, "memd_host_state{state=\"%s\"} %d\n",
			host_state_name((enum memd_host_state)s),
			m->host_state == (enum memd_host_state)s);
	print_head(f, format, &build);
	fprintf(f, "memd_build_info{version=\"%s\",policy=\"%s\",cgroups=\"%s\"} 1\n",
		m->figures.version, m->config.policy,
		m->figures.cgroup_mode ? m->figures.cgroup_mode : "");
}

void metrics_print(FILE *f, const struct manager *m, enum metrics_format format)
{
	char labels[CONFIG_GUEST_NAME_MAX + 16];

	for (size_t i = 0; i < ARRAY_SIZE(host_metrics); i++) {
		print_head(f, format, &host_metrics[i]);
		print_sample(f, &host_metrics[i], m, "");
	}
	print_host_flags(f, m, format);
	/* A family stays together: all guests of one, then the next. */
	for (size_t i = 0; m->n_guests && i < ARRAY_SIZE(guest_metrics); i++) {
		print_head(f, format, &guest_metrics[i]);
		for (size_t j = 0; j < m->n_guests; j++) {
			guest_labels(m->guests[j], labels, sizeof(labels));
			print_sample(f, &guest_metrics[i], m->guests[j], labels);
		}
	}
	if (m->n_guests)
		print_guest_flags(f, m, format);
	if (format == METRICS_OPENMETRICS)
		fputs("# EOF\n", f);
}
