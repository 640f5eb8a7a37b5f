/*
 * Who offered which hash first (Waldspurger 2002, 4.2: hint frames): bounded, at random some give
 * way. A hint is worth nothing by itself: when somebody else offers the same hash the page is
 * inserted, and the first one is told. A wrong one costs a needless insertion.
 *
 * A hint is 8 bytes: a number of the page over all members ("frame", given out by pool.c) and a
 * part of the hash.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define POOL_FRAME_BITS 30 /* 4 TiB of guests in one group; pages beyond are offered in vain */
#define POOL_FRAME_NONE 0 /* frames begin with 1 */

struct pool_hints {
	struct pool_hint_set *sets;
	size_t n_sets;
	size_t n;
	size_t n_max;
	uint64_t random;
};

void pool_hints_init(struct pool_hints *h);
void pool_hints_done(struct pool_hints *h);
/* Once there are so many it grows no more: then new ones push out others. */
void pool_hints_limit(struct pool_hints *h, size_t n_max);

/*
 * The frame that offered this hash before, when it was another one; that hint stays. Otherwise
 * POOL_FRAME_NONE, and the offer is noted. Without memory it is forgotten.
 */
uint32_t pool_hints_offer(struct pool_hints *h, uint64_t hash, uint32_t frame);
/* Takes the hint for a hash out: its frame, or POOL_FRAME_NONE. */
uint32_t pool_hints_take(struct pool_hints *h, uint64_t hash);
/* Takes out all hints of the frames [first, first + n): their pages are gone. Reads the whole table. */
void pool_hints_forget(struct pool_hints *h, uint32_t first, uint32_t n);
/* Asks the caches for where hash lies. */
void pool_hints_prefetch(const struct pool_hints *h, uint64_t hash);
/* Bytes in use. */
uint64_t pool_hints_bytes(const struct pool_hints *h);
