/* The clock over the regions of one guest; see reclaim.h. */
#include "memd/reclaim.h"

#include <math.h>

#include "memd/base/clock.h"
#include "memd/base/overflow.h"
#include "memd/base/units.h"

#define HOT_PART       8 /* an eighth of what went out came back: hot */
#define HOT_MIN_S      4
#define HOT_MAX_S      128
#define STOP_PART      2
#define STOP_MIN_US    (500 * US_PER_MS)
#define STOP_MAX_US    (8 * US_PER_S)
/* Fewer refaults than this a sample (1 MiB) stop nothing. */
#define STOP_MIN_PAGES 256
/* Of samples: half a life, how much of one says something, and one of how many makes warm. */
#define HALF_LIFE_S    32
#define EVIDENCE_MIN   0.3F
#define WARM_PART      8

int reclaim_init(struct reclaim *r, size_t n_regions)
{
	struct reclaim_region *regions = calloc(n_regions, sizeof(*regions));

	if (!regions)
		return -ENOMEM;
	*r = (struct reclaim){.regions = regions, .n_regions = n_regions};
	return 0;
}

void reclaim_done(struct reclaim *r)
{
	free(r->regions);
	*r = (struct reclaim){0};
}

/*
 * Pages that were swapped and are present now. A page given back meanwhile is gone from both
 * counts.
 */
static uint16_t came_back(const struct reclaim_region *region, const struct region_count *count)
{
	uint16_t present = (uint16_t)(count->anonymous + count->file);
	uint64_t left = u64_sub_or_zero(region->swapped_pages, count->swapped);
	uint64_t came = u64_sub_or_zero(present, region->present_pages);

	return (uint16_t)u64_min(left, came);
}

static void note_back(
	struct reclaim *r, struct reclaim_region *region, uint16_t back, uint64_t now_us)
{
	if (region->out_pages == 0)
		return;
	region->back_pages = (uint16_t)(region->back_pages + back);
	if (region->back_pages >= (region->out_pages + HOT_PART - 1) / HOT_PART) {
		region->hot_s = region->hot_s ? region->hot_s * 2 : HOT_MIN_S;
		if (region->hot_s > HOT_MAX_S)
			region->hot_s = HOT_MAX_S;
		region->hot_until_us = now_us + region->hot_s * US_PER_S;
		region->out_pages = 0;
		r->wrong_regions++;
	} else if (now_us - region->out_us >= HOT_MAX_S * US_PER_S) {
		region->hot_s = 0; /* it stayed out: cold after all */
		region->out_pages = 0;
	}
}

void reclaim_observe(
	struct reclaim *r, const struct region_count *counts, uint64_t begin_us, uint64_t now_us)
{
	uint64_t back_pages = 0;

	for (size_t i = 0; i < r->n_regions; i++) {
		struct reclaim_region *region = &r->regions[i];
		uint16_t back;

		if (region->under_way || begin_us < region->out_us)
			continue;
		back = came_back(region, &counts[i]);
		back_pages += back;
		note_back(r, region, back, now_us);
		region->present_pages = (uint16_t)(counts[i].anonymous + counts[i].file);
		region->swapped_pages = counts[i].swapped;
	}
	r->refault_pages += back_pages;
	r->refault_pages_last = back_pages;
	if (back_pages >= STOP_MIN_PAGES && back_pages > r->out_pages / STOP_PART) {
		r->stop_us = r->stop_us ? u64_min(r->stop_us * 2, STOP_MAX_US) : STOP_MIN_US;
		r->stop_until_us = now_us + r->stop_us;
	} else if (now_us >= r->stop_until_us + r->stop_us) {
		r->stop_us = 0;
	}
	r->out_pages_last = r->out_pages;
	r->out_pages = 0;
	r->sampled_us = now_us;
}

/* What samples are worth now. */
static float fading(const struct reclaim_region *region, uint64_t guest_us)
{
	uint64_t age_s = u64_sub_or_zero(guest_us / US_PER_S, region->rated_s);

	return exp2f(-(float)age_s / HALF_LIFE_S);
}

void reclaim_rate(struct reclaim *r, uint32_t region_number, bool touched, uint64_t guest_us)
{
	struct reclaim_region *region = &r->regions[region_number];
	float k = fading(region, guest_us);

	region->touched *= k;
	region->idle *= k;
	region->rated_s = (uint32_t)(guest_us / US_PER_S);
	if (touched)
		region->touched += 1;
	else
		region->idle += 1;
}

static enum reclaim_rating rating_of(
	const struct reclaim_region *region, uint64_t now_us, uint64_t guest_us)
{
	float k = fading(region, guest_us), touched = region->touched * k, idle = region->idle * k;

	if (now_us < region->hot_until_us)
		return RECLAIM_HOT;
	if (touched >= EVIDENCE_MIN && touched > idle / WARM_PART)
		return RECLAIM_WARM;
	return idle >= EVIDENCE_MIN ? RECLAIM_COLD : RECLAIM_UNKNOWN;
}

enum reclaim_rating reclaim_rating(
	const struct reclaim *r, uint32_t region, uint64_t now_us, uint64_t guest_us)
{
	return rating_of(&r->regions[region], now_us, guest_us);
}

/* The warmest regions that each urgency takes. */
static const enum reclaim_rating warmest[] = {
	[RECLAIM_COLD_ONLY] = RECLAIM_COLD,
	[RECLAIM_AHEAD] = RECLAIM_UNKNOWN,
	[RECLAIM_URGENT] = RECLAIM_WARM,
	[RECLAIM_FORCED] = RECLAIM_HOT,
};

/* What one turn of the hand finds of one rating. */
struct turn {
	enum reclaim_rating rating;
	uint64_t now_us, guest_us;
};

static bool may_go(const struct reclaim_region *region, const struct turn *t)
{
	return region->present_pages > 0 && !region->under_way &&
	       rating_of(region, t->now_us, t->guest_us) == t->rating;
}

size_t reclaim_choose(struct reclaim *r, uint64_t wanted_pages, enum reclaim_urgency urgency,
	uint64_t now_us, uint64_t guest_us, uint32_t *ret_regions, size_t max)
{
	uint64_t chosen_pages = 0;
	size_t n = 0;

	if (urgency <= RECLAIM_AHEAD && now_us < r->stop_until_us)
		return 0;
	for (int rating = RECLAIM_COLD; rating <= (int)warmest[urgency]; rating++) {
		const struct turn turn = {(enum reclaim_rating)rating, now_us, guest_us};

		for (size_t seen = 0; seen < r->n_regions && n < max && chosen_pages < wanted_pages;
			seen++) {
			struct reclaim_region *region = &r->regions[r->hand];

			if (may_go(region, &turn)) {
				ret_regions[n++] = (uint32_t)r->hand;
				chosen_pages += region->present_pages;
				region->under_way = true;
			}
			r->hand = (r->hand + 1) % r->n_regions;
		}
	}
	return n;
}

void reclaim_finish(struct reclaim *r, uint32_t region_number, const struct region_count *after,
	uint64_t now_us)
{
	struct reclaim_region *region = &r->regions[region_number];
	uint64_t went;

	region->under_way = false;
	if (!after)
		return;
	went = u64_sub_or_zero(after->swapped, region->swapped_pages);
	r->out_pages += went;
	r->out_pages_total += went;
	r->out_regions++;
	region->present_pages = (uint16_t)(after->anonymous + after->file);
	region->swapped_pages = after->swapped;
	region->out_pages = after->swapped;
	region->back_pages = 0;
	region->out_us = now_us;
}
