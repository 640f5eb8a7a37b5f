/* What the Linux guest's init writes, for the init (which has no libc) and for tests that look for it from outside. */
#pragma once

#include <stdint.h>

#define CONTENT_STEP UINT64_C(0x9e3779b97f4a7c15) /* odd: all words of a generation differ */

/* Word i of the memory in its n-th generation. */
static inline uint64_t content_word(uint64_t i, uint64_t generation)
{
	uint64_t x = (i + 1) * CONTENT_STEP + generation * UINT64_C(0xbf58476d1ce4e5b9);

	return x ^ (x >> 29);
}

/* Undoes the last step: what this gives for a word and for the next one differs by CONTENT_STEP. */
static inline uint64_t content_unmix(uint64_t word)
{
	return word ^ (word >> 29) ^ (word >> 58);
}
