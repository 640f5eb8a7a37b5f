/*
 * What the built-in policies read off a guest's view: its bounds, what it has use for, what it
 * uses. All figures that memd measured; what a guest claims is not among them.
 */
#pragma once

#include "memd/base/overflow.h"
#include "memd/base/units.h"
#include "memd/policy.h"
#include "policy/vessels.h"

/* Of demand, to grow by until the next tick. */
#define HEADROOM_DIVISOR 8

/* The ceiling that holds, and the floor under it. */
static inline uint64_t view_max(const struct memd_guest_view *g)
{
	return u64_min(g->max_bytes, g->configured_bytes);
}

static inline uint64_t view_min(const struct memd_guest_view *g)
{
	return u64_min(g->min_bytes, view_max(g));
}

/* Within floor and ceiling. */
static inline uint64_t view_clamp(const struct memd_guest_view *g, uint64_t bytes)
{
	return u64_max(view_min(g), u64_min(view_max(g), bytes));
}

/*
 * What the guest has use for, within floor and ceiling: what it touched and still holds, wherever
 * that is now, and an eighth more.
 */
static inline uint64_t view_demand(const struct memd_guest_view *g)
{
	unsigned __int128 demand =
		(unsigned __int128)g->resident_bytes + g->swapped_bytes + g->saved_sharing_bytes;

	demand += demand / HEADROOM_DIVISOR;
	return view_clamp(g, demand > UINT64_MAX ? UINT64_MAX : (uint64_t)demand);
}

/*
 * What the guest uses of that: its sampled working set. All of it as long as there is no estimate:
 * a guest that nobody has looked at yet is not idle.
 */
static inline uint64_t view_active(const struct memd_guest_view *g)
{
	uint64_t demand = view_demand(g);

	if (!(g->flags & MEMD_GUEST_WORKING_SET_VALID))
		return demand;
	return u64_min(demand, g->working_set_bytes);
}

/* A weight by which all get the same part of their bytes, and more shares a larger one. */
static inline uint64_t view_weight(const struct memd_guest_view *g, uint64_t bytes)
{
	unsigned __int128 weight = (unsigned __int128)(bytes / PAGE_BYTES + 1) * g->shares / 1000;

	return weight > VESSEL_WEIGHT_MAX ? VESSEL_WEIGHT_MAX : u64_max((uint64_t)weight, 1);
}

/* What the targets of all guests may add up to. */
static inline uint64_t view_available(const struct memd_host_view *view)
{
	return u64_sub_or_zero(view->budget_bytes, view->overhead_bytes);
}

/* A reason, cut to what there is room for. */
#define SAY(proposal, ...) snprintf((proposal)->reason, sizeof((proposal)->reason), __VA_ARGS__)
