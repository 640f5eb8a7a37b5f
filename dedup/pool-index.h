/*
 * An open-addressing table from 64-bit keys to 32-bit values, several values a key allowed: the
 * pool's index (hash of a page -> slot). An entry is 8 bytes: it keeps 32 bits of the key only, so
 * what is found is to be checked against the key itself, which the caller has (a slot knows its
 * hash). Keys may be chosen by a hostile member, so where they lie depends on a secret of the
 * process.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define POOL_INDEX_NONE UINT32_MAX /* no value */

struct pool_index_entry {
	uint32_t tag; /* the upper half of the mixed key */
	uint32_t value; /* POOL_INDEX_NONE: empty */
};

/* All zero is an empty table. */
struct pool_index {
	struct pool_index_entry *entries;
	size_t size; /* 0 or a power of two; grows and shrinks so that it is 1/8 to 3/4 full */
	size_t n;
};

void pool_index_done(struct pool_index *x);
/* value < POOL_INDEX_NONE. -ENOMEM: nothing was added. */
int pool_index_add(struct pool_index *x, uint64_t key, uint32_t value);
/*
 * The values of key, and rarely those of others: *cursor is 0 at first. POOL_INDEX_NONE when there
 * are no more. Not over a change.
 */
uint32_t pool_index_next(const struct pool_index *x, uint64_t key, size_t *cursor);
/* The entry was added, with that value. */
void pool_index_remove(struct pool_index *x, uint64_t key, uint32_t value);

/* A 64-bit mix of key with the secret: for tables that lie elsewhere. */
uint64_t pool_index_mix(uint64_t key);
/* Asks the caches for where key lies. */
void pool_index_prefetch(const struct pool_index *x, uint64_t key);
