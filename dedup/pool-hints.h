/*
 * Who offered which hash first (Waldspurger 2002, 4.2: hint frames): bounded, the oldest give way.
 * A hint is worth nothing by
 * itself: when somebody else offers the same hash the page is inserted, and the first one is told.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pool_hint {
	uint64_t hash;
	uint32_t page; /* the member's number */
	uint16_t member; /* 0: empty; ids begin with 1 */
	uint16_t age; /* when it was offered last, in ticks */
};

struct pool_hints {
	struct pool_hint *hints;
	size_t size; /* 0 or a power of two */
	size_t n;
	size_t size_max;
	uint16_t now;
};

/* size_max: at most so many hints, a power of two. */
void pool_hints_init(struct pool_hints *h, size_t size_max);
void pool_hints_done(struct pool_hints *h);
/* Time goes on by one tick. */
void pool_hints_tick(struct pool_hints *h);

/*
 * True when somebody else, or the same member with another page, offered this hash before; that
 * hint stays. Otherwise the offer is noted (refreshed). Without memory it is forgotten.
 */
bool pool_hints_offer(struct pool_hints *h, uint64_t hash, uint16_t member, uint32_t page);
/* Takes the hint for a hash out. False when there is none. */
bool pool_hints_take(struct pool_hints *h, uint64_t hash, struct pool_hint *ret);
