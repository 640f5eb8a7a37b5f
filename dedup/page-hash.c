/*
 * Page contents: hash, comparisons, a copy. Never writes a guest's page. Compiled twice, for any
 * x86-64 and for CPUs with AVX2, where hashing is a third faster (dedup/CMakeLists.txt);
 * page-ops.c chooses.
 */
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "dedup/page-ops.h"
#include "memd/base/units.h"

/*
 * Reads race with guests on purpose, which the thread sanitizer must not call a bug of ours: plain
 * loops instead of the memcmp that it intercepts. 64 bytes a step, without branches in it: the
 * compiler makes vector code of that.
 */
#define RACES_WITH_GUESTS __attribute__((no_sanitize("thread")))
#define STEP_WORDS	  8
#define PAGE_WORDS	  (PAGE_BYTES / sizeof(uint64_t))

RACES_WITH_GUESTS static uint64_t hash(const void *page)
{
	return XXH3_64bits(page, PAGE_BYTES);
}

RACES_WITH_GUESTS static bool is_zero(const void *page)
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

RACES_WITH_GUESTS static bool equal(const void *a, const void *b)
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

RACES_WITH_GUESTS static void copy(void *to, const void *from)
{
	uint64_t *p = to;
	const volatile uint64_t *q = from; /* volatile: or the compiler makes a memcpy of it */

	for (size_t i = 0; i < PAGE_WORDS; i++)
		p[i] = q[i];
}

const struct page_ops PAGE_OPS = {
	.hash = hash,
	.is_zero = is_zero,
	.equal = equal,
	.copy = copy,
};
