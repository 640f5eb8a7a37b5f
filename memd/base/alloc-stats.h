/* What the allocator holds, for the bus: the only file that speaks to jemalloc. */
#pragma once

#include <stdint.h>

struct alloc_stats {
	uint64_t allocated_bytes; /* in use by the program */
	uint64_t resident_bytes;  /* held in RAM by the allocator */
};

/* 0, or -ENODATA under a sanitizer's allocator. */
int alloc_stats_read(struct alloc_stats *ret);
