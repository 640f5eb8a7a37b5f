/* Page contents: hash, comparisons, a copy. Never writes a guest's page. */
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "dedup/page-hash.h"
#include "memd/base/units.h"

/*
 * Reads race with guests on purpose, which the thread sanitizer must not call a bug of ours: plain
 * loops instead of the memcmp that it intercepts. 64 bytes a step, without branches in it: the
 * compiler makes vector code of that.
 */
#define RACES_WITH_GUESTS __attribute__((no_sanitize("thread")))
#define STEP_WORDS	  8
#define PAGE_WORDS	  (PAGE_BYTES / sizeof(uint64_t))

RACES_WITH_GUESTS uint64_t page_hash(const void *page)
{
	return XXH3_64bits(page, PAGE_BYTES);
}

RACES_WITH_GUESTS bool page_is_zero(const void *page)
{
	const uint64_t *p = page;

	for (size_t i = 0; i < PAGE_WORDS; i += STEP_WORDS) {
		uint64_t any = 0;

		for (size_t j = 0; j < STEP_WORDS; j++)
			any |= p[i + j];
		if (any)
			return false;
	}
	return true;
}

RACES_WITH_GUESTS bool page_equal(const void *a, const void *b)
{
	const uint64_t *p = a, *q = b;

	for (size_t i = 0; i < PAGE_WORDS; i += STEP_WORDS) {
		uint64_t differ = 0;

		for (size_t j = 0; j < STEP_WORDS; j++)
			differ |= p[i + j] ^ q[i + j];
		if (differ)
			return false;
	}
	return true;
}

RACES_WITH_GUESTS void page_copy(void *to, const void *from)
{
	uint64_t *p = to;
	const volatile uint64_t *q = from; /* volatile: or the compiler makes a memcpy of it */

	for (size_t i = 0; i < PAGE_WORDS; i++)
		p[i] = q[i];
}
