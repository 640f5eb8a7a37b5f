/*
 * DOC: proportional, memory by shares between floor and ceiling
 *
 * Available is the budget less what is no guest's. It is filled like connected vessels: each guest
 * gets level * shares, but not less than its floor and not more than its ceiling, and the level is
 * the highest at which the sum still fits (Waldspurger's min, max and shares, as max-min fairness
 * by weight).
 *
 * The ceiling is first what the guest has use for: resident, swapped out and saved by sharing, with
 * an eighth more to grow by. Without that, a guest that uses a tenth of its right would hold memory
 * that another pages for. If all such demands fit, what is left over is filled on top in the same
 * way up to max_bytes: memory that nobody needs still saves a growing guest from waiting for the
 * next tick. If all of max_bytes fits, everyone has that, and there is no pressure at all.
 *
 * The level is found by bisection, since the sum grows with it: 85 sums over the guests, no
 * sorting, no memory. What a guest claims is not used. No state: equal figures give equal targets.
 */
#include <stdbool.h>
#include <stdio.h>

#include "memd/base/overflow.h"
#include "memd/base/units.h"
#include "policy/builtin.h"

typedef unsigned __int128 u128;

/* Of demand, to grow by until the next tick. */
#define HEADROOM_DIVISOR 8

/*
 * A level is bytes per share, times 2^20: at most 2^84, so that level * shares (2^20) stays in 128
 * bits.
 */
#define LEVEL_SHIFT 20
#define LEVEL_BITS  (64 + LEVEL_SHIFT)

/* How the filling of vessels begins and ends for one guest. */
enum filling {
	FILL_DEMAND, /* from nothing: at least the floor, at most the demand */
	FILL_SPARE, /* on top of the demand: up to max_bytes */
};

static uint64_t max_of(const struct memd_guest_view *g)
{
	return u64_min(g->max_bytes, g->configured_bytes);
}

static uint64_t min_of(const struct memd_guest_view *g)
{
	return u64_min(g->min_bytes, max_of(g));
}

/* What the guest has use for, between floor and ceiling. */
static uint64_t demand_of(const struct memd_guest_view *g)
{
	u128 demand = (u128)g->resident_bytes + g->swapped_bytes + g->saved_sharing_bytes;

	demand += demand / HEADROOM_DIVISOR;
	if (demand >= max_of(g))
		return max_of(g);
	return u64_max((uint64_t)demand, min_of(g));
}

/* What the guest has at that level. */
static uint64_t amount_at(const struct memd_guest_view *g, enum filling filling, u128 level)
{
	u128 part = level * g->shares >> LEVEL_SHIFT;
	uint64_t demand = demand_of(g);

	if (filling == FILL_SPARE)
		return part < max_of(g) - demand ? demand + (uint64_t)part : max_of(g);
	if (part >= demand)
		return demand;
	return u64_max((uint64_t)part, min_of(g));
}

static bool fits_at(const struct memd_host_view *view, enum filling filling, u128 level,
	uint64_t available_bytes)
{
	u128 sum = 0;

	for (uint32_t i = 0; i < view->n_guests; i++)
		sum += amount_at(view->guests[i], filling, level);
	return sum <= available_bytes;
}

/* The highest level that fits; level 0 is known to. */
static u128 find_level(
	const struct memd_host_view *view, enum filling filling, uint64_t available_bytes)
{
	u128 level = 0;

	for (int bit = LEVEL_BITS - 1; bit >= 0; bit--) {
		u128 higher = level | (u128)1 << bit;

		if (fits_at(view, filling, higher, available_bytes))
			level = higher;
	}
	return level;
}

struct sums {
	u128 min, demand, max;
	uint64_t shares;
};

static struct sums sum_up(const struct memd_host_view *view)
{
	struct sums s = {0};

	for (uint32_t i = 0; i < view->n_guests; i++) {
		const struct memd_guest_view *g = view->guests[i];

		s.min += min_of(g);
		s.demand += demand_of(g);
		s.max += max_of(g);
		s.shares += g->shares;
	}
	return s;
}

static uint64_t saturate(u128 v)
{
	return v > UINT64_MAX ? UINT64_MAX : (uint64_t)v;
}

#define SAY(proposal, ...) snprintf((proposal)->reason, sizeof((proposal)->reason), __VA_ARGS__)

static void propose_max(const struct memd_guest_view *g, const struct sums *sums,
	uint64_t available_bytes, struct memd_proposal *p)
{
	p->target_bytes = max_of(g);
	SAY(p, "all guests at their most fit: %s of %s available", UNITS_BYTES(saturate(sums->max)),
		UNITS_BYTES(available_bytes));
}

static void propose_min(const struct memd_guest_view *g, const struct sums *sums,
	uint64_t available_bytes, struct memd_proposal *p)
{
	p->target_bytes = min_of(g);
	SAY(p, "floor: the floors of all guests, %s, do not fit in %s available",
		UNITS_BYTES(saturate(sums->min)), UNITS_BYTES(available_bytes));
}

static void propose_spare(const struct memd_guest_view *g, const struct sums *sums,
	uint64_t available_bytes, u128 level, struct memd_proposal *p)
{
	p->target_bytes = amount_at(g, FILL_SPARE, level);
	SAY(p, "demand %s and %s of %s spare by %u of %llu shares", UNITS_BYTES(demand_of(g)),
		UNITS_BYTES(p->target_bytes - demand_of(g)),
		UNITS_BYTES(available_bytes - (uint64_t)sums->demand), g->shares,
		(unsigned long long)sums->shares);
}

static void propose_part(const struct memd_guest_view *g, const struct sums *sums,
	uint64_t available_bytes, u128 level, struct memd_proposal *p)
{
	const char *what;

	p->target_bytes = amount_at(g, FILL_DEMAND, level);
	if (p->target_bytes == demand_of(g))
		what = "whole demand";
	else if (p->target_bytes == min_of(g))
		what = "floor, above its part";
	else
		what = "part";
	SAY(p, "%s: %u of %llu shares of %s available, demand %s of all guests' %s", what,
		g->shares, (unsigned long long)sums->shares, UNITS_BYTES(available_bytes),
		UNITS_BYTES(demand_of(g)), UNITS_BYTES(saturate(sums->demand)));
}

static int evaluate(
	void *state, const struct memd_host_view *view, struct memd_proposal *const *proposals)
{
	uint64_t available_bytes = u64_sub_or_zero(view->budget_bytes, view->overhead_bytes);
	struct sums sums = sum_up(view);
	u128 level = 0;

	(void)state;
	if (sums.demand <= available_bytes && sums.max > available_bytes)
		level = find_level(view, FILL_SPARE, available_bytes);
	else if (sums.min <= available_bytes && sums.demand > available_bytes)
		level = find_level(view, FILL_DEMAND, available_bytes);
	for (uint32_t i = 0; i < view->n_guests; i++) {
		const struct memd_guest_view *g = view->guests[i];

		if (sums.max <= available_bytes)
			propose_max(g, &sums, available_bytes, proposals[i]);
		else if (sums.demand <= available_bytes)
			propose_spare(g, &sums, available_bytes, level, proposals[i]);
		else if (sums.min <= available_bytes)
			propose_part(g, &sums, available_bytes, level, proposals[i]);
		else
			propose_min(g, &sums, available_bytes, proposals[i]);
	}
	return 0;
}

const struct memd_policy policy_proportional = {
	.size = sizeof(policy_proportional),
	.api_version = MEMD_POLICY_API_VERSION,
	.name = "proportional",
	.description = "memory by shares, between each guest's floor and ceiling",
	.evaluate = evaluate,
};
