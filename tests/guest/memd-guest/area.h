/*
 * The kinds of memory that the guest writes, and what a page of each must contain. Any processor,
 * ring 3.
 */
#pragma once

#include "tests/guest/memd-guest/arch.h"

enum area_kind {
	AREA_COMMON = 1, /* equal in all guests with the same common_seed */
	AREA_UNIQUE = 2,
	AREA_ZERO = 3,
	AREA_SCRATCH = 4,
	AREA_DISK = 5,
	AREA_HINTED = 6,
};

/* A page's generation counts its changes: whole-page round and step within (page-content.h). */
#define GENERATION_ROUND 8
#define GENERATION_ZERO                                                                            \
	(2 * GENERATION_ROUND) /* first generation of a zero page: written once, then zeroed */
#define GENERATION_ZERO_RAW (1 * GENERATION_ROUND)

/* One processor's; only it writes them. */
struct area_counters {
	uint64_t verified, corrupt, written; /* pages */
} __attribute__((aligned(64)));

/*
 * Ring 3 of the boot processor, once: reads seed, common_seed and noise_bits (of each word of noise,
 * 1 to 64: fewer compress better; default 64) from the command line.
 */
void area_init(void);
/*
 * Writes page `index` of an area, which lies at `page` and is of generation - 1 (or of whatever
 * where the generation begins a round), so that it is of that generation. Common and zero pages are
 * that in even rounds and unique in odd ones, but for the words that steps changed.
 */
void area_write(struct area_counters *c, enum area_kind kind, uint64_t index, uint64_t *page,
	uint32_t generation);
/*
 * Compares every word. A page that is wrong is counted, and the first few are described on the
 * serial port.
 */
void area_verify(struct area_counters *c, enum area_kind kind, uint64_t index, const uint64_t *page,
	uint32_t generation);
