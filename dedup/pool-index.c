/*
 * Linear probing, deletion by shifting back: no tombstones, so a table never wears out. Knows
 * nothing of pages.
 */
#include "dedup/pool-index.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define SIZE_MIN 64

static uint64_t secret[2];
static pthread_once_t secret_once = PTHREAD_ONCE_INIT;

static void choose_secret(void)
{
	/*
	 * Fails only before the kernel's generator is ready; the address space is random by then,
	 * too.
	 */
	if (getrandom(secret, sizeof(secret), GRND_NONBLOCK) != sizeof(secret))
		secret[0] = (uintptr_t)&secret ^ (uintptr_t)malloc;
	secret[1] |= 1;
}

uint64_t pool_index_mix(uint64_t key)
{
	unsigned __int128 product;
	uint64_t x;

	pthread_once(&secret_once, choose_secret);
	product = (unsigned __int128)(key ^ secret[0]) * (secret[1] ^ UINT64_C(0x9e3779b97f4a7c14));
	/* Neighbouring keys (slots) lie too evenly after one multiplication with an unlucky secret. */
	x = (uint64_t)product ^ (uint64_t)(product >> 64);
	x = (x ^ x >> 32) * UINT64_C(0xd6e8feb86659fd93);
	return x ^ x >> 32;
}

static uint32_t tag_of(uint64_t key)
{
	return (uint32_t)(pool_index_mix(key) >> 32);
}

/* The upper bits of the tag, so that a larger or smaller table is made of the entries alone. */
static size_t home_of(const struct pool_index *x, uint32_t tag)
{
	return (size_t)((uint64_t)tag * x->size >> 32);
}

void pool_index_done(struct pool_index *x)
{
	free(x->entries);
	*x = (struct pool_index){0};
}

static void place(struct pool_index *x, struct pool_index_entry entry)
{
	size_t i = home_of(x, entry.tag);

	while (x->entries[i].value != POOL_INDEX_NONE)
		i = (i + 1) & (x->size - 1);
	x->entries[i] = entry;
	x->n++;
}

static int resize(struct pool_index *x, size_t size)
{
	struct pool_index y = {.entries = malloc(size * sizeof(*y.entries)), .size = size};

	if (!y.entries)
		return -ENOMEM;
	memset(y.entries, 0xff, size * sizeof(*y.entries)); /* all empty */
	for (size_t i = 0; i < x->size; i++)
		if (x->entries[i].value != POOL_INDEX_NONE)
			place(&y, x->entries[i]);
	free(x->entries);
	*x = y;
	return 0;
}

int pool_index_add(struct pool_index *x, uint64_t key, uint32_t value)
{
	if (x->n + 1 > x->size / 4 * 3) {
		int r = resize(x, x->size ? 2 * x->size : SIZE_MIN);

		if (r < 0)
			return r;
	}
	place(x, (struct pool_index_entry){.tag = tag_of(key), .value = value});
	return 0;
}

uint32_t pool_index_next(const struct pool_index *x, uint64_t key, size_t *cursor)
{
	uint32_t tag = tag_of(key);

	if (!x->size)
		return POOL_INDEX_NONE;
	for (;;) {
		const struct pool_index_entry *entry =
			&x->entries[(home_of(x, tag) + (*cursor)++) & (x->size - 1)];

		if (entry->value == POOL_INDEX_NONE || entry->tag == tag)
			return entry->value;
	}
}

void pool_index_remove(struct pool_index *x, uint64_t key, uint32_t value)
{
	size_t mask = x->size - 1, hole = home_of(x, tag_of(key));

	while (x->entries[hole].value != value)
		hole = (hole + 1) & mask;
	for (size_t i = (hole + 1) & mask; x->entries[i].value != POOL_INDEX_NONE;
		i = (i + 1) & mask) {
		/* An entry may fill the hole if the hole lies between its home and where it is. */
		if (((i - home_of(x, x->entries[i].tag)) & mask) < ((i - hole) & mask))
			continue;
		x->entries[hole] = x->entries[i];
		hole = i;
	}
	x->entries[hole].value = POOL_INDEX_NONE;
	x->n--;
	if (x->size > SIZE_MIN && x->n < x->size / 8)
		resize(x, x->size / 2); /* without memory it stays as large as it is */
}

void pool_index_prefetch(const struct pool_index *x, uint64_t key)
{
	if (x->size)
		__builtin_prefetch(&x->entries[home_of(x, tag_of(key))]);
}
