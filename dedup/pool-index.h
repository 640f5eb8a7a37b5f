/*
 * An open-addressing table from 64-bit keys to 32-bit values, several values a key allowed: the
 * pool's index (hash of a page -> slot), and a member's references (slot -> how many). Keys may be
 * chosen by a hostile member, so where they lie depends on a secret of the process.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pool_index_entry {
	uint64_t key;
	uint32_t value;
	uint32_t used;
};

/* All zero is an empty table. */
struct pool_index {
	struct pool_index_entry *entries;
	size_t size; /* 0 or a power of two; grows and shrinks so that it is 1/8 to 3/4 full */
	size_t n;
};

void pool_index_done(struct pool_index *x);
/* -ENOMEM: nothing was added. Pointers into the table are void then on. */
int pool_index_add(struct pool_index *x, uint64_t key, uint32_t value);
/*
 * The first entry of key, or the next one after `entry`; NULL when there is none (any more). Valid
 * until the next change.
 */
struct pool_index_entry *pool_index_find(const struct pool_index *x, uint64_t key);
struct pool_index_entry *pool_index_next(
	const struct pool_index *x, const struct pool_index_entry *entry);
void pool_index_remove(struct pool_index *x, struct pool_index_entry *entry);

/* A 64-bit mix of key with the secret: for tables that lie elsewhere. */
uint64_t pool_index_mix(uint64_t key);
