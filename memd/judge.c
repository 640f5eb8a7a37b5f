/* Claims and costs of a guest; see judge.h. */
#include "memd/judge.h"

#include "memd/base/log.h"
#include "memd/base/overflow.h"
#include "memd/base/units.h"
#include "memd/guest.h"
#include "memd/guest-agent.h"

/* The device's part of a balloon's work is measured; the driver's, in the guest, is taken for this. */
#define DRIVER_US_PER_PAGE 2

/* What it cannot be using: there are no pages. */
static uint64_t absent_bytes(const struct guest *g)
{
	const struct vmm_stats *s = &g->sample.after;

	return (s->hole_untouched_pages + s->hole_reported_pages + s->hole_hinted_pages) * PAGE_BYTES;
}

/* The newer of what the balloon's driver and the agent said. UINT64_MAX: nothing. */
static uint64_t claim(const struct guest *g, uint64_t *ret_us)
{
	const struct vmm_stats *s = &g->sample.after;
	uint64_t us = 0;
	const struct agent_message *m = guest_agent_report(g, &us);

	if (m && us > s->guest_stats_time_us && agent_has(m, AGENT_AVAILABLE)) {
		*ret_us = us;
		return agent_get(m, AGENT_AVAILABLE, 0);
	}
	*ret_us = s->guest_stats_time_us;
	return s->guest_stats_time_us ? s->guest_available_bytes : UINT64_MAX;
}

static void check_claims(struct guest *g, uint64_t now_us)
{
	const struct vmm_stats *s = &g->sample.after;
	struct judge *j = &g->judge;
	bool was_distrusted = j->claims.distrusted;
	uint64_t claimed_us, available = claim(g, &claimed_us);
	struct claims_in in = {
		.now_us = now_us,
		.fresh = claimed_us > j->claimed_us,
		.balloon_stuck = g->balloon.stuck,
		.configured_bytes = g->config.memory_bytes,
		.balloon_bytes = s->balloon_actual_pages * PAGE_BYTES,
		.available_bytes = available,
		.absent_bytes = absent_bytes(g),
	};
	enum claims_verdict v;

	if (available == UINT64_MAX) {
		/* no claim, no lie */
		in.available_bytes = 0;
		in.absent_bytes = 0;
	}
	v = claims_check(&j->claims, &in);
	j->claimed_us = claimed_us;
	if (j->claims.distrusted && !was_distrusted)
		log_notice("guest %s is not believed: it %s (%s available claimed, %s certainly "
			   "free, %s in its balloon); its memory is had by paging",
			g->name, claims_verdict_text(v), UNITS_BYTES(in.available_bytes),
			UNITS_BYTES(in.absent_bytes), UNITS_BYTES(in.balloon_bytes));
	else if (was_distrusted && !j->claims.distrusted)
		log_info("guest %s is believed again", g->name);
}

/* What sharing and the balloon gave since the last tick, and whom the guest's waiting is due to. */
static void note_costs(struct guest *g)
{
	const struct vmm_stats *s = &g->sample.after;
	struct judge *j = &g->judge;
	uint64_t scan_pages = s->scan_pages_mapped + s->scan_pages_dropped;
	uint64_t balloon_bytes = s->balloon_actual_pages * PAGE_BYTES;
	uint64_t given = u64_sub_or_zero(balloon_bytes, j->balloon_bytes) / PAGE_BYTES;
	uint64_t waited_us = u64_sub_or_zero(g->stall.figures.some_us, j->stall_us);

	if (j->begun) {
		ladder_note_freed(&j->ladder, LADDER_SHARE,
			u64_sub_or_zero(scan_pages, j->scan_pages),
			u64_sub_or_zero(s->scan_cpu_us, j->scan_cpu_us));
		ladder_note_freed(&j->ladder, LADDER_BALLOON, given,
			u64_sub_or_zero(s->balloon_cpu_us, j->balloon_cpu_us) +
				given * DRIVER_US_PER_PAGE);
		if (g->reclaim.refault_pages_last)
			ladder_note_back(&j->ladder, LADDER_PAGE_OUT, waited_us);
		else if (j->faulting && balloon_bytes)
			ladder_note_back(&j->ladder, LADDER_BALLOON, waited_us);
	}
	j->scan_pages = scan_pages;
	j->scan_cpu_us = s->scan_cpu_us;
	j->balloon_bytes = balloon_bytes;
	j->balloon_cpu_us = s->balloon_cpu_us;
	j->stall_us = g->stall.figures.some_us;
}

void judge_sample(struct guest *g, bool ladder_fixed, uint64_t now_us)
{
	struct judge *j = &g->judge;

	j->ladder.fixed = ladder_fixed;
	if (!j->begun)
		ladder_init(&j->ladder, now_us);
	ladder_age(&j->ladder, now_us);
	check_claims(g, now_us);
	note_costs(g);
	j->begun = true;
}

void judge_paged_out(struct guest *g, uint64_t pages, uint64_t cpu_us)
{
	ladder_note_freed(&g->judge.ladder, LADDER_PAGE_OUT, pages, cpu_us);
}

uint64_t judge_available_bytes(const struct guest *g)
{
	uint64_t us, bytes = claim(g, &us);

	return us && g->judge.claims.distrusted ? absent_bytes(g) : bytes;
}

uint64_t judge_claimed_bytes(const struct guest *g)
{
	uint64_t us;

	return claim(g, &us);
}

uint64_t judge_claimed_us(const struct guest *g)
{
	uint64_t us;

	(void)claim(g, &us);
	return us;
}

bool judge_in_distress(const struct guest *g)
{
	return g->balloon.distress && !g->judge.claims.distrusted &&
	       claims_distress_is_seen(g->wss.figures.valid, g->wss.figures.bytes,
		       g->ledger.resident_bytes, g->stall.figures.some_10_bp);
}

uint64_t judge_page_out_wait_us(const struct guest *g)
{
	if (g->judge.claims.distrusted)
		return 0;
	return ladder_rank(&g->judge.ladder, LADDER_PAGE_OUT) * JUDGE_PATIENCE_US;
}

uint64_t judge_balloon_target(const struct guest *g, uint64_t now_us)
{
	uint64_t turn_us = judge_page_out_wait_us(g) + JUDGE_PATIENCE_US;

	if (!ladder_before(&g->judge.ladder, LADDER_PAGE_OUT, LADDER_BALLOON) ||
		(g->over_since_us && now_us - g->over_since_us >= turn_us))
		return g->target_bytes;
	return u64_max(g->target_bytes, g->ledger.resident_bytes);
}
