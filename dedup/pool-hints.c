/*
 * Sets of WAYS hints each: a hash can lie in one set only, and a full set loses its oldest. Grows
 * to its bound, no further.
 */
#include "dedup/pool-hints.h"

#include <stdlib.h>

#include "dedup/pool-index.h"

#define WAYS	 8
#define SIZE_MIN 1024

void pool_hints_init(struct pool_hints *h, size_t size_max)
{
	*h = (struct pool_hints){.size_max = size_max > SIZE_MIN ? size_max : SIZE_MIN};
}

void pool_hints_done(struct pool_hints *h)
{
	free(h->hints);
	*h = (struct pool_hints){0};
}

void pool_hints_tick(struct pool_hints *h)
{
	h->now++;
}

static struct pool_hint *set_of(const struct pool_hints *h, uint64_t hash)
{
	return &h->hints[(pool_index_mix(hash) & (h->size - 1)) / WAYS * WAYS];
}

static struct pool_hint *find(const struct pool_hints *h, uint64_t hash)
{
	struct pool_hint *set;

	if (!h->size)
		return NULL;
	set = set_of(h, hash);
	for (unsigned i = 0; i < WAYS; i++)
		if (set[i].member && set[i].hash == hash)
			return &set[i];
	return NULL;
}

/* Where a new hint goes: an empty place, or the oldest's. */
static struct pool_hint *find_place(const struct pool_hints *h, uint64_t hash)
{
	struct pool_hint *set = set_of(h, hash), *best = set;

	for (unsigned i = 0; i < WAYS && best->member; i++)
		if (!set[i].member ||
			(uint16_t)(h->now - set[i].age) > (uint16_t)(h->now - best->age))
			best = &set[i];
	return best;
}

static void place(struct pool_hints *h, const struct pool_hint *hint)
{
	struct pool_hint *at = find_place(h, hint->hash);

	h->n += !at->member;
	*at = *hint;
}

/* False when it may not or cannot. No hint is lost: a set's hints are spread over two. */
static bool grow(struct pool_hints *h)
{
	size_t size = h->size ? 2 * h->size : SIZE_MIN;
	struct pool_hints larger = {.size = size, .size_max = h->size_max, .now = h->now};

	if (size > h->size_max)
		return false;
	larger.hints = calloc(size, sizeof(*larger.hints));
	if (!larger.hints)
		return false;
	for (size_t i = 0; i < h->size; i++)
		if (h->hints[i].member)
			place(&larger, &h->hints[i]);
	free(h->hints);
	*h = larger;
	return true;
}

bool pool_hints_offer(struct pool_hints *h, uint64_t hash, uint16_t member, uint32_t page)
{
	struct pool_hint *hint = find(h, hash);

	if (hint && (hint->member != member || hint->page != page))
		return true;
	if (hint) {
		hint->age = h->now;
		return false;
	}
	/* Rather more room than a hint lost, as long as it may grow and is not lopsided. */
	while (!h->size || (find_place(h, hash)->member && h->n > h->size / WAYS))
		if (!grow(h))
			break;
	if (h->size)
		place(h, &(struct pool_hint){
				 .hash = hash, .member = member, .page = page, .age = h->now});
	return false;
}

bool pool_hints_take(struct pool_hints *h, uint64_t hash, struct pool_hint *ret)
{
	struct pool_hint *hint = find(h, hash);

	if (!hint)
		return false;
	*ret = *hint;
	hint->member = 0;
	h->n--;
	return true;
}
