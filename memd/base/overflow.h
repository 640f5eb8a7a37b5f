/* Arithmetic on sizes that came from elsewhere: checked, or it does not happen. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* True when a + b (a * b) does not fit; *ret is written only when it does. */
static inline bool u64_add_overflows(uint64_t a, uint64_t b, uint64_t *ret)
{
	uint64_t r;

	if (__builtin_add_overflow(a, b, &r))
		return true;
	*ret = r;
	return false;
}

static inline bool u64_mul_overflows(uint64_t a, uint64_t b, uint64_t *ret)
{
	uint64_t r;

	if (__builtin_mul_overflow(a, b, &r))
		return true;
	*ret = r;
	return false;
}

/* Whether [start, start + length) lies within [base, base + size); length 0 lies nowhere. */
static inline bool u64_range_within(uint64_t start, uint64_t length, uint64_t base, uint64_t size)
{
	return length > 0 && start >= base && length <= size && start - base <= size - length;
}

/* align: a power of two. */
static inline uint64_t u64_align_down(uint64_t v, uint64_t align)
{
	return v & ~(align - 1);
}

/* The caller knows that v is at most UINT64_MAX - align. */
static inline uint64_t u64_align_up(uint64_t v, uint64_t align)
{
	return (v + align - 1) & ~(align - 1);
}

static inline uint64_t u64_min(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static inline uint64_t u64_max(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* a - b, or 0 when that would be negative. */
static inline uint64_t u64_sub_or_zero(uint64_t a, uint64_t b)
{
	return a > b ? a - b : 0;
}
