/*
 * bench-dedup: memd's page sharing beside the kernel's (ksmd), over the same bytes, in the same kind
 * of process: guests of memd-vmm that verify their memory meanwhile. Each engine gets fresh guests,
 * filled alike (layout.h), and runs until it frees no more; then passes over unchanged memory and
 * over memory of which 1 % was written are measured.
 *
 * DOC: what counts
 *
 * CPU: for memd the scanners' threads, memd-pool, and what the vCPUs used beyond their rate before
 * the engine was started (faults, copies, waits, logging); for ksmd its thread and the same of the
 * vCPUs. CPU and time are those at which 99 % of the final count of freed pages was reached, since
 * an engine that is done goes on looking. Freed pages: what the page tables say (anonymous memory
 * before and after, the pool's own pages taken off; for ksmd the share of pages, PSS). Kernel
 * memory: the objects for mappings and for KSM's items, and page tables.
 */
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>

#include "dedup/page-hash.h"
#include "memd/base/clock.h"
#include "memd/base/overflow.h"
#include "memd/base/units.h"
#include "tests/bench/fleet.h"
#include "tests/bench/ksm.h"

#define GUESTS	       8
#define SIZE_MIB       1024
#define LOAD_PER_S     500
#define BASE_US	       (2 * US_PER_S)
#define SAMPLE_US      (20 * US_PER_MS)
#define SAMPLES_MAX    8192
#define QUIET_US       (1500 * US_PER_MS)
#define RUN_MAX_US     (90 * US_PER_S)
#define RESCANS	       3
#define RESCAN_WAIT_US (30 * US_PER_S)
#define WRITTEN_STRIDE 100
#define COW_PAGES      4096
#define HASH_BYTES     (256 * MIB)
#define ALL_CPU_BP     10000

enum engine {
	ENGINE_KSM,
	ENGINE_MEMD,
};

struct options {
	const char *layout;
	uint64_t size_mib;
	bool json;
};

struct sample {
	uint64_t time_us, freed_pages;
	uint64_t scanner_us, pool_us, vcpus_us;
};

struct result {
	uint64_t cpu_us, wall_us; /* to 99 % */
	uint64_t scanner_us, pool_us, vcpus_us; /* parts of cpu_us */
	uint64_t freed_pages;
	uint64_t kernel_bytes;
	uint64_t rescan_us, rescan_written_us; /* CPU of one pass */
	uint64_t index_bytes; /* memd's */
	uint64_t mappings;
	uint64_t frozen_wait_p99_us;
	uint64_t cow_ns; /* a guest's write to a shared page */
	uint64_t verified, corrupt;
};

/* One engine at work on one fleet. */
struct run {
	enum engine engine;
	const struct ksm *ksm;
	struct fleet *fleet;
	double vcpus_per_us; /* their CPU a microsecond before the engine was started */
	uint64_t start_us;
	struct meter_vmm cpu_before;
	uint64_t pool_before_us, ksmd_before_us;
	uint64_t anonymous_before_pages; /* by counters */
	size_t n;
	struct sample samples[SAMPLES_MAX];
};

static void measure_base(struct run *r)
{
	struct meter_vmm before = fleet_cpu(r->fleet), after;
	uint64_t start_us = clock_monotonic_us();

	clock_sleep_us(BASE_US);
	after = fleet_cpu(r->fleet);
	r->vcpus_per_us = (double)(after.vcpus_us - before.vcpus_us) /
			  (double)(clock_monotonic_us() - start_us);
}

static void begin(struct run *r)
{
	r->anonymous_before_pages = fleet_anonymous_pages(r->fleet);
	r->ksmd_before_us = meter_thread_us(r->ksm->ksmd, r->ksm->ksmd);
	r->pool_before_us = fleet_pool_cpu_us(r->fleet);
	r->cpu_before = fleet_cpu(r->fleet);
	r->start_us = clock_monotonic_us();
}

