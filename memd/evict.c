/*
 * Page-out of one guest, from the decision to the worker and back. Which regions is reclaim.c's to
 * say, how many ahead of need pace.c's; what the host cannot wait for comes from wall.c.
 */
#include "memd/evict.h"

#include <string.h>

#include "memd/base/clock.h"
#include "memd/base/log.h"
#include "memd/base/overflow.h"
#include "memd/base/units.h"
#include "memd/pageout.h"

/* One page-out job: at most so much, and so long, since others wait for the pager too. */
#define PAGE_OUT_MAX_REGIONS 32
#define PAGE_OUT_MAX_US	     (100 * US_PER_MS)
/* Fewer than this over the target is left: a page-out takes whole regions. */
#define OVER_MIN_BYTES	     CHUNK_BYTES

/*
 * A page is tried for sharing before it is paged out: a guest's scanner gets so long for one pass
 * at full speed, and what it left may go out for the time after.
 */
#define SCAN_WAIT_US  (3 * US_PER_S)
#define SCAN_VALID_US (30 * US_PER_S)

/* From this part of the budget on, cold pages go out although nobody is over the target. */
#define AHEAD_FROM_PERCENT 85
/* Unless less than this part of what a guest has is idle: there is nothing to find. */
#define IDLE_PART	   16

static struct guest *find_by_id(const struct manager *m, uint64_t id)
{
	for (size_t i = 0; i < m->n_guests; i++)
		if (m->guests[i]->id == id)
			return m->guests[i];
	return NULL;
}

static void page_out_done(struct job *j)
{
	struct pageout *p = (struct pageout *)j;
	struct manager *m = p->context;
	struct guest *g = find_by_id(m, p->guest_id);

	if (g && g->pageout == p) {
		uint64_t out_pages = g->reclaim.out_pages_total;

		for (uint32_t i = 0; i < p->n_regions; i++) {
			reclaim_finish(&g->reclaim, p->regions[i].number,
				i < p->n_done ? &p->regions[i].after : NULL, p->done_us);
			/* What its samples were is out now in any case. */
			if (i < p->n_done)
				wss_forget(
					&g->wss, p->regions[i].number * CHUNK_PAGES, CHUNK_PAGES);
		}
		judge_paged_out(g, g->reclaim.out_pages_total - out_pages, p->cpu_us);
		g->pageout = NULL;
		if (p->result < 0 && p->result != -ESRCH)
			log_warning(
				"guest %s: paging out failed: %s", g->name, strerror(-p->result));
	}
	sample_process_unref(p->process);
	free(p);
}

static bool scanned_first(const struct manager *m, struct guest *g, uint64_t now_us)
{
	uint64_t passes = g->sample.after.scan_passes;

	if (m->config.share_mode == CONFIG_SHARE_OFF || !g->ops->set_scan ||
		now_us < g->scanned_until_us ||
		!ladder_before(&g->judge.ladder, LADDER_SHARE, LADDER_PAGE_OUT))
		return true;
	if (g->scan_wait_until_us == 0) {
		g->scan_wait_until_us = now_us + SCAN_WAIT_US;
		g->scan_wait_passes = passes;
		return false;
	}
	if (passes == g->scan_wait_passes && now_us < g->scan_wait_until_us)
		return false;
	g->scan_wait_until_us = 0;
	g->scanned_until_us = now_us + SCAN_VALID_US;
	return true;
}

/*
 * Has the scanner seen what shall go out? Ahead of need one pass at its own pace, once, is enough:
 * a pass at full speed for each guest every half minute took a core from four of them.
 */
static bool is_offered(
	const struct manager *m, struct guest *g, enum reclaim_urgency urgency, uint64_t now_us)
{
	if (urgency == RECLAIM_FORCED)
		return true;
	if (urgency <= RECLAIM_AHEAD && g->sample.after.scan_passes > 0)
		return true;
	return scanned_first(m, g, now_us);
}

