/* Chooses the code for this CPU (page-ops.h); all of it gives the same answers. */
#include "dedup/page-ops.h"

static const struct page_ops *ops(void)
{
	return __builtin_cpu_supports("avx2") ? &page_ops_avx2 : &page_ops_plain;
}

uint64_t page_hash(const void *page)
{
	return ops()->hash(page);
}

bool page_is_zero(const void *page)
{
	return ops()->is_zero(page);
}

bool page_equal(const void *a, const void *b)
{
	return ops()->equal(a, b);
}

void page_copy(void *to, const void *from)
{
	ops()->copy(to, from);
}
