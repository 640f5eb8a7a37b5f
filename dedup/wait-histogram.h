/*
 * How long something took, counted so that percentiles can be told: four buckets an octave, in
 * microseconds. Header only.
 */
#pragma once

#include <stdint.h>

#define WAIT_BUCKETS 80 /* up to 2^20 us; what is longer counts as that */

struct wait_histogram {
	uint64_t n;
	uint64_t max_us;
	uint64_t buckets[WAIT_BUCKETS];
};

/* Below 4 us each has its own bucket; above, the octave and the next two bits say which. */
static inline unsigned wait_bucket(uint64_t us)
{
	unsigned octave = us < 4 ? 0 : 63 - (unsigned)__builtin_clzll(us);
	uint64_t bucket = us < 4 ? us : 4 * (octave - 1) + (us >> (octave - 2) & 3);

	return bucket < WAIT_BUCKETS ? (unsigned)bucket : WAIT_BUCKETS - 1;
}

/* The longest time that counts for a bucket. */
static inline uint64_t wait_bucket_end_us(unsigned bucket)
{
	return bucket < 4 ? bucket : ((UINT64_C(5) + bucket % 4) << (bucket / 4 - 1)) - 1;
}

static inline void wait_histogram_add(struct wait_histogram *h, uint64_t us)
{
	h->n++;
	h->max_us = us > h->max_us ? us : h->max_us;
	h->buckets[wait_bucket(us)]++;
}

/* No more than percent of all took longer than this; 0 when there are none. */
static inline uint64_t wait_histogram_percentile_us(
	const struct wait_histogram *h, unsigned percent)
{
	uint64_t below = 0;

	for (unsigned i = 0; i < WAIT_BUCKETS && h->n; i++) {
		below += h->buckets[i];
		if (below * 100 >= h->n * percent) {
			uint64_t end_us = wait_bucket_end_us(i);

			return end_us < h->max_us ? end_us : h->max_us;
		}
	}
	return 0;
}