static uint64_t scanner_cpu_us(const struct run *r, const struct meter_vmm *now)
{
	return r->engine == ENGINE_KSM
		       ? meter_thread_us(r->ksm->ksmd, r->ksm->ksmd) - r->ksmd_before_us
		       : now->scanner_us - r->cpu_before.scanner_us;
}

static uint64_t vcpus_extra_us(const struct run *r, const struct meter_vmm *now, uint64_t time_us)
{
	double extra = (double)(now->vcpus_us - r->cpu_before.vcpus_us) -
		       r->vcpus_per_us * (double)time_us;

	return extra > 0 ? (uint64_t)extra : 0;
}

static uint64_t freed_by_counters(const struct run *r)
{
	struct pool_stats pool = {0};

	if (r->engine == ENGINE_KSM)
		return ksm_counters_read().freed_pages;
	if (fleet_pool_stats(r->fleet, &pool) < 0)
		return 0;
	return u64_sub_or_zero(r->anonymous_before_pages,
		fleet_anonymous_pages(r->fleet) + pool.memfd_bytes / PAGE_BYTES);
}

static const struct sample *take_sample(struct run *r)
{
	struct sample *s = &r->samples[r->n];
	struct meter_vmm now = fleet_cpu(r->fleet);

	s->time_us = clock_monotonic_us() - r->start_us;
	s->scanner_us = scanner_cpu_us(r, &now);
	s->vcpus_us = vcpus_extra_us(r, &now, s->time_us);
	s->pool_us = fleet_pool_cpu_us(r->fleet) - r->pool_before_us;
	s->freed_pages = freed_by_counters(r);
	if (r->n < SAMPLES_MAX - 1)
		r->n++;
	return s;
}

/* Until nothing more is freed: for a while, and through two whole passes of ksmd. */
static void run_until_quiet(struct run *r)
{
	uint64_t best = 0, best_us = 0, best_scans = 0;

	for (;;) {
		const struct sample *s = take_sample(r);
		uint64_t scans = r->engine == ENGINE_KSM ? ksm_counters_read().full_scans : 0;

		if (s->freed_pages > best + best / 1000) {
			best = s->freed_pages;
			best_us = s->time_us;
			best_scans = scans;
		}
		if (s->time_us > RUN_MAX_US)
			break;
		if (s->time_us > best_us + QUIET_US &&
			(r->engine == ENGINE_MEMD ? best > 0 : scans >= best_scans + 3))
			break;
		clock_sleep_us(SAMPLE_US);
	}
}

static void find_99_percent(const struct run *r, struct result *ret)
{
	uint64_t most = 0;

	for (size_t i = 0; i < r->n; i++)
		most = u64_max(most, r->samples[i].freed_pages);
	for (size_t i = 0; i < r->n; i++)
		if (r->samples[i].freed_pages >= most * 99 / 100) {
			ret->scanner_us = r->samples[i].scanner_us;
			ret->pool_us = r->samples[i].pool_us;
			ret->vcpus_us = r->samples[i].vcpus_us;
			ret->cpu_us = ret->scanner_us + ret->pool_us + ret->vcpus_us;
			ret->wall_us = r->samples[i].time_us;
			return;
		}
}

/* The passes so far: ksmd's, or those of the guest that is behind. */
static uint64_t passes(struct run *r)
{
	struct vmm_stats stats[FLEET_GUESTS_MAX];
	uint64_t least = UINT64_MAX;

	if (r->engine == ENGINE_KSM)
		return ksm_counters_read().full_scans;
	if (fleet_stats(r->fleet, stats) < 0)
		return 0;
	for (unsigned i = 0; i < r->fleet->n_guests; i++)
		least = u64_min(least, stats[i].scan_passes);
	return least;
}

static void wait_for_passes(struct run *r, uint64_t n)
{
	uint64_t end_us = clock_monotonic_us() + RESCAN_WAIT_US, first = passes(r);

	while (passes(r) < first + n && clock_monotonic_us() < end_us)
		clock_sleep_us(200 * US_PER_MS);
}

