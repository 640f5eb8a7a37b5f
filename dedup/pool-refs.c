/* See pool-refs.h. */
#include "dedup/pool-refs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "dedup/pool-memfd.h"

void pool_refs_done(struct pool_refs *r)
{
	for (size_t i = 0; i < r->n_extents; i++)
		free(r->extents[i]);
	free(r->extents);
	*r = (struct pool_refs){0};
}

uint32_t *pool_refs_find(const struct pool_refs *r, uint32_t slot)
{
	uint32_t extent = slot / POOL_EXTENT_SLOTS;

	if (extent >= r->n_extents || !r->extents[extent])
		return NULL;
	return &r->extents[extent][slot % POOL_EXTENT_SLOTS];
}

/* Room for all extents of the file that the slot lies in. */
static int grow(struct pool_refs *r, uint32_t slot)
{
	size_t n = (slot / POOL_FILE_PAGES + 1) * (size_t)POOL_FILE_EXTENTS;
	uint32_t **extents = reallocarray(r->extents, n, sizeof(*extents));

	if (!extents)
		return -ENOMEM;
	memset(extents + r->n_extents, 0, (n - r->n_extents) * sizeof(*extents));
	r->extents = extents;
	r->n_extents = n;
	return 0;
}

uint32_t *pool_refs_make(struct pool_refs *r, uint32_t slot)
{
	uint32_t extent = slot / POOL_EXTENT_SLOTS;

	if (extent >= r->n_extents && grow(r, slot) < 0)
		return NULL;
	if (!r->extents[extent])
		r->extents[extent] = calloc(POOL_EXTENT_SLOTS, sizeof(**r->extents));
	return pool_refs_find(r, slot);
}

uint32_t pool_refs_take_next(struct pool_refs *r, uint32_t *slot)
{
	uint64_t end = (uint64_t)r->n_extents * POOL_EXTENT_SLOTS;

	for (uint64_t i = *slot; i < end; i++) {
		uint32_t *refs = pool_refs_find(r, (uint32_t)i), n = refs ? *refs : 0;

		if (n) {
			*refs = 0;
			*slot = (uint32_t)i;
			return n;
		}
	}
	return 0;
}

uint64_t pool_refs_bytes(const struct pool_refs *r)
{
	uint64_t bytes = r->n_extents * sizeof(*r->extents);

	for (size_t i = 0; i < r->n_extents; i++)
		bytes += r->extents[i] ? POOL_EXTENT_SLOTS * sizeof(**r->extents) : 0;
	return bytes;
}
