/*
 * How many references one member of the pool holds to each slot: four bytes a slot, by extent, so
 * that an extent it holds nothing of costs a pointer.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* All zero holds nothing. */
struct pool_refs {
	uint32_t **extents; /* NULL: never held any in it */
	size_t n_extents;
	uint64_t n_slots; /* that it holds a reference to; whoever changes a count changes this */
};

void pool_refs_done(struct pool_refs *r);
/* The count for a slot; NULL when it cannot hold one, or, for make, without memory. */
uint32_t *pool_refs_find(const struct pool_refs *r, uint32_t slot);
uint32_t *pool_refs_make(struct pool_refs *r, uint32_t slot);
/* Takes all references to the first slot from *slot on that it holds; says which. 0: no more. */
uint32_t pool_refs_take_next(struct pool_refs *r, uint32_t *slot);
uint64_t pool_refs_bytes(const struct pool_refs *r);