static uint64_t engine_cpu_us(const struct run *r)
{
	struct meter_vmm now = fleet_cpu(r->fleet);

	return scanner_cpu_us(r, &now) + fleet_pool_cpu_us(r->fleet);
}

/* CPU of a pass, the vCPUs' left out: over so short a time it cannot be told from their load. */
static uint64_t measure_rescan(struct run *r)
{
	uint64_t passes_before, cpu_us;

	passes_before = passes(r);
	cpu_us = engine_cpu_us(r);
	wait_for_passes(r, RESCANS);
	return (engine_cpu_us(r) - cpu_us) / u64_max(passes(r) - passes_before, 1);
}

/* Each round's CPU: for ksmd that of one pass, for memd all that it did because of the round. */
static uint64_t measure_rescan_written(struct run *r)
{
	uint64_t sum_us = 0;

	for (unsigned round = 0; round < RESCANS; round++) {
		struct loaded_control ignored;
		uint64_t before, cpu_us = engine_cpu_us(r);

		if (fleet_order(r->fleet, LOADED_WRITE, WRITTEN_STRIDE, 7 * round, &ignored) < 0)
			return 0;
		before = passes(r);
		/* memd's scanner rests: the pass that comes is counted; ksmd is in the middle of one */
		wait_for_passes(r, r->engine == ENGINE_MEMD ? 1 : 2);
		cpu_us = engine_cpu_us(r) - cpu_us;
		sum_us +=
			r->engine == ENGINE_KSM ? cpu_us / u64_max(passes(r) - before, 1) : cpu_us;
	}
	return sum_us / RESCANS;
}

/* One word in every third page, in one guest: its own time for each write. */
static uint64_t measure_cow(struct run *r)
{
	struct loaded_control sum;

	if (fleet_order_one(r->fleet, 0, LOADED_WRITE, 3, 1, &sum) < 0 || !sum.n_pages)
		return 0;
	return sum.ns / sum.n_pages;
}

static void read_memd_figures(struct run *r, struct result *ret)
{
	struct vmm_stats stats[FLEET_GUESTS_MAX];
	struct pool_stats pool = {0};

	if (fleet_stats(r->fleet, stats) < 0 || fleet_pool_stats(r->fleet, &pool) < 0)
		return;
	for (unsigned i = 0; i < r->fleet->n_guests; i++) {
		ret->mappings += stats[i].ram_mappings;
		ret->frozen_wait_p99_us =
			u64_max(ret->frozen_wait_p99_us, stats[i].scan_frozen_p99_us);
	}
	ret->index_bytes = pool.index_bytes;
}

static int start_engine(struct run *r, struct error *e)
{
	if (r->engine == ENGINE_MEMD)
		return fleet_share(r->fleet, ALL_CPU_BP, 0, e);
	return ksm_set("run", 1) < 0 ? error_set(e, -EIO, "ksmd does not start") : 0;
}

static int measure(struct run *r, struct result *ret, struct error *e)
{
	struct fleet_memory before, after;
	struct loaded_control counters;
	struct pool_stats pool = {0};
	uint64_t slab_bytes;
	int result;

	measure_base(r);
	before = fleet_memory(r->fleet);
	slab_bytes = meter_slab_bytes();
	begin(r);
	result = start_engine(r, e);
	if (result < 0)
		return result;
	run_until_quiet(r);
	find_99_percent(r, ret);
	after = fleet_memory(r->fleet);
	ret->kernel_bytes = u64_sub_or_zero(
		meter_slab_bytes() + after.page_table_bytes, slab_bytes + before.page_table_bytes);
	if (r->engine == ENGINE_MEMD) {
		fleet_pool_stats(r->fleet, &pool);
		ret->freed_pages = u64_sub_or_zero(before.anonymous_bytes,
					   after.anonymous_bytes + pool.memfd_bytes) /
				   PAGE_BYTES;
		read_memd_figures(r, ret);
	} else {
		ret->freed_pages =
			u64_sub_or_zero(before.pss_anon_bytes, after.pss_anon_bytes) / PAGE_BYTES;
	}
	ret->rescan_us = measure_rescan(r);
	ret->rescan_written_us = measure_rescan_written(r);
	ret->cow_ns = measure_cow(r);
	fleet_order(r->fleet, LOADED_VERIFY, 0, 0, &counters);
	ret->verified = counters.verified;
	ret->corrupt = counters.corrupt;
	return 0;
}

