/* See workload.h. */
#include "tests/guest/memd-guest/workload.h"
#include "tests/guest/memd-guest/agent.h"
#include "tests/guest/memd-guest/area.h"
#include "tests/guest/memd-guest/balloon.h"
#include "tests/guest/memd-guest/cmdline.h"
#include "tests/guest/memd-guest/cpu.h"
#include "tests/guest/memd-guest/disk.h"
#include "tests/guest/memd-guest/hints.h"
#include "tests/guest/memd-guest/line.h"
#include "tests/guest/memd-guest/memory.h"
#include "tests/guest/memd-guest/scratch.h"
#include "tests/guest/memd-guest/stopwatch.h"
#include "tests/guest/memd-guest/time.h"

#define PAGES_A_SLICE 64 /* between looks at the clock */
#define US_PER_S      1000000

struct area {
	enum area_kind kind;
	uint64_t first, n; /* pages of memory.h */
	uint32_t *generation; /* of each page; its owner's */
};

/*
 * So many pages a second, shared out evenly over the processors. What was missed for long is not
 * made up for.
 */
struct pace {
	uint64_t per_s;
	uint64_t start_us, done;
};

enum phase {
	PHASE_FILL,
	PHASE_RUN,
	PHASE_DONE,
};

/* One processor's. Cursors count in its own pages. */
struct worker {
	struct area_counters counters;
	uint64_t phase;
	uint64_t index;
	struct pace rewrite, rewrite_common, rewrite_zero, sweep, verify;
	uint64_t next_rewrite, next_rewrite_common, next_rewrite_zero, next_sweep, next_verify;
} __attribute__((aligned(64)));

static struct area common = {.kind = AREA_COMMON}, unique = {.kind = AREA_UNIQUE},
		   zero = {.kind = AREA_ZERO};
static struct worker workers[VCPUS_MAX];
static unsigned n_workers;
/* What of the unique area is hot, at the beginning of the run and after the turn. */
static struct hot {
	uint64_t first, n;
} hot_before, hot_after;
static uint64_t hot_turn_ns, hot_turn_for_ns, run_ns; /* run_ns: since when it runs, 0: not yet */
static uint64_t start_ns, end_ns, report_ns, next_report_ns;
static bool final_verify;
static uint64_t stopping;

static uint64_t mib_option(const char *key)
{
	return cmdline_number(key, 0) * GUEST_MIB / GUEST_PAGE;
}

static uint64_t place_area(struct area *a, uint64_t first)
{
	a->first = first;
	return first + a->n;
}

static void area_alloc(struct area *a, const char *option)
{
	a->n = mib_option(option);
	a->generation = memory_alloc(a->n * sizeof(*a->generation));
}

static struct hot hot_option(const char *at, const char *mib)
{
	struct hot h = {.first = MIN(mib_option(at), unique.n)};

	h.n = MIN(cmdline_number(mib, UINT32_MAX) * GUEST_MIB / GUEST_PAGE, unique.n - h.first);
	return h;
}

/* From a to b, part of whole. */
static uint64_t between(uint64_t a, uint64_t b, uint64_t part, uint64_t whole)
{
	return b >= a ? a + (b - a) * part / whole : a - (a - b) * part / whole;
}

static struct hot hot_now(uint64_t now_us)
{
	uint64_t start_us = __atomic_load_n(&run_ns, __ATOMIC_RELAXED) / 1000, into_us;
	uint64_t turn_us = hot_turn_ns / 1000, for_us = hot_turn_for_ns / 1000;

	if (!turn_us || !start_us || now_us < start_us + turn_us)
		return hot_before;
	into_us = now_us - start_us - turn_us;
	if (into_us >= for_us)
		return hot_after;
	return (struct hot){
		.first = between(hot_before.first, hot_after.first, into_us, for_us),
		.n = between(hot_before.n, hot_after.n, into_us, for_us),
	};
}

