/*
 * DOC: the order of the filters, and why
 *
 * fixed      The operator's target takes the place of the proposal.
 * floor      Nobody, not even the operator, gets a guest below its floor.
 * ceiling    Nor above its ceiling or its RAM. A floor above the ceiling gives way to it.
 * step       What a guest has to give up, it gives up slowly. Only memory that it has counts: a
 *            target may fall at once to what is resident, since nobody misses what he did not
 *            use, and from there by one step a tick.
 * dead band  Changes too small to be worth a balloon request are left out. A fall is left out
 *            only when the targets fit all the same, else many small ones would add up to a
 *            budget overdrawn for ever. The operator's target is exact, so it has no dead band.
 * room       What is handed out must have been given up before (squeezed's two phases): while
 *            the targets do not fit in what is available, raises are cut, in proportion, down to
 *            the present targets and floors. Falls are never cut.
 *
 * Together: the sum of the targets never grows beyond what is available, unless floors alone do
 * that; and when it is beyond (the budget was lowered), it falls by the step of every guest that
 * has to give.
 */
#include "policy/filters.h"

#include "memd/base/overflow.h"
#include "memd/base/units.h"

typedef unsigned __int128 u128;

#define US_PER_SECOND 1000000

/* The ceiling that holds, and the floor under it. */
static uint64_t ceiling_of(const struct filter_guest *g)
{
	return u64_min(g->max_bytes, g->configured_bytes);
}

static uint64_t floor_of(const struct filter_guest *g)
{
	return u64_min(g->min_bytes, ceiling_of(g));
}

static void clamp_to(struct filter_guest *g, uint64_t target_bytes, uint32_t clamp)
{
	if (g->target_bytes == target_bytes)
		return;
	g->target_bytes = target_bytes;
	g->clamps |= clamp;
}

static void filter_fixed(struct filter_guest *g)
{
	if (g->fixed)
		clamp_to(g, g->fixed_bytes, POLICY_CLAMP_FIXED);
}

static void filter_floor(struct filter_guest *g)
{
	clamp_to(g, u64_max(g->target_bytes, floor_of(g)), POLICY_CLAMP_FLOOR);
}

static void filter_ceiling(struct filter_guest *g)
{
	clamp_to(g, u64_min(g->target_bytes, ceiling_of(g)), POLICY_CLAMP_CEILING);
}

static void filter_step(struct filter_guest *g, uint64_t tick_us)
{
	u128 step =
		(u128)g->configured_bytes * FILTER_STEP_BP_PER_S / 10000 * tick_us / US_PER_SECOND;
	uint64_t from = u64_min(g->previous_bytes, g->resident_bytes);
	uint64_t lowest = step < from ? from - (uint64_t)step : 0;

	if (g->previous_bytes)
		clamp_to(g, u64_max(g->target_bytes, lowest), POLICY_CLAMP_STEP);
}

/*
 * MOM and Proxmox: 0.25 % of the guest or 10 MiB, whichever is more. For a guest of 256 MiB that
 * would be 4 %, so the 10 MiB are bounded by 1 % of the guest.
 */
static uint64_t dead_band_of(const struct filter_guest *g)
{
	return u64_max(g->configured_bytes / 400, u64_min(10 * MIB, g->configured_bytes / 100));
}

static bool in_dead_band(const struct filter_guest *g)
{
	uint64_t change = g->target_bytes > g->previous_bytes ? g->target_bytes - g->previous_bytes
							      : g->previous_bytes - g->target_bytes;

	if (g->fixed || !g->previous_bytes)
		return false;
	if (g->previous_bytes < floor_of(g) || g->previous_bytes > ceiling_of(g))
		return false;
	return change < dead_band_of(g);
}

static void filter_dead_band(struct filter_guest *guests, size_t n, uint64_t available_bytes)
{
	u128 sum = 0;
	bool fits;

	for (size_t i = 0; i < n; i++)
		sum += in_dead_band(&guests[i]) ? guests[i].previous_bytes : guests[i].target_bytes;
	fits = sum <= available_bytes;
	for (size_t i = 0; i < n; i++) {
		struct filter_guest *g = &guests[i];
		bool raises = g->target_bytes > g->previous_bytes;

		if (in_dead_band(g) && (raises || fits))
			clamp_to(g, g->previous_bytes, POLICY_CLAMP_DEAD_BAND);
	}
}

/*
 * How much the guest would get that it has no right to: more than it has, and more than its floor.
 */
static uint64_t raise_of(const struct filter_guest *g)
{
	return u64_sub_or_zero(g->target_bytes, u64_max(g->previous_bytes, floor_of(g)));
}

static void filter_room(struct filter_guest *guests, size_t n, uint64_t available_bytes)
{
	u128 sum = 0, raises = 0, kept;

	for (size_t i = 0; i < n; i++) {
		sum += guests[i].target_bytes;
		raises += raise_of(&guests[i]);
	}
	if (sum <= available_bytes)
		return;
	kept = raises > sum - available_bytes ? raises - (sum - available_bytes) : 0;
	for (size_t i = 0; i < n; i++) {
		struct filter_guest *g = &guests[i];
		uint64_t raise = raise_of(g);
		uint64_t base = g->target_bytes - raise;

		/*
		 * raise and kept may both be large, but the quotient is at most 1: divide in parts
		 * of 2^32.
		 */
		if (raise)
			clamp_to(g, base + (uint64_t)(raise * ((kept << 32) / raises) >> 32),
				POLICY_CLAMP_ROOM);
	}
}

void filters_apply(
	struct filter_guest *guests, size_t n, uint64_t available_bytes, uint64_t tick_us)
{
	for (size_t i = 0; i < n; i++) {
		filter_fixed(&guests[i]);
		filter_floor(&guests[i]);
		filter_ceiling(&guests[i]);
		filter_step(&guests[i], tick_us);
	}
	filter_dead_band(guests, n, available_bytes);
	filter_room(guests, n, available_bytes);
}
