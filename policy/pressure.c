/*
 * DOC: pressure, a stall budget for each guest
 *
 * Senpai's idea (Weiner et al., TMO, ASPLOS 2022): nobody knows how much memory a guest needs, but
 * how long it waits for memory can be measured. So every Interval each guest is made a little
 * smaller while it waits less than its StallBudget, by Probe at most and the less the nearer it
 * is. When it waits more, it gets back twice as much each time, and after that it is left alone for
 * a while that doubles too: the balance is found once, and kept.
 *
 * That gives what each guest wants. Memory that a guest touches anew is added at once, since what is
 * new is in use, and nothing is wanted beyond what it has use for (view_demand). If the wants do not
 * fit, each guest gets the same part of its own by shares; one that stalls will want more, and one that does
 * not, less, until they stall alike. What is left over stays free, for guests to come.
 *
 *   StallBudget=0.2%   of the time, some vCPU waits; for 1000 shares, with 2000 half of it.
 *                      StallBudget@db-*=0.05%
 *   Probe=1%           of the guest, each Interval
 *   Interval=6s
 */
#include <errno.h>
#include <stdio.h>

#include "memd/base/clock.h"
#include "memd/base/units.h"
#include "memd/base/cleanup.h"
#include "policy/builtin.h"
#include "policy/builtin-state.h"
#include "policy/guest-view.h"

#define ONE_BP	      10000
#define SHARES_NORMAL 1000
/* What comes back at the first stall over the budget, and at most: of the guest. */
#define BACK_MIN_BP   200
#define BACK_MAX_BP   3200
/* How long a guest is left alone after that, in intervals. */
#define REST_MAX      64

enum { STALL_BUDGET, PROBE, INTERVAL };

static const struct setting keys[] = {
	[STALL_BUDGET] = {"StallBudget", SETTING_PERCENT, 20, 1, ONE_BP / 2},
	[PROBE] = {"Probe", SETTING_PERCENT, 100, 1, 500},
	[INTERVAL] = {"Interval", SETTING_TIME, 6 * US_PER_S, US_PER_S, 600 * US_PER_S},
};

struct guest_record {
	uint64_t id;
	uint64_t wanted_bytes; /* 0: a new guest */
	uint64_t used_bytes; /* touched, as last seen */
	uint64_t probed_us; /* when it was last made smaller or larger */
	uint32_t back_bp; /* the last step back; 0: the last was a probe */
	uint32_t rest; /* intervals to wait before the next probe */
	uint32_t rest_last; /* how long it was the last time */
};

DEFINE_BUILTIN_STATE(keys, sizeof(struct guest_record))

static uint64_t bp_of(uint64_t bytes, uint64_t bp)
{
	return (uint64_t)((unsigned __int128)bytes * bp / ONE_BP);
}

/* In basis points; more shares, less of it. At least 1. */
static uint64_t budget_of(const struct builtin_state *p, const struct memd_guest_view *g)
{
	uint64_t bp = settings_get(&p->settings, STALL_BUDGET, g->name);

	return u64_max(bp * SHARES_NORMAL / u64_max(g->shares, 1), 1);
}

static void step_back(struct guest_record *r)
{
	r->back_bp = r->back_bp ? (uint32_t)u64_min(r->back_bp * 2, BACK_MAX_BP) : BACK_MIN_BP;
	r->rest_last = r->rest_last ? (uint32_t)u64_min(r->rest_last * 2, REST_MAX) : 1;
	r->rest = r->rest_last;
	r->wanted_bytes += bp_of(r->wanted_bytes, r->back_bp);
}

/* Once an interval. */
static void probe(const struct builtin_state *p, const struct memd_guest_view *g, struct guest_record *r)
{
	uint64_t budget = budget_of(p, g);

	if (g->stall_some_10_bp > budget) {
		step_back(r);
	} else if (r->rest > 0) {
		r->rest--;
		r->back_bp = 0;
	} else {
		uint64_t bp = settings_get(&p->settings, PROBE, g->name);

		r->wanted_bytes -=
			bp_of(r->wanted_bytes, bp * (budget - g->stall_some_10_bp) / budget);
		r->back_bp = 0;
	}
}

/* Follows what the guest touches and frees, every tick. */
static void follow(const struct memd_guest_view *g, struct guest_record *r)
{
	uint64_t used = g->resident_bytes + g->swapped_bytes + g->saved_sharing_bytes;

	if (r->wanted_bytes == 0)
		r->wanted_bytes = view_demand(g);
	else if (used > r->used_bytes)
		r->wanted_bytes += used - r->used_bytes;
	r->used_bytes = used;
	r->wanted_bytes = view_clamp(g, u64_min(r->wanted_bytes, view_demand(g)));
}

static void update(const struct builtin_state *p, const struct memd_host_view *view,
	const struct memd_guest_view *g, struct guest_record *r)
{
	bool fresh = r->wanted_bytes == 0;

	follow(g, r);
	if (fresh)
		r->probed_us = view->now_us;
	if (view->now_us - r->probed_us < settings_get(&p->settings, INTERVAL, g->name))
		return;
	r->probed_us = view->now_us;
	probe(p, g, r);
	r->wanted_bytes = view_clamp(g, u64_min(r->wanted_bytes, view_demand(g)));
}

static void say(const struct builtin_state *p, const struct memd_guest_view *g,
	const struct guest_record *r, vessel_sum_t sum_bytes, struct memd_proposal *proposal)
{
	const char *what = r->back_bp	 ? "waits too long, stepped back"
			   : r->rest > 0 ? "left alone after a step back"
					 : "probed";

	SAY(proposal, "waits %u of %u bp: %s to %s; all guests want %s", g->stall_some_10_bp,
		(unsigned)budget_of(p, g), what, UNITS_BYTES(r->wanted_bytes),
		UNITS_BYTES(vessel_sum_cut(sum_bytes)));
}

static int evaluate(
	void *state, const struct memd_host_view *view, struct memd_proposal *const *proposals)
{
	struct builtin_state *p = state;
	struct guest_record *records = builtin_state_records(p, view);
	vessel_level_t level;
	vessel_sum_t sum_bytes;

	if (view->n_guests == 0)
		return 0;
	if (!records || vessels_reserve(&p->vessels, view->n_guests) < 0)
		return -ENOMEM;
	for (uint32_t i = 0; i < view->n_guests; i++) {
		const struct memd_guest_view *g = view->guests[i];

		update(p, view, g, &records[i]);
		p->vessels.v[i] = (struct vessel){
			.low_bytes = view_min(g),
			.high_bytes = records[i].wanted_bytes,
			.knee_bytes = VESSEL_NO_KNEE,
			.weight = view_weight(g, records[i].wanted_bytes),
			.tax_bp = VESSEL_NO_TAX_BP,
		};
	}
	sum_bytes = vessels_high(&p->vessels, view->n_guests);
	level = vessels_level(&p->vessels, view->n_guests, view_available(view));
	for (uint32_t i = 0; i < view->n_guests; i++) {
		proposals[i]->target_bytes = vessel_amount(&p->vessels.v[i], level);
		say(p, view->guests[i], &records[i], sum_bytes, proposals[i]);
	}
	return 0;
}

const struct memd_policy policy_pressure = {
	.size = sizeof(policy_pressure),
	.api_version = MEMD_POLICY_API_VERSION,
	.name = "pressure",
	.description = "each guest as small as its stall budget allows",
	.config = configure,
	.open = open_state,
	.evaluate = evaluate,
	.close = builtin_state_close,
};
