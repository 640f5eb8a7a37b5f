/*
 * Which 2 MiB regions of one guest go out to swap next. Pure: what the pagemap showed and the time
 * come in, region numbers go out; paging out itself is pageout.c's.
 *
 * DOC: a clock with a memory for mistakes
 *
 * A hand goes round the regions, first over those whose samples (wss.h) say that they are cold, then
 * over those of which nothing is known, and only when that is not enough, and the host cannot wait,
 * over those whose samples were touched. What it points at goes out. The pagemap right
 * after that says what is out, and the next samples whether it came back: pages that are present
 * again and swapped no more are refaults. A region of which an eighth came back was hot: it is left
 * alone for 4 s, the next time 8 s, up to 128 s, and what stays out is cold. So after one turn the
 * hand passes over the working set, whichever pages that is, and a working set that moves is found
 * again because hot marks run out.
 *
 * If more comes back to a guest than half of what went out in the same time, its working set is
 * what is being paged: eviction stops for that guest at once (500 ms, doubling up to 8 s while it
 * happens again), unless the host cannot wait.
 *
 * A sample counts for its region, and is worth half after 32 s of the guest's time: a guest that
 * waits for its faults touches little, and must not look cold for it.
 *
 * Cost: 48 bytes a region (24 KiB for each GiB), and one pass over the pagemap per sample.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "memd/base/cleanup.h"
#include "memd/sample.h"

struct reclaim_region {
	uint16_t present_pages; /* private and pool pages */
	uint16_t swapped_pages;
	uint16_t out_pages; /* swapped after our last page-out; 0: not watched */
	uint16_t back_pages; /* of those, came back since */
	bool under_way; /* chosen, and not finished yet */
	uint32_t hot_s; /* how long it was last left alone */
	uint64_t hot_until_us;
	uint64_t out_us; /* when it last went out, 0: never */
	float touched, idle; /* samples, decayed; idle: for the whole window of wss.h */
	uint32_t rated_s; /* guest time */
};

struct reclaim {
	struct reclaim_region *regions;
	size_t n_regions;
	size_t hand;
	uint64_t sampled_us; /* 0: never */
	uint64_t out_pages; /* went out since the last sample */
	uint64_t out_pages_last; /* went out between the last two samples */
	uint64_t out_pages_total; /* since the start */
	uint64_t refault_pages; /* came back, since the start */
	uint64_t refault_pages_last; /* since the sample before */
	uint64_t out_regions; /* since the start */
	uint64_t wrong_regions; /* of those, found hot: wrong choices */
	uint64_t stop_until_us;
	uint64_t stop_us; /* how long the last stop was */
};

/* -ENOMEM. End with reclaim_done. */
int reclaim_init(struct reclaim *r, size_t n_regions);
void reclaim_done(struct reclaim *r);

enum reclaim_rating {
	RECLAIM_COLD,
	RECLAIM_UNKNOWN,
	RECLAIM_WARM, /* its samples were touched */
	RECLAIM_HOT, /* it came back, and is left alone for now */
};
/* A page of the region was touched, or was idle for the whole window. guest_us: as in wss.h. */
void reclaim_rate(struct reclaim *r, uint32_t region, bool touched, uint64_t guest_us);
enum reclaim_rating reclaim_rating(
	const struct reclaim *r, uint32_t region, uint64_t now_us, uint64_t guest_us);

/*
 * Takes a sample of all regions that began at begin_us; regions paged out since then are left for
 * the next.
 */
void reclaim_observe(
	struct reclaim *r, const struct region_count *counts, uint64_t begin_us, uint64_t now_us);

enum reclaim_urgency {
	RECLAIM_COLD_ONLY, /* of those rated cold, stops when refaults rise */
	RECLAIM_AHEAD, /* stops when refaults rise, spares what is warm */
	RECLAIM_URGENT, /* the host cannot wait: only hot regions are spared */
	RECLAIM_FORCED, /* the limit is reached and tasks wait: nothing is spared */
};

/*
 * Chooses regions to page out until they hold wanted_pages, at most max of them. Returns how many
 * were written to ret_regions: 0 when there is nothing to take, or eviction is stopped. Each is to
 * be finished later.
 */
size_t reclaim_choose(struct reclaim *r, uint64_t wanted_pages, enum reclaim_urgency urgency,
	uint64_t now_us, uint64_t guest_us, uint32_t *ret_regions, size_t max);

/*
 * The region was paged out at now_us, and holds this since (NULL: it was not paged out after all).
 */
void reclaim_finish(
	struct reclaim *r, uint32_t region, const struct region_count *after, uint64_t now_us);
