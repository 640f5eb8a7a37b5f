/*
 * Once a second: how much of each guest's memory is in use, and how long it waited for memory.
 * What is drawn and concluded is wss.c's and stall.c's; what may sleep is done in the sampling
 * worker.
 */
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "memd/base/clock.h"
#include "memd/base/log.h"
#include "memd/base/overflow.h"
#include "memd/base/units.h"
#include "memd/fault-probe.h"
#include "memd/manager.h"

#define PERIOD_US      US_PER_S
/* More than so many in a second is a burst that the guest would feel. */
#define MARKS_MAX      256
#define LOOKS_MAX      4096
/* Less free swap than this is left to page-out. */
#define SWAP_MIN_BYTES (1 * MIB)
/* Until it was measured: zram on a machine of 2026. */
#define FAULT_US_FIRST 8.0

/* What a major fault takes: measured in the worker, once a period. */
struct fault_watch {
	struct job job; /* first */
	struct manager *manager; /* NULL: nobody is interested any more */
	struct fault_probe probe;
	char device[64]; /* of swap on disk; "": it is in RAM */
	uint64_t device_bytes;
	uint64_t ns;
	int result;
	bool under_way;
};

static void run_fault_watch(struct job *j)
{
	struct fault_watch *w = (struct fault_watch *)j;

	w->result = fault_probe_run(
		&w->probe, w->device[0] ? w->device : NULL, w->device_bytes, &w->ns);
}

static void free_fault_watch(struct fault_watch *w)
{
	if (!w)
		return;
	fault_probe_done(&w->probe);
	free(w);
}

static void fault_watch_done(struct job *j)
{
	struct fault_watch *w = (struct fault_watch *)j;
	struct manager *m = w->manager;

	w->under_way = false;
	if (w->result < 0)
		return;
	/* A tenth of each: one fault that was interrupted is no trend. */
	m->fault_us = m->fault_us * 0.9 + (double)w->ns / 1000 * 0.1;
	m->figures.fault_ns = (uint64_t)(m->fault_us * 1000);
}

static void measure_fault(struct manager *m)
{
	struct fault_watch *w = m->fault_watch;

	if (w->under_way || m->swap.free_bytes < SWAP_MIN_BYTES)
		return;
	w->result = -ECANCELED;
	snprintf(w->device, sizeof(w->device), "%s", m->swap.in_ram ? "" : m->swap.path);
	w->device_bytes = m->swap.size_bytes;
	w->under_way = true;
	worker_submit(m->sampler, &w->job);
}

/* The source of the estimate; NULL: there is none, and nothing is known. */
static const char *choose_source(
	const struct manager *m, const struct guest *g, enum wss_method *ret_method)
{
	bool any = m->config.working_set == CONFIG_WORKING_SET_AUTO;

	if ((any && m->config.paging) || m->config.working_set == CONFIG_WORKING_SET_PAGE_OUT) {
		*ret_method = WSS_BY_PAGE_OUT;
		if (m->swap.free_bytes >= SWAP_MIN_BYTES)
			return "page-out";
	}
	if (any || m->config.working_set == CONFIG_WORKING_SET_IDLE_BITS) {
		*ret_method = WSS_BY_IDLE_BITS;
		if (m->wss_files.idle_bitmap_fd >= 0)
			return "idle-bits";
	}
	if ((any || m->config.working_set == CONFIG_WORKING_SET_BALLOON) &&
		g->sample.after.guest_stats_time_us)
		return "balloon";
	return NULL;
}

static struct guest *find_by_probe(struct manager *m, const struct wss_probe *p)
{
	for (size_t i = 0; i < m->n_guests; i++)
		if (m->guests[i]->probe == p)
			return m->guests[i];
	return NULL;
}

static uint64_t paused_us(const struct guest *g, uint64_t now_us)
{
	return g->paused_total_us + (g->paused_since_us ? now_us - g->paused_since_us : 0);
}

static void note_stall(struct manager *m, struct guest *g, const struct wss_probe *p)
{
	struct stall_in in = {
		.wall_us = p->wall_us,
		.paused_us = paused_us(g, clock_monotonic_us()),
		.faults = p->major_faults,
		.fault_us = m->fault_us,
		.n_vcpus = g->config.n_vcpus,
	};

	if (g->cgroup)
		in.by_kernel = cgroup_read_pressure(g->cgroup, &in.some_us, &in.full_us) == 0;
	g->running = stall_advance(&g->stall, &in);
	g->critical_bytes = stall_critical(&g->stall, g->critical_bytes, g->ledger.resident_bytes);
}

/* What the samples say about their regions. */
static void rate_regions(struct guest *g, const struct wss_probe *p)
{
	for (size_t i = 0; i < p->n_looks; i++) {
		const struct wss_look *l = &p->looks[i];
		bool touched = l->seen == WSS_TOUCHED;

		if (touched || (l->seen == WSS_IDLE && l->ages))
			reclaim_rate(&g->reclaim, (uint32_t)(l->page / CHUNK_PAGES), touched,
				g->wss.guest_us);
	}
}

static void probe_done(struct job *j)
{
	struct wss_probe *p = (struct wss_probe *)j;
	struct manager *m = p->context;
	struct guest *g = find_by_probe(m, p);

	if (g) {
		g->probe = NULL;
		g->random = p->random;
		wss_spent(&g->wss, p->cpu_us, p->n_pages);
		if (p->result == 0) {
			double fault_us = p->method == WSS_BY_PAGE_OUT ? m->fault_us : 0;

			rate_regions(g, p);
			wss_saw(&g->wss, p->looks, p->n_looks, fault_us);
			(void)wss_add(&g->wss, p->pages, p->n_pages); /* else fewer are followed */
			note_stall(m, g, p);
		}
	}
	sample_process_unref(p->process);
	wss_probe_free(p);
}