static int run_engine(enum engine engine, const struct ksm *ksm, const struct layout *layout,
	uint64_t n_pages, struct result *ret, struct error *e)
{
	_cleanup_free_ struct run *r = calloc(1, sizeof(*r));
	_cleanup_free_ struct fleet *fleet = calloc(1, sizeof(*fleet));
	const struct fleet_options o = {
		.layout = layout,
		.n_guests = GUESTS,
		.n_pages = n_pages,
		.mergeable = engine == ENGINE_KSM,
		.load_per_s = LOAD_PER_S,
	};
	int result;

	if (!r || !fleet)
		return error_set(e, -ENOMEM, "out of memory");
	*ret = (struct result){0};
	*r = (struct run){.engine = engine, .ksm = ksm, .fleet = fleet};
	result = fleet_start(fleet, &o, e);
	if (result == 0)
		result = measure(r, ret, e);
	if (engine == ENGINE_KSM)
		ksm_set("run", 0);
	fleet_done(fleet);
	return result;
}

/* The kernel's own copy of a private file page, in this process: what any sharing must pay. */
static double measure_plain_cow_us(void)
{
	_cleanup_close_ int fd = memfd_create("bench-dedup", MFD_CLOEXEC);
	uint64_t start_us, bytes = COW_PAGES * PAGE_BYTES;
	volatile uint64_t sum = 0;
	uint8_t *p;

	if (fd < 0 || ftruncate(fd, (off_t)bytes) < 0)
		return 0;
	p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return 0;
	memset(p, 1, bytes);
	munmap(p, bytes);
	p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	if (p == MAP_FAILED)
		return 0;
	for (uint64_t i = 0; i < bytes; i += PAGE_BYTES)
		sum += p[i];
	start_us = clock_monotonic_us();
	for (uint64_t i = 0; i < bytes; i += PAGE_BYTES)
		p[i]++;
	start_us = clock_monotonic_us() - start_us;
	munmap(p, bytes);
	return (double)start_us / COW_PAGES;
}