static void init_workers(void)
{
	for (unsigned i = 0; i < n_workers; i++) {
		struct worker *w = &workers[i];

		w->index = i;
		w->rewrite.per_s = cmdline_number("rewrite_per_s", 0);
		w->rewrite_common.per_s = cmdline_number("rewrite_common_per_s", 0);
		w->rewrite_zero.per_s = cmdline_number("rewrite_zero_per_s", 0);
		w->sweep.per_s = cmdline_number("sweep_pages_per_s", 2000);
		w->verify.per_s = cmdline_number("verify_per_s", 0);
	}
}

void workload_init(unsigned n_cpus)
{
	uint64_t capacity = memory_n_pages(), next = mib_option("skip_mib");

	n_workers = n_cpus;
	start_ns = time_ns();
	end_ns = cmdline_number("seconds", 0) * NS_PER_S;
	report_ns = cmdline_number("report_ms", 1000) * (NS_PER_S / 1000);
	final_verify = cmdline_number("final_verify", 0);
	area_init();
	stopwatch_init();
	area_alloc(&common, "common_mib");
	area_alloc(&unique, "unique_mib");
	area_alloc(&zero, "zero_mib");
	hot_before = hot_option("hot_at_mib", "hot_mib");
	hot_after = hot_option("hot2_at_mib", "hot2_mib");
	hot_turn_ns = cmdline_number("hot_turn_ms", 0) * (NS_PER_S / 1000);
	hot_turn_for_ns = cmdline_number("hot_turn_for_ms", 0) * (NS_PER_S / 1000);
	hints_init(n_cpus);
	free_pages_init(capacity);
	balloon_init(capacity);
	scratch_init(capacity);
	disk_init();
	agent_init();
	memory_align_to_chunk();

	next = place_area(&common, next);
	next = place_area(&unique, next);
	next = place_area(&zero, next);
	next = hints_place(next);
	if (next > memory_n_pages())
		line_print_and_stop("common_mib, unique_mib, zero_mib and hint_mib do not fit");
	free_pages_set(next, memory_n_pages() - next);
	init_workers();
}

/* Pages due now, at most a slice. */
static unsigned pace_due(struct pace *p, uint64_t now_us)
{
	uint64_t due;

	if (!p->per_s)
		return 0;
	if (!p->start_us)
		p->start_us = now_us;
	due = p->per_s * (now_us - p->start_us) / (US_PER_S * (uint64_t)n_workers);
	if (due - p->done > p->per_s + PAGES_A_SLICE)
		p->done = due - PAGES_A_SLICE;
	return (unsigned)MIN(due - p->done, PAGES_A_SLICE);
}

static uint64_t sum(size_t offset)
{
	uint64_t total = 0;

	for (unsigned i = 0; i < n_workers; i++)
		total += load_relaxed(
			(const uint64_t *)((const char *)&workers[i].counters + offset));
	return total;
}

static uint64_t least_verified(void)
{
	uint64_t least = UINT64_MAX;

	for (unsigned i = 0; i < n_workers; i++)
		least = MIN(least, load_relaxed(&workers[i].counters.verified));
	return least;
}

static uint64_t least_phase(void)
{
	uint64_t least = PHASE_DONE;

	for (unsigned i = 0; i < n_workers; i++)
		least = MIN(least, __atomic_load_n(&workers[i].phase, __ATOMIC_ACQUIRE));
	return least;
}

static void print_counters(struct line *line)
{
	line_value(line, "verified", sum(offsetof(struct area_counters, verified)));
	line_value(line, "corrupt", sum(offsetof(struct area_counters, corrupt)));
	line_value(line, "written", sum(offsetof(struct area_counters, written)));
	line_value(line, "balloon", balloon_pages());
	line_value(line, "reported", balloon_reported_pages());
	line_value(line, "free", free_pages_count());
	line_value(line, "hinted", hints_hinted_pages());
	line_value(line, "hint_free", hints_free_blocks());
	line_value(line, "returned", balloon_returned_pages());
	line_value(line, "returned_dirty", balloon_returned_dirty_pages());
	line_value(line, "disk_read", disk_read_blocks());
	line_value(line, "disk_written", disk_written_blocks());
	line_value(line, "least_verified", least_verified());
	agent_counters(line);
	stopwatch_report(line);
	line_print(line);
}