/* How many of them there are to draw from. */
static uint64_t fill_weights(const struct guest *g, struct wss_probe *p)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < g->process->n_regions; i++)
		sum += p->weights[i] = g->sample.kernel.regions[i].anonymous;
	return sum;
}

static void submit_probe(struct manager *m, struct guest *g, uint64_t wall_us, size_t n_wanted)
{
	struct wss_look looks[LOOKS_MAX];
	size_t n_looks = wss_due(&g->wss, looks, LOOKS_MAX);
	struct wss_probe *p = wss_probe_new(g->process->n_regions, n_looks, n_wanted);

	if (!p)
		return;
	p->job.done = probe_done;
	p->process = sample_process_ref(g->process);
	p->context = m;
	p->wall_us = wall_us;
	p->files = &m->wss_files;
	p->method = g->wss_method;
	p->has_huge = g->sample.kernel.rollup.anon_huge_bytes > 0;
	p->random = g->random;
	memcpy(p->looks, looks, n_looks * sizeof(looks[0]));
	if (fill_weights(g, p) == 0)
		p->n_wanted = 0;
	g->probe = p;
	worker_submit(m->sampler, &p->job);
}

/* What a guest says of itself: what is not available is in use. Nobody knows how wrong that is. */
static void estimate_by_balloon(struct guest *g)
{
	const struct vmm_stats *s = &g->sample.after;
	struct wss_figures *f = &g->wss.figures;

	if (s->guest_total_bytes == UINT64_MAX || s->guest_available_bytes == UINT64_MAX)
		return;
	f->bytes = u64_min(u64_sub_or_zero(s->guest_total_bytes, s->guest_available_bytes),
		g->config.memory_bytes);
	f->slow_bytes = f->fast_bytes = f->bytes;
	f->error_bytes = g->config.memory_bytes;
	f->source = "balloon";
	f->valid = true;
}

/* The first time there is nothing to conclude from. Returns whether there is. */
static bool begin(struct guest *g, uint64_t now_us)
{
	if (g->sampling_us)
		return true;
	if (getrandom(&g->random, sizeof(g->random), 0) == sizeof(g->random))
		g->sampling_us = now_us;
	g->random |= 1; /* 0 would stay 0 */
	g->running = 1;
	return false;
}

static void sample_guest(struct manager *m, struct guest *g, uint64_t now_us)
{
	uint64_t wall_us = now_us - g->sampling_us;
	double runs = g->state == GUEST_RUNNING ? g->running : 0;
	struct wss_limits limits = {
		.width_bp = m->config.sample_width_bp,
		.cpu_bp = m->config.sample_max_cpu_bp,
		.stall_bp = m->config.sample_max_stall_bp,
		.fault_us = m->fault_us,
	};
	enum wss_method method = g->wss_method;
	const char *source = guest_is_left_alone(g) ? NULL : choose_source(m, g, &method);
	bool marks = source && strcmp(source, "balloon") != 0;

	if (marks && (method != g->wss_method || !g->wss.figures.source)) {
		wss_done(&g->wss); /* what was marked otherwise tells nothing */
		g->wss_method = method;
	}
	g->sampling_us = now_us;
	wss_advance(&g->wss, wall_us, (uint64_t)((double)wall_us * runs));
	if (marks)
		wss_estimate(&g->wss, source, g->sample.kernel.ram_anonymous_pages * PAGE_BYTES,

			(g->sample.after.shared_pages + g->sample.after.template_pages) *
				PAGE_BYTES);
	else if (source)
		estimate_by_balloon(g);
	submit_probe(m, g, wall_us,
		marks && runs > 0 ? wss_wanted(&g->wss, &limits, wall_us, MARKS_MAX) : 0);
}

static int on_period(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct manager *m = userdata;
	uint64_t now_us = clock_monotonic_us();

	sd_event_source_set_time_relative(source, PERIOD_US);
	sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
	measure_fault(m);
	for (size_t i = 0; i < m->n_guests; i++) {
		struct guest *g = m->guests[i];

		if (guest_is_up(g) && g->process && g->sample.valid && !g->probe &&
			begin(g, now_us))
			sample_guest(m, g, now_us);
	}
	return 0;
}

int sampling_start(struct manager *m)
{
	struct fault_watch *w = calloc(1, sizeof(*w));
	int r;

	if (!w)
		return -ENOMEM;
	w->job = (struct job){.run = run_fault_watch, .done = fault_watch_done};
	w->manager = m;
	m->fault_watch = w;
	m->fault_us = FAULT_US_FIRST;
	wss_files_open(&m->wss_files);
	r = fault_probe_init(&w->probe);
	if (r < 0)
		return r;
	r = sd_event_add_time_relative(m->event, &m->sampling_timer, CLOCK_MONOTONIC, PERIOD_US,
		10 * US_PER_MS, on_period, m);
	return r < 0 ? r : 0;
}

void sampling_stop(struct manager *m)
{
	if (!m->fault_watch)
		return;
	m->sampling_timer = sd_event_source_disable_unref(m->sampling_timer);
	free_fault_watch(m->fault_watch);
	m->fault_watch = NULL;
	wss_files_close(&m->wss_files);
}

void sampling_cancel(struct guest *g)
{
	g->probe = NULL; /* its end finds nobody */
}

void sampling_state_changed(struct guest *g, enum guest_state old)
{
	uint64_t now_us = clock_monotonic_us();

	if (old == g->state)
		return;
	if (g->paused_since_us)
		g->paused_total_us += now_us - g->paused_since_us;
	g->paused_since_us = g->state == GUEST_PAUSED && g->paused_by_host ? now_us : 0;
}
