/*
 * DOC: balanced, host and guests share the discomfort
 *
 * ChromeOS's idea: a guest is comfortable while it has its working set and a margin above it, the
 * host while it has what it should keep free. When not all of that fits, host and guests get the
 * same part of theirs, by shares, so that none is well while another is in need. When it fits, what
 * is left goes to what guests have use for but do not use, then up to their most, by shares.
 *
 * The margin is learned: it begins at Margin, and grows by as much each time a guest stalls although
 * it has working set and margin (the samples do not see what a guest needs for a moment), up to
 * a quarter of the guest; without a stall it is halved every 10 minutes. A level at which memd saw
 * the guest thrash (critical_bytes) is comfort too.
 *
 *   Margin=3%      of the guest; Margin@db-*=10%
 *   StallLimit=1%  of the time: more is discomfort
 */
#include <errno.h>
#include <stdio.h>

#include "memd/base/clock.h"
#include "memd/base/units.h"
#include "memd/base/cleanup.h"
#include "policy/builtin.h"
#include "policy/builtin-state.h"
#include "policy/guest-view.h"
#include "policy/host-state.h"

#define ONE_BP	       10000
#define LEARNED_PART   4 /* at most a quarter of the guest */
#define HALF_LIFE_US   (600 * US_PER_S)
#define LEARN_EVERY_US (10 * US_PER_S) /* the stall is an average over that */

enum { MARGIN, STALL_LIMIT };

static const struct setting keys[] = {
	[MARGIN] = {"Margin", SETTING_PERCENT, 300, 0, ONE_BP / LEARNED_PART},
	[STALL_LIMIT] = {"StallLimit", SETTING_PERCENT, 100, 1, ONE_BP},
};

struct guest_record {
	uint64_t id;
	uint64_t learned_bytes; /* beside Margin */
	uint64_t learned_us; /* when it last changed */
};

DEFINE_BUILTIN_STATE(keys, sizeof(struct guest_record))

static uint64_t margin_of(const struct builtin_state *b, const struct memd_guest_view *g)
{
	return g->configured_bytes / ONE_BP * settings_get(&b->settings, MARGIN, g->name);
}

static uint64_t comfort_of(
	const struct builtin_state *b, const struct memd_guest_view *g, const struct guest_record *r)
{
	uint64_t bytes = view_active(g) + margin_of(b, g) + r->learned_bytes;

	return view_clamp(g, u64_max(bytes, g->critical_bytes));
}

static void learn(const struct builtin_state *b, const struct memd_host_view *view,
	const struct memd_guest_view *g, struct guest_record *r)
{
	bool stalls = g->stall_some_10_bp > settings_get(&b->settings, STALL_LIMIT, g->name);

	if (stalls && g->resident_bytes >= comfort_of(b, g, r) &&
		view->now_us - r->learned_us >= LEARN_EVERY_US) {
		r->learned_bytes = u64_min(
			r->learned_bytes + u64_max(margin_of(b, g), g->configured_bytes / 64),
			g->configured_bytes / LEARNED_PART);
		r->learned_us = view->now_us;
	} else if (!stalls && view->now_us - r->learned_us >= HALF_LIFE_US) {
		r->learned_bytes /= 2;
		r->learned_us = view->now_us;
	}
}

/* The vessels from a base up to a limit, by shares. */
static void fill_above(struct vessels *vs, const struct memd_host_view *view,
	uint64_t (*limit_of)(const struct memd_guest_view *g))
{
	for (uint32_t i = 0; i < view->n_guests; i++) {
		uint64_t reached = vs->v[i].high_bytes;

		vs->v[i].base_bytes = reached;
		vs->v[i].low_bytes = reached;
		vs->v[i].high_bytes = u64_max(reached, limit_of(view->guests[i]));
		vs->v[i].weight = view->guests[i]->shares;
	}
}

static void fill_comforts(struct builtin_state *b, const struct memd_host_view *view,
	const struct guest_record *records, uint64_t host_bytes)
{
	struct vessel *v = b->vessels.v;

	for (uint32_t i = 0; i < view->n_guests; i++) {
		const struct memd_guest_view *g = view->guests[i];
		uint64_t comfort = comfort_of(b, g, &records[i]);

		v[i] = (struct vessel){
			.low_bytes = view_min(g),
			.high_bytes = comfort,
			.knee_bytes = VESSEL_NO_KNEE,
			.weight = view_weight(g, comfort),
			.tax_bp = VESSEL_NO_TAX_BP,
		};
	}
	/* The host is the last of them, with 1000 shares; it keeps a sixth whatever comes. */
	v[view->n_guests] = (struct vessel){
		.low_bytes = host_bytes / 6,
		.high_bytes = host_bytes,
		.knee_bytes = VESSEL_NO_KNEE,
		.weight = host_bytes / PAGE_BYTES + 1,
		.tax_bp = VESSEL_NO_TAX_BP,
	};
}

/* Chooses what is filled: comforts; from there to demands; from there to all that guests may have. */
static const char *choose(
	struct vessels *vs, const struct memd_host_view *view, uint64_t available_bytes)
{
	size_t n = view->n_guests + 1;

	if (vessels_high(vs, n) > available_bytes)
		return "shares the discomfort";
	vs->v[view->n_guests].low_bytes = vs->v[view->n_guests].high_bytes;
	fill_above(vs, view, view_demand);
	if (vessels_high(vs, n) > available_bytes)
		return "comfortable, and part of what it does not use";
	fill_above(vs, view, view_max);
	return "comfortable, and part of what is spare";
}

static int evaluate(
	void *state, const struct memd_host_view *view, struct memd_proposal *const *proposals)
{
	struct builtin_state *b = state;
	struct guest_record *records = builtin_state_records(b, view);
	uint64_t available_bytes = view_available(view);
	vessel_sum_t comfort_bytes;
	vessel_level_t level;
	const char *what;

	if (view->n_guests == 0)
		return 0;
	if (!records || vessels_reserve(&b->vessels, view->n_guests + 1) < 0)
		return -ENOMEM;
	for (uint32_t i = 0; i < view->n_guests; i++)
		learn(b, view, view->guests[i], &records[i]);
	fill_comforts(b, view, records, host_min_free_bytes(view->budget_bytes));
	comfort_bytes = vessels_high(&b->vessels, view->n_guests + 1);
	what = choose(&b->vessels, view, available_bytes);
	level = vessels_level(&b->vessels, view->n_guests + 1, available_bytes);
	for (uint32_t i = 0; i < view->n_guests; i++) {
		proposals[i]->target_bytes = vessel_amount(&b->vessels.v[i], level);
		SAY(proposals[i], "%s: comfortable with %s; host and guests with %s, %s available",
			what, UNITS_BYTES(comfort_of(b, view->guests[i], &records[i])),
			UNITS_BYTES(vessel_sum_cut(comfort_bytes)), UNITS_BYTES(available_bytes));
	}
	return 0;
}

const struct memd_policy policy_balanced = {
	.size = sizeof(policy_balanced),
	.api_version = MEMD_POLICY_API_VERSION,
	.name = "balanced",
	.description = "host and guests share the discomfort, and guests what is left",
	.config = configure,
	.open = open_state,
	.evaluate = evaluate,
	.close = builtin_state_close,
};