static void report(uint64_t now_ns)
{
	struct line line = {0};

	line_text(&line, "memd-guest:");
	line_value(&line, "t_ms", (now_ns - start_ns) / (NS_PER_S / 1000));
	line_text(&line, least_phase() == PHASE_FILL ? " phase=fill" : " phase=run");
	print_counters(&line);
}

/*
 * What the boot processor does beside its share of the work. Returns whether there is more to do at
 * once.
 */
static bool service(struct worker *w, uint64_t now_ns)
{
	bool more;

	if (w->index)
		return false;
	more = balloon_service(now_ns);
	more |= scratch_service(&w->counters, now_ns);
	more |= disk_service(&w->counters, now_ns);
	more |= hints_service(now_ns);
	more |= agent_service(now_ns);
	if (now_ns >= next_report_ns) {
		next_report_ns = now_ns + report_ns;
		report(now_ns);
	}
	if (end_ns && run_ns && now_ns - run_ns >= end_ns)
		__atomic_store_n(&stopping, 1, __ATOMIC_RELEASE);
	return more;
}

static void verify_page(struct worker *w, const struct area *a, uint64_t i)
{
	area_verify(&w->counters, a->kind, i, memory_page(a->first + i), a->generation[i]);
}

static void fill_page(struct worker *w, struct area *a, uint64_t i)
{
	uint64_t *page = memory_page(a->first + i);

	a->generation[i] = 0;
	if (a->kind == AREA_ZERO) {
		area_write(&w->counters, a->kind, i, page, GENERATION_ZERO_RAW);
		a->generation[i] = GENERATION_ZERO;
	}
	area_write(&w->counters, a->kind, i, page, a->generation[i]);
}

static void each_page(
	struct worker *w, struct area *a, void (*fn)(struct worker *, struct area *, uint64_t))
{
	unsigned n = 0;

	for (uint64_t i = w->index; i < a->n; i += n_workers) {
		fn(w, a, i);
		if (++n % PAGES_A_SLICE == 0)
			service(w, time_ns());
	}
}

static void verify_each(struct worker *w, struct area *a, uint64_t i)
{
	verify_page(w, a, i);
}

/* This processor's pages among the first n of an area, and the k-th of them. */
static uint64_t n_own(const struct worker *w, uint64_t n)
{
	return n > w->index ? (n - w->index + n_workers - 1) / n_workers : 0;
}

static uint64_t own_page(const struct worker *w, uint64_t k)
{
	return k * n_workers + w->index;
}

/* The cursor's value among n, and the cursor on. false: there is nothing to walk. */
static bool next_of(uint64_t *cursor, uint64_t n, uint64_t *ret_k)
{
	if (*cursor >= n)
		*cursor = 0;
	*ret_k = (*cursor)++;
	return n > 0;
}

/* Of n own pages from the one of that number. */
static unsigned rewrite(struct worker *w, struct area *a, uint64_t first, uint64_t n_pages,
	struct pace *p, uint64_t *cursor, uint64_t now_us)
{
	unsigned due = pace_due(p, now_us);
	uint64_t k;

	p->done += due;
	for (unsigned n = 0; n < due && next_of(cursor, n_pages, &k); n++) {
		uint64_t i = own_page(w, first + k);

		area_write(&w->counters, a->kind, i, memory_page(a->first + i), ++a->generation[i]);
	}
	return due;
}

/* The hot part, in a processor's own pages: n from first. */
struct hot_own {
	uint64_t first, n;
};

static struct hot_own hot_own(const struct worker *w, uint64_t now_us)
{
	struct hot hot = hot_now(now_us);
	uint64_t first = n_own(w, hot.first);

