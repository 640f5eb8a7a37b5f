/*
 * Sets of WAYS hints each, two cache lines. A hash lies in its set, or, while that is full, in the
 * next one; when both are, one gives way at random. Whoever makes a gap fills it from the next set
 * again, so a set with a gap need not be looked behind.
 *
 * DOC: growth. A table that doubles is half empty before long, and its bytes count against the
 * memory that sharing saves. Here a set's number is the proportion of the hash, not its low bits, so
 * a table of any size can be made of the hints alone, in order. It grows by a quarter when it
 * is LOAD_MIN full and a hint would be lost, which is soon then, and so takes 10 to 13 bytes a hint
 * when it is full and at most 16 after it grew.
 */
#include "dedup/pool-hints.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "dedup/pool-index.h"

#define WAYS	   16
#define LOAD_MIN   65 /* percent; of a small table LOAD_SMALL */
#define LOAD_SMALL 40
#define SETS_MIN   64
#define SETS_SMALL 2048 /* 256 KiB: up to there room is cheaper than a hint lost */
#define TAG_BITS   (64 - POOL_FRAME_BITS)
#define FRAME_MASK ((UINT64_C(1) << POOL_FRAME_BITS) - 1)

/* The frame in the low bits, the tag (low bits of the mixed hash) above; 0 is empty. */
struct pool_hint_set {
	uint64_t hints[WAYS];
};

void pool_hints_init(struct pool_hints *h)
{
	*h = (struct pool_hints){.random = 1};
}

void pool_hints_done(struct pool_hints *h)
{
	free(h->sets);
	*h = (struct pool_hints){0};
}

void pool_hints_limit(struct pool_hints *h, size_t n_max)
{
	h->n_max = n_max;
}

static uint64_t tag_of(uint64_t hash)
{
	return pool_index_mix(hash) << POOL_FRAME_BITS;
}

static size_t set_of(const struct pool_hints *h, uint64_t hint)
{
	return (size_t)((unsigned __int128)(hint >> POOL_FRAME_BITS) * h->n_sets >> TAG_BITS);
}

static uint64_t *find_in(struct pool_hint_set *set, uint64_t tag)
{
	for (unsigned i = 0; i < WAYS; i++)
		if (set->hints[i] && (set->hints[i] & ~FRAME_MASK) == tag)
			return &set->hints[i];
	return NULL;
}

static uint64_t *find_gap(struct pool_hint_set *set)
{
	for (unsigned i = 0; i < WAYS; i++)
		if (!set->hints[i])
			return &set->hints[i];
	return NULL;
}

/* The hint's place; NULL when it is not there. */
static uint64_t *find(const struct pool_hints *h, uint64_t tag)
{
	size_t i = h->n_sets ? set_of(h, tag) : 0;
	uint64_t *hint;

	if (!h->n_sets)
		return NULL;
	hint = find_in(&h->sets[i], tag);
	if (!hint && i + 1 < h->n_sets && !find_gap(&h->sets[i]))
		hint = find_in(&h->sets[i + 1], tag);
	return hint;
}

/* A gap for the hint; NULL when both sets are full. */
static uint64_t *find_place(struct pool_hints *h, uint64_t tag)
{
	size_t i = set_of(h, tag);
	uint64_t *gap = h->n_sets ? find_gap(&h->sets[i]) : NULL;

	if (!gap && i + 1 < h->n_sets)
		gap = find_gap(&h->sets[i + 1]);
	return gap;
}

static void place(struct pool_hints *h, uint64_t hint)
{
	uint64_t *at = find_place(h, hint);

	if (!at) {
		h->random = h->random * UINT64_C(6364136223846793005) + 1442695040888963407;
		at = &h->sets[set_of(h, hint)].hints[(h->random >> 33) % WAYS];
	}
	h->n += !*at;
	*at = hint;
}

/* False when it cannot. */
static bool grow(struct pool_hints *h)
{
	struct pool_hints larger = *h;

	larger.n_sets = h->n_sets ? h->n_sets + h->n_sets / 4 : SETS_MIN;
	larger.sets = aligned_alloc(sizeof(*h->sets), larger.n_sets * sizeof(*h->sets));
	if (!larger.sets)
		return false;
	memset(larger.sets, 0, larger.n_sets * sizeof(*h->sets));
	larger.n = 0;
	for (size_t set = 0; set < h->n_sets; set++)
		for (unsigned i = 0; i < WAYS; i++)
			if (h->sets[set].hints[i])
				place(&larger, h->sets[set].hints[i]);
	free(h->sets);
	*h = larger;
	return true;
}

static bool may_grow(const struct pool_hints *h)
{
	size_t percent = h->n_sets < SETS_SMALL ? LOAD_SMALL : LOAD_MIN;

	return h->n < h->n_max && h->n >= h->n_sets * WAYS * percent / 100;
}

uint32_t pool_hints_offer(struct pool_hints *h, uint64_t hash, uint32_t frame)
{
	uint64_t tag = tag_of(hash), *hint = find(h, tag);

	if (hint)
		return (*hint & FRAME_MASK) == frame ? POOL_FRAME_NONE
						     : (uint32_t)(*hint & FRAME_MASK);
	while (may_grow(h) && !find_place(h, tag))
		if (!grow(h))
			break;
	if (h->n_sets)
		place(h, tag | frame);
	return POOL_FRAME_NONE;
}

/* Fills a gap that was made in set i. */
static void pull_back(struct pool_hints *h, size_t i)
{
	for (unsigned j = 0; i + 1 < h->n_sets && j < WAYS; j++) {
		uint64_t *hint = &h->sets[i + 1].hints[j];

		if (!*hint || set_of(h, *hint) != i)
			continue;
		*find_gap(&h->sets[i]) = *hint;
		*hint = 0;
		j = UINT_MAX; /* the next set has a gap now: on with that */
		i++;
	}
}

uint32_t pool_hints_take(struct pool_hints *h, uint64_t hash)
{
	uint64_t tag = tag_of(hash), *hint = find(h, tag);
	uint32_t frame;

	if (!hint)
		return POOL_FRAME_NONE;
	frame = (uint32_t)(*hint & FRAME_MASK);
	*hint = 0;
	h->n--;
	pull_back(h, (size_t)(hint - h->sets->hints) / WAYS);
	return frame;
}

void pool_hints_forget(struct pool_hints *h, uint32_t first, uint32_t n)
{
	for (size_t set = 0; set < h->n_sets; set++)
		for (unsigned i = 0; i < WAYS; i++) {
			uint64_t *hint = &h->sets[set].hints[i];

			/* What fills the gap may be one of them, too. */
			while (*hint && (uint32_t)(*hint & FRAME_MASK) - first < n) {
				*hint = 0;
				h->n--;
				pull_back(h, set);
			}
		}
}

void pool_hints_prefetch(const struct pool_hints *h, uint64_t hash)
{
	if (h->n_sets) {
		const struct pool_hint_set *set = &h->sets[set_of(h, tag_of(hash))];

		__builtin_prefetch(&set->hints[0]);
		__builtin_prefetch(&set->hints[WAYS / 2]);
	}
}

uint64_t pool_hints_bytes(const struct pool_hints *h)
{
	return h->n_sets * sizeof(*h->sets);
}