/* As the scanner does it: looked at for zeroes, then hashed. */
static double measure_hash_gib_s(void)
{
	uint64_t *p = mmap(NULL, HASH_BYTES, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	uint64_t start_us, x = 1;
	volatile uint64_t sum = 0;

	if (p == MAP_FAILED)
		return 0;
	for (size_t i = 0; i < HASH_BYTES / sizeof(*p); i++)
		p[i] = x *= UINT64_C(0x9e3779b97f4a7c15);
	start_us = clock_thread_cpu_us();
	for (size_t i = 0; i < HASH_BYTES; i += PAGE_BYTES) {
		const uint8_t *page = (const uint8_t *)p + i;

		sum += page_is_zero(page) ? 0 : page_hash(page);
	}
	start_us = clock_thread_cpu_us() - start_us;
	munmap(p, HASH_BYTES);
	return (double)HASH_BYTES / GIB / ((double)start_us / US_PER_S);
}

static double ratio(uint64_t a, uint64_t b)
{
	return (double)a / (double)u64_max(b, 1);
}

static double seconds(uint64_t us)
{
	return (double)us / US_PER_S;
}

static void print_result(const struct options *o, const struct result *k, const struct result *m,
	double hash_gib_s, double plain_cow_us)
{
	const char *format =
		o->json ? "{\"layout\": \"%s\", \"size_mib\": %" PRIu64 ", \"ksm_cpu_s\": %.3f, "
			  "\"memd_cpu_s\": %.3f, \"cpu_ratio\": %.2f, \"ksm_wall_s\": %.2f, "
			  "\"memd_wall_s\": %.2f, \"freed_pages_ksm\": %" PRIu64
			  ", \"freed_pages_memd\": %" PRIu64 ", \"kernel_overhead_bytes\": %" PRIu64
			  ", \"kernel_overhead_ksm_bytes\": %" PRIu64
			  ", \"rescan_cpu_ratio\": %.1f, "
			  "\"rescan_1pct_cpu_ratio\": %.1f, \"rescan_us\": %" PRIu64
			  ", \"rescan_ksm_us\": %" PRIu64 ", \"rescan_1pct_us\": %" PRIu64
			  ", \"rescan_1pct_ksm_us\": %" PRIu64 ", \"hash_gib_s\": %.2f, "
			  "\"index_bytes_per_gib\": %" PRIu64 ", \"cow_break_us\": %.2f, "
			  "\"cow_break_ksm_us\": %.2f, \"plain_cow_us\": %.2f, "
			  "\"frozen_wait_p99_us\": %" PRIu64 ", \"mappings\": %" PRIu64
			  ", \"memd_scanner_s\": %.3f, \"memd_pool_s\": %.3f, \"memd_vcpus_s\": "
			  "%.3f, "
			  "\"verified\": %" PRIu64 ", \"corrupt\": %" PRIu64 "}\n"
			: "layout %s, %" PRIu64 " MiB\n"
			  "  CPU            ksm %.3f s, memd %.3f s: %.2f times less\n"
			  "  time           ksm %.2f s, memd %.2f s\n"
			  "  pages freed    ksm %" PRIu64 ", memd %" PRIu64 "\n"
			  "  kernel memory  memd %" PRIu64 ", ksm %" PRIu64 " bytes\n"
			  "  a pass again   %.1f times less CPU unchanged, %.1f with 1 %% written\n"
			  "                 memd %" PRIu64 " us, ksm %" PRIu64
			  " us; 1 %%: memd %" PRIu64 " us, ksm %" PRIu64 " us\n"
			  "  hash           %.2f GiB/s\n"
			  "  index          %" PRIu64 " bytes a GiB\n"
			  "  copy on write  memd %.2f us, ksm %.2f us (guest), plain %.2f us "
			  "(process)\n"
			  "  frozen wait    p99 %" PRIu64 " us\n"
			  "  mappings       %" PRIu64 "\n"
			  "  memd's CPU     scanners %.3f, pool %.3f, vCPUs %.3f s to the end of "
			  "the run\n"
			  "  verified       %" PRIu64 " pages, %" PRIu64 " corrupt\n";

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	printf(format, o->layout, o->size_mib, seconds(k->cpu_us), seconds(m->cpu_us),
		ratio(k->cpu_us, m->cpu_us), seconds(k->wall_us), seconds(m->wall_us),
		k->freed_pages, m->freed_pages, m->kernel_bytes, k->kernel_bytes,
		ratio(k->rescan_us, m->rescan_us),
		ratio(k->rescan_written_us, m->rescan_written_us), m->rescan_us, k->rescan_us,
		m->rescan_written_us, k->rescan_written_us, hash_gib_s,
		m->index_bytes * 1024 / o->size_mib, (double)m->cow_ns / 1000,
		(double)k->cow_ns / 1000, plain_cow_us, m->frozen_wait_p99_us, m->mappings,
		seconds(m->scanner_us), seconds(m->pool_us), seconds(m->vcpus_us),
		k->verified + m->verified, k->corrupt + m->corrupt);
#pragma GCC diagnostic pop
	fflush(stdout);
}

static int run_layout(const struct options *o, const struct ksm *ksm, struct error *e)
{
	uint64_t n_pages = o->size_mib * MIB / PAGE_BYTES / GUESTS;
	_cleanup_(layout_freep) struct layout *layout = NULL;
	struct result k, m;
	int r;

	r = layout_new(o->layout, GUESTS, n_pages, &layout, e);
	if (r == 0)
		r = run_engine(ENGINE_KSM, ksm, layout, n_pages, &k, e);
	if (r == 0)
		r = run_engine(ENGINE_MEMD, ksm, layout, n_pages, &m, e);
	if (r == 0)
		print_result(o, &k, &m, measure_hash_gib_s(), measure_plain_cow_us());
	return r < 0 ? r : (k.corrupt || m.corrupt) ? 1 : 0;
}

static void usage(FILE *to)
{
	fprintf(to, "bench-dedup [--json] [--layout NAME] [--size MIB]\n"
		    "memd's page sharing beside ksmd's. Needs root, /dev/kvm and KSM, whose "
		    "settings it "
		    "puts back.\n"
		    "  --json         one JSON line for each layout\n"
		    "  --layout NAME  this one only; default: all of these\n");
	for (const struct layout_kind *k = layout_kinds; k->name; k++)
		fprintf(to, "                   %-14s %s\n", k->name, k->what);
	fprintf(to, "  --size MIB     of all %d guests together (default %d)\n", GUESTS, SIZE_MIB);
}

/* 0, 1 when everything is said and done, or negative errno with a message. */
static int parse_options(int argc, char **argv, struct options *ret, struct error *e)
{
	static const struct option options[] = {
		{"json", no_argument, NULL, 'j'},
		{"layout", required_argument, NULL, 'l'},
		{"size", required_argument, NULL, 's'},
		{"help", no_argument, NULL, 'h'},
		{0},
	};
	int c, r = 0;

	*ret = (struct options){.size_mib = SIZE_MIB};
	while (r == 0 && (c = getopt_long(argc, argv, "", options, NULL)) >= 0) {
		switch (c) {
		case 'j':
			ret->json = true;
			break;
		case 'l':
			ret->layout = optarg;
			break;
		case 's':
			r = units_parse_u64(optarg, UINT64_C(1) << 20, &ret->size_mib, e);
			break;
		case 'h':
			usage(stdout);
			return 1;
		default:
			return error_set(e, -EINVAL, "see bench-dedup --help");
		}
	}
	if (r == 0 && (optind < argc || ret->size_mib < 2 * GUESTS || ret->size_mib % GUESTS))
		r = error_set(e, -EINVAL, "--size is a multiple of %d, at least %d; see --help",
			GUESTS, 2 * GUESTS);
	return r;
}

static int run_all(const struct options *o, const struct ksm *ksm, struct error *e)
{
	struct options one = *o;
	int r = 0;

	if (o->layout)
		return run_layout(o, ksm, e);
	for (const struct layout_kind *k = layout_kinds; r == 0 && k->name; k++) {
		one.layout = k->name;
		r = run_layout(&one, ksm, e);
	}
	return r;
}

int main(int argc, char **argv)
{
	struct ksm ksm = KSM_NONE;
	struct options o;
	struct error e = {0};
	int r = parse_options(argc, argv, &o, &e);

	if (r > 0)
		return EXIT_SUCCESS;
	signal(SIGPIPE, SIG_IGN);
	if (r == 0 && vmm_run_unusable())
		r = error_set(&e, -ENODEV, "%s", vmm_run_unusable());
	if (r == 0)
		r = ksm_begin(&ksm, &e);
	if (r == 0)
		r = run_all(&o, &ksm, &e);
	ksm_end(&ksm);
	if (r < 0)
		fprintf(stderr, "bench-dedup: %s\n", e.text);
	else if (r > 0)
		fprintf(stderr, "bench-dedup: guests read what they did not write\n");
	return r ? EXIT_FAILURE : EXIT_SUCCESS;
}
