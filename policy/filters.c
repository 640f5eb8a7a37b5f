/*
 * DOC: the order of the filters, and why
 *
 * fixed      The operator's target takes the place of the proposal.
 * floor      Nobody, not even the operator, gets a guest below its MemoryMin=. A guest that was seen
 *            to thrash, or whose agent says what it needs, has a higher floor, its critical level,
 *            up to its part of all memory by shares; if those do not fit beside everybody's
 *            MemoryMin=, they are cut, in proportion.
 * ceiling    Nor above its ceiling or its RAM. A floor above the ceiling gives way to it.
 * step       What a guest has to give up, it gives up slowly. Only memory that it has counts: a
 *            target may fall at once to what is resident, since nobody misses what he did not
 *            use, and from there by one step a tick.
 * dead band  Changes too small to be worth a balloon request are left out. A fall is left out
 *            only when the targets fit all the same, else many small ones would add up to a
 *            budget overdrawn for ever. The operator's target is exact, so it has no dead band.
 * rate       All guests together give up only so much at a time: what moves has to go through one
 *            swap device and one memory bus. Falls are cut in proportion.
 * settle     A target that was raised stays for a while, else two guests would hand the same
 *            memory to and fro. Nobody waits for that when the targets of the others do not fit.
 * distress   A guest that has run out of memory is not made smaller, and may have its most.
 * room       What is handed out must have been given up before (squeezed's two phases): first by
 *            target, then in fact. While the targets do not fit in what is available, and while
 *            guests still hold more than their targets, raises are cut, in proportion, those of
 *            guests in distress last. Floors are always granted. Falls are never cut.
 *
 * Rate and settle do not count while the host is short (hard, low). Together: the sum of the targets
 * never grows beyond what is available, unless floors alone do that; and when it is beyond (the
 * budget was lowered), it falls by the step of every guest that has to give.
 */
#include "policy/filters.h"

#include "memd/base/overflow.h"
#include "memd/base/units.h"

typedef unsigned __int128 u128;

#define US_PER_SECOND 1000000

/* whole * bp / 10000 for each second of the tick. */
static u128 per_tick(uint64_t whole, uint64_t bp_per_s, uint64_t tick_us)
{
	return (u128)whole * bp_per_s / 10000 * tick_us / US_PER_SECOND;
}

/* part * numerator / denominator, the quotient being at most 1: in parts of 2^32. */
static uint64_t scale(uint64_t part, u128 numerator, u128 denominator)
{
	while (denominator >> 95) { /* numerator <= denominator: both stay comparable */
		denominator >>= 1;
		numerator >>= 1;
	}
	return (uint64_t)((u128)part * (uint64_t)((numerator << 32) / denominator) >> 32);
}

/* The ceiling that holds, and MemoryMin= under it. */
static uint64_t ceiling_of(const struct filter_guest *g)
{
	return u64_min(g->max_bytes, g->configured_bytes);
}

static uint64_t min_of(const struct filter_guest *g)
{
	return u64_min(g->min_bytes, ceiling_of(g));
}

/* How far the critical level, as far as its shares entitle the guest to it, is above that. */
static uint64_t learned_of(const struct filter_guest *g, uint64_t entitled_bytes)
{
	uint64_t level = u64_min(u64_min(g->critical_bytes, entitled_bytes), ceiling_of(g));

	return u64_sub_or_zero(level, min_of(g));
}

static void find_floors(struct filter_guest *guests, size_t n, uint64_t available_bytes)
{
	u128 min = 0, learned = 0, room;
	uint64_t shares = 0;

	for (size_t i = 0; i < n; i++)
		shares += guests[i].shares;
	for (size_t i = 0; i < n; i++) {
		struct filter_guest *g = &guests[i];
		uint64_t entitled =
			shares ? (uint64_t)((u128)available_bytes * g->shares / shares) : 0;

		g->floor_bytes = learned_of(g, entitled); /* above MemoryMin= */
		min += min_of(g);
		learned += g->floor_bytes;
	}
	room = min < available_bytes ? available_bytes - min : 0;
	for (size_t i = 0; i < n; i++) {
		struct filter_guest *g = &guests[i];

		if (learned > room)
			g->floor_bytes = scale(g->floor_bytes, room, learned);
		g->floor_bytes += min_of(g);
	}
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
	if (!g->fixed)
		return;
	clamp_to(g, g->fixed_bytes, POLICY_CLAMP_FIXED);
	g->floor_bytes = min_of(g); /* what was learned does not bind the operator */
}

static void filter_floor(struct filter_guest *g)
{
	clamp_to(g, u64_max(g->target_bytes, g->floor_bytes), POLICY_CLAMP_FLOOR);
}

static void filter_ceiling(struct filter_guest *g)
{
	clamp_to(g, u64_min(g->target_bytes, ceiling_of(g)), POLICY_CLAMP_CEILING);
}

/* Of what it gives up, what it has: the rest costs nothing. */
static uint64_t given_from(const struct filter_guest *g)
{
	return u64_min(g->previous_bytes, g->resident_bytes);
}