	return (struct hot_own){.first = first, .n = n_own(w, hot.first + hot.n) - first};
}

/* The rest: unique pages that are not hot, then zero pages. */
static unsigned sweep(struct worker *w, struct hot_own hot, uint64_t now_us)
{
	unsigned due = pace_due(&w->sweep, now_us);
	uint64_t n_cold = n_own(w, unique.n) - hot.n, k;

	w->sweep.done += due;
	for (unsigned n = 0; n < due && next_of(&w->next_sweep, n_cold + n_own(w, zero.n), &k);
		n++) {
		if (k < hot.first)
			verify_page(w, &unique, own_page(w, k));
		else if (k < n_cold)
			verify_page(w, &unique, own_page(w, hot.n + k));
		else
			verify_page(w, &zero, own_page(w, k - n_cold));
	}
	return due;
}

static void walk_page(struct worker *w, const struct area *a, uint64_t i)
{
	stopwatch_touch(memory_page(a->first + i));
	verify_page(w, a, i);
}

/* What is hot: a part of the unique area, and the common one. */
static unsigned walk(struct worker *w, struct hot_own hot, uint64_t now_us)
{
	unsigned due = w->verify.per_s ? pace_due(&w->verify, now_us) : PAGES_A_SLICE, n;
	uint64_t k;

	w->verify.done += due;
	for (n = 0; n < due && next_of(&w->next_verify, hot.n + n_own(w, common.n), &k); n++) {
		if (k < hot.n)
			walk_page(w, &unique, own_page(w, hot.first + k));
		else
			walk_page(w, &common, own_page(w, k - hot.n));
	}
	return n;
}

static bool run_slice(struct worker *w, uint64_t now_ns)
{
	uint64_t now_us = now_ns / 1000;
	struct hot_own hot = hot_own(w, now_us);
	unsigned n = 0;

	n += rewrite(w, &unique, hot.first, hot.n, &w->rewrite, &w->next_rewrite, now_us);
	n += rewrite(w, &common, 0, n_own(w, common.n), &w->rewrite_common, &w->next_rewrite_common,
		now_us);
	n += rewrite(
		w, &zero, 0, n_own(w, zero.n), &w->rewrite_zero, &w->next_rewrite_zero, now_us);
	n += sweep(w, hot, now_us);
	n += walk(w, hot, now_us);
	n += hints_work((unsigned)w->index, &w->counters);
	return n > 0;
}

static void enter(struct worker *w, enum phase phase)
{
	__atomic_store_n(&w->phase, phase, __ATOMIC_RELEASE);
}

static void finish(struct worker *w)
{
	struct line line = {0};

	if (final_verify) {
		each_page(w, &unique, verify_each);
		each_page(w, &common, verify_each);
		each_page(w, &zero, verify_each);
	}
	enter(w, PHASE_DONE);
	if (w->index)
		user_syscall(SYS_HALT, 0, 0, 0);
	while (least_phase() != PHASE_DONE) {
		service(w, time_ns());
		user_syscall(SYS_IDLE, 0, 0, 0);
	}
	line_text(&line, "memd-guest: done");
	print_counters(&line);
	for (;;)
		user_syscall(SYS_POWER_OFF, 0, 0, 0);
}

void workload_run(void *arg)
{
	struct worker *w = &workers[((const struct cpu *)arg)->index];

	each_page(w, &common, fill_page);
	each_page(w, &unique, fill_page);
	each_page(w, &zero, fill_page);
	enter(w, PHASE_RUN);
	if (w->index == 0)
		__atomic_store_n(&run_ns, time_ns(), __ATOMIC_RELAXED);
	while (!__atomic_load_n(&stopping, __ATOMIC_ACQUIRE)) {
		uint64_t now_ns = time_ns();
		bool more = service(w, now_ns);

		if (!run_slice(w, now_ns) && !more)
			user_syscall(SYS_IDLE, 0, 0, 0);
	}
	finish(w);
	__builtin_unreachable();
}