size_t evict_begin(
	struct manager *m, struct guest *g, uint64_t wanted_bytes, enum reclaim_urgency urgency)
{
	uint32_t regions[PAGE_OUT_MAX_REGIONS];
	uint64_t now_us = clock_monotonic_us();
	struct pageout *p;
	size_t n;

	if (!m->config.paging || m->swap.free_bytes == 0 || g->pageout || !g->process ||
		guest_is_left_alone(g))
		return 0;
	if (!is_offered(m, g, urgency, now_us))
		return 0;
	n = reclaim_choose(&g->reclaim, wanted_bytes / PAGE_BYTES, urgency, now_us, g->wss.guest_us,
		regions, PAGE_OUT_MAX_REGIONS);
	if (n == 0)
		return 0;
	p = calloc(1, sizeof(*p) + n * sizeof(p->regions[0]));
	if (!p) {
		for (size_t i = 0; i < n; i++)
			reclaim_finish(&g->reclaim, regions[i], NULL, 0);
		return 0;
	}
	p->job = (struct job){.run = pageout_run, .done = page_out_done};
	p->worker = m->pager;
	p->process = sample_process_ref(g->process);
	p->context = m;
	p->guest_id = g->id;
	p->time_limit_us = PAGE_OUT_MAX_US;
	p->n_regions = (uint32_t)n;
	for (size_t i = 0; i < n; i++)
		p->regions[i].number = regions[i];
	g->pageout = p;
	worker_submit(m->pager, &p->job);
	return n;
}

void evict_cancel(struct guest *g)
{
	g->pageout = NULL; /* its end finds nobody of that id */
}

/* Cold regions, as fast as the guest's stall budget lets; where there are none, a few others. */
static void evict_ahead(
	struct manager *m, struct guest *g, uint64_t wanted_bytes, bool others, uint64_t now_us)
{
	struct pace_in in = {
		.now_us = now_us,
		.stall_bp = g->stall.figures.some_10_bp,
		.budget_bp = m->config.stall_budget_bp,
		.resident_bytes = g->ledger.resident_bytes,
		.rate_bytes = m->swap.in_ram ? 0 : m->config.flash_write_bytes,
	};
	struct pace_out may;
	size_t n;

	pace_decide(&g->pace, &in, &may);
	if (m->swap.state != SWAP_GOOD)
		return;
	n = evict_begin(m, g, u64_min(may.cold_bytes, wanted_bytes), RECLAIM_COLD_ONLY);
	if (n == 0 && others)
		n = evict_begin(m, g, u64_min(may.other_bytes, wanted_bytes), RECLAIM_AHEAD);
	pace_spend(&g->pace, n * CHUNK_BYTES);
}

/* Nothing is short, but soon will be: what is cold may go before somebody has to wait for it. */
static void evict_idle(struct manager *m, struct guest *g, uint64_t now_us)
{
	const struct wss_figures *f = &g->wss.figures;

	if (m->ledger.used_bytes >= m->budget_bytes / 100 * AHEAD_FROM_PERCENT && f->valid &&
		f->idle_bytes[WSS_WINDOW] >= g->ledger.resident_bytes / IDLE_PART)
		evict_ahead(m, g, UINT64_MAX, false, now_us);
}

/*
 * What sharing and the balloon did not give within their time: ahead, or at once when the host is
 * short, or the operator fixed the target.
 */
void evict_act(struct manager *m, struct guest *g, uint64_t now_us)
{
	uint64_t over = u64_sub_or_zero(g->ledger.resident_bytes, g->target_bytes);
	bool short_now = m->host_state >= MEMD_HOST_HARD;

	if (over < OVER_MIN_BYTES || g->target_bytes == 0) {
		g->over_since_us = 0;
		evict_idle(m, g, now_us);
		return;
	}
	if (g->over_since_us == 0)
		g->over_since_us = now_us;
	if (short_now)
		evict_begin(m, g, over, RECLAIM_URGENT);
	else if (now_us - g->over_since_us < judge_page_out_wait_us(g))
		return;
	else if (g->fixed_bytes)
		evict_begin(m, g, over, RECLAIM_AHEAD);
	else
		evict_ahead(m, g, over, true, now_us);
}
