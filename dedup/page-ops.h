/* What page-hash.c does, once for each kind of CPU that it is compiled for. */
#pragma once

#include "dedup/page-hash.h"

struct page_ops {
	uint64_t (*hash)(const void *page);
	bool (*is_zero)(const void *page);
	bool (*equal)(const void *a, const void *b);
	void (*copy)(void *to, const void *from);
};

extern const struct page_ops page_ops_plain, page_ops_avx2;