static void filter_step(struct filter_guest *g, uint64_t tick_us)
{
	u128 step = per_tick(g->configured_bytes, FILTER_STEP_BP_PER_S, tick_us);
	uint64_t from = given_from(g);
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

/* Whether its present target is within all bounds, so that it may stay. */
static bool may_stay(const struct filter_guest *g)
{
	return !g->fixed && g->previous_bytes && g->previous_bytes >= g->floor_bytes &&
	       g->previous_bytes <= ceiling_of(g);
}

static bool in_dead_band(const struct filter_guest *g)
{
	uint64_t change = g->target_bytes > g->previous_bytes ? g->target_bytes - g->previous_bytes
							      : g->previous_bytes - g->target_bytes;

	return may_stay(g) && change < dead_band_of(g);
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

/* How much of what the guest has it is to give up. */
static uint64_t fall_of(const struct filter_guest *g)
{
	return g->fixed ? 0 : u64_sub_or_zero(given_from(g), g->target_bytes);
}

static void filter_rate(struct filter_guest *guests, size_t n, const struct filter_host *host)
{
	u128 falls = 0, most = per_tick(host->budget_bytes, FILTER_RATE_BP_PER_S, host->tick_us);

	for (size_t i = 0; i < n; i++)
		falls += fall_of(&guests[i]);
	if (falls <= most || host->urgent)
		return;
	for (size_t i = 0; i < n; i++) {
		struct filter_guest *g = &guests[i];
		uint64_t fall = fall_of(g), from = given_from(g);

		if (fall && from <= ceiling_of(g))
			clamp_to(g, from - scale(fall, most, falls), POLICY_CLAMP_RATE);
	}
}

/* What is the guest's already, by target or MemoryMin=; what was learned has to wait for room. */
static uint64_t owned_of(const struct filter_guest *g)
{
	return u64_min(g->target_bytes, u64_max(g->previous_bytes, min_of(g)));
}

static bool settles(const struct filter_guest *g, const struct filter_memory *memory,
	const struct filter_host *host)
{
	return g->target_bytes < g->previous_bytes && may_stay(g) && memory->raised_us &&
	       host->now_us - memory->raised_us < FILTER_SETTLE_US;
}

static void filter_settle(struct filter_guest *guests, const struct filter_memory *memories,
	size_t n, const struct filter_host *host)
{
	u128 sum = 0; /* without raises, which can wait */

	for (size_t i = 0; i < n; i++) {
		const struct filter_guest *g = &guests[i];

		sum += settles(g, &memories[i], host) ? g->previous_bytes : owned_of(g);
	}
	if (sum > host->available_bytes || host->urgent)
		return;
	for (size_t i = 0; i < n; i++)
		if (settles(&guests[i], &memories[i], host))
			clamp_to(&guests[i], guests[i].previous_bytes, POLICY_CLAMP_SETTLE);
}

static bool has_override(const struct filter_guest *g)
{
	return g->distress && !g->fixed;
}

/* Not at the price of a budget overdrawn: then those in distress have to give like all others. */
static void filter_distress(struct filter_guest *guests, size_t n, uint64_t available_bytes)
{
	u128 sum = 0;

	for (size_t i = 0; i < n; i++)
		sum += has_override(&guests[i])
			       ? u64_max(guests[i].previous_bytes, owned_of(&guests[i]))
			       : owned_of(&guests[i]);
	for (size_t i = 0; i < n && sum <= available_bytes; i++)
		if (has_override(&guests[i]))
			clamp_to(&guests[i],
				u64_max(guests[i].target_bytes, ceiling_of(&guests[i])),
				POLICY_CLAMP_DISTRESS);
}

/* And in fact. */
static uint64_t held_of(const struct filter_guest *g)
{
	return u64_max(owned_of(g), g->resident_bytes);
}

/*
 * Cuts raises above base_of, of the guests in distress or of the others, so that all fit into
 * available_bytes as far as that can be had from those.
 */
static void cut_raises(struct filter_guest *guests, size_t n, uint64_t available_bytes,
	uint64_t (*base_of)(const struct filter_guest *g), bool distress)
{
	u128 sum = 0, raises = 0, kept;

	for (size_t i = 0; i < n; i++) {
		const struct filter_guest *g = &guests[i];

		sum += u64_max(g->target_bytes, base_of(g));
		if (g->distress == distress)
			raises += u64_sub_or_zero(g->target_bytes, base_of(g));
	}
	if (sum <= available_bytes)
		return;
	kept = raises > sum - available_bytes ? raises - (sum - available_bytes) : 0;
	for (size_t i = 0; i < n; i++) {
		struct filter_guest *g = &guests[i];
		uint64_t base = base_of(g), raise = u64_sub_or_zero(g->target_bytes, base);

		if (raise && g->distress == distress)
			clamp_to(g, base + scale(raise, kept, raises), POLICY_CLAMP_ROOM);
	}
}

static void filter_room(struct filter_guest *guests, size_t n, uint64_t available_bytes)
{
	for (int distress = 0; distress <= 1; distress++) {
		cut_raises(guests, n, available_bytes, owned_of, distress);
		cut_raises(guests, n, available_bytes, held_of, distress);
	}
}

void filters_apply(struct filter_guest *guests, struct filter_memory *memories, size_t n,
	const struct filter_host *host)
{
	find_floors(guests, n, host->available_bytes);
	for (size_t i = 0; i < n; i++) {
		filter_fixed(&guests[i]);
		filter_floor(&guests[i]);
		filter_ceiling(&guests[i]);
		filter_step(&guests[i], host->tick_us);
	}
	filter_dead_band(guests, n, host->available_bytes);
	filter_rate(guests, n, host);
	filter_settle(guests, memories, n, host);
	filter_distress(guests, n, host->available_bytes);
	filter_room(guests, n, host->available_bytes);
	for (size_t i = 0; i < n; i++)
		if (guests[i].previous_bytes && guests[i].target_bytes > guests[i].previous_bytes)
			memories[i].raised_us = host->now_us;
}
