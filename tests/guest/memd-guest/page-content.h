/*
 * What a page of the guest contains: a function of its key, made so that
 *  - two pages with different keys differ (the key itself is in every 128 bytes of the page),
 *  - it compresses about 2:1 with lzo, as memory of real guests does: of each 16 words 6 are noise,
 *    10 repeat the key,
 *  - any of the 512 words can be checked, at more than a million pages a second.
 *
 * A page is changed in steps (its generation). Seven of eight steps write one word only, so that a
 * page that was shared and is then written must keep its other 511 words; the eighth step writes a
 * new page.
 *
 * Header only: the guest, and the test that measures the compression on the host, use the same
 * code.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define CONTENT_WORDS	    512
#define CONTENT_BLOCK_WORDS 16
#define CONTENT_NOISE_WORDS 6
#define CONTENT_BLOCKS	    (CONTENT_WORDS / CONTENT_BLOCK_WORDS)
/* Steps 1..7 of eight change one word of block 4n - 1. */
#define CONTENT_STEPS	    8
#define CONTENT_STEP_BLOCKS (CONTENT_BLOCKS / CONTENT_STEPS)

struct page_content {
	uint64_t key; /* repeated in every block; 0 with noise 0 is a page of zeroes */
	uint64_t noise; /* all ones, or 0 for no noise */
	uint64_t patch; /* the words of steps 1..7 */
	unsigned step; /* 0..7 */
};

/* A bijection on 64 bits (the finalizer of splitmix64). */
static inline uint64_t content_mix(uint64_t x)
{
	x ^= x >> 30;
	x *= UINT64_C(0xbf58476d1ce4e5b9);
	x ^= x >> 27;
	x *= UINT64_C(0x94d049bb133111eb);
	return x ^ x >> 31;
}

/* The key of page `index` of area `area` in the whole-page generation `round`. */
static inline uint64_t content_key(uint64_t seed, unsigned area, uint64_t index, uint64_t round)
{
	uint64_t key = content_mix(seed + UINT64_C(0x9e3779b97f4a7c15));

	key = content_mix(key ^ ((uint64_t)area << 56 | index));
	return content_mix(key + round);
}

static inline uint64_t content_noise(const struct page_content *c, unsigned word)
{
	uint64_t x = c->key + word * UINT64_C(0x9e3779b97f4a7c15);

	x ^= x >> 32;
	x *= UINT64_C(0xd6e8feb86659fd93);
	return (x ^ x >> 32) & c->noise;
}

static inline uint64_t content_patch(const struct page_content *c, unsigned step)
{
	return c->patch + step * UINT64_C(0xa0761d6478bd642f);
}

/* Which word step 1..7 writes. */
static inline unsigned content_patch_word(unsigned step)
{
	return (step * CONTENT_STEP_BLOCKS - 1) * CONTENT_BLOCK_WORDS + CONTENT_NOISE_WORDS;
}

/* The first repeated word of a block: the key, or a step's word. */
static inline uint64_t content_block_head(const struct page_content *c, unsigned block)
{
	unsigned step = (block + 1) / CONTENT_STEP_BLOCKS;

	return (block + 1) % CONTENT_STEP_BLOCKS == 0 && step <= c->step ? content_patch(c, step)
									 : c->key;
}

/* The whole page. */
static inline void content_write(volatile uint64_t *page, const struct page_content *c)
{
	for (unsigned block = 0; block < CONTENT_BLOCKS; block++) {
		unsigned first = block * CONTENT_BLOCK_WORDS;

		for (unsigned i = 0; i < CONTENT_NOISE_WORDS; i++)
			page[first + i] = content_noise(c, first + i);
		page[first + CONTENT_NOISE_WORDS] = content_block_head(c, block);
		for (unsigned i = CONTENT_NOISE_WORDS + 1; i < CONTENT_BLOCK_WORDS; i++)
			page[first + i] = c->key;
	}
}

/* The page is at step c->step - 1 already: writes the one word that takes it to c->step (1..7). */
static inline void content_write_step(volatile uint64_t *page, const struct page_content *c)
{
	page[content_patch_word(c->step)] = content_patch(c, c->step);
}

static inline uint64_t content_word(const struct page_content *c, unsigned word)
{
	unsigned in_block = word % CONTENT_BLOCK_WORDS;

	if (in_block < CONTENT_NOISE_WORDS)
		return content_noise(c, word);
	if (in_block == CONTENT_NOISE_WORDS)
		return content_block_head(c, word / CONTENT_BLOCK_WORDS);
	return c->key;
}

/* Whether each of the 512 words is as expected. Every word is read, once. */
static inline bool content_verify(const volatile uint64_t *page, const struct page_content *c)
{
	uint64_t wrong = 0;

	for (unsigned block = 0; block < CONTENT_BLOCKS; block++) {
		unsigned first = block * CONTENT_BLOCK_WORDS;

		for (unsigned i = 0; i < CONTENT_NOISE_WORDS; i++)
			wrong |= page[first + i] ^ content_noise(c, first + i);
		wrong |= page[first + CONTENT_NOISE_WORDS] ^ content_block_head(c, block);
		for (unsigned i = CONTENT_NOISE_WORDS + 1; i < CONTENT_BLOCK_WORDS; i++)
			wrong |= page[first + i] ^ c->key;
	}
	return !wrong;
}
