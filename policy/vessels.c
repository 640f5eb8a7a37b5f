/* Connected vessels; see vessels.h. */
#include "policy/vessels.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#include "memd/base/overflow.h"

typedef unsigned __int128 u128;

/* A level is at most 2^84: with a weight of 2^42 it stays in 128 bits, and so does the tax. */
#define LEVEL_SHIFT 20
#define LEVEL_BITS  (64 + LEVEL_SHIFT)
#define ONE_BP	    10000
#define SLOPE_SHIFT 31

int vessels_reserve(struct vessels *vs, size_t n)
{
	struct vessel *larger;

	if (n <= vs->n_room)
		return 0;
	larger = reallocarray(vs->v, n, sizeof(*larger));
	if (!larger)
		return -ENOMEM;
	vs->v = larger;
	vs->n_room = n;
	return 0;
}

void vessels_done(struct vessels *vs)
{
	free(vs->v);
	*vs = (struct vessels){0};
}

/* What is left of a byte above the knee; a 128 bit division for each would be half of the tick. */
static uint32_t slope_of(const struct vessel *v)
{
	return (uint32_t)(((uint64_t)ONE_BP << SLOPE_SHIFT) / v->tax_bp);
}

uint64_t vessel_amount(const struct vessel *v, vessel_level_t level)
{
	u128 part = level * v->weight >> LEVEL_SHIFT;

	if (part >> 64) /* above any guest, taxed or not */
		return v->high_bytes;
	if (part > v->knee_bytes)
		part = v->knee_bytes + ((part - v->knee_bytes) * slope_of(v) >> SLOPE_SHIFT);
	part += v->base_bytes;
	if (part >= v->high_bytes)
		return v->high_bytes;
	return u64_max((uint64_t)part, v->low_bytes);
}

vessel_sum_t vessels_low(const struct vessels *vs, size_t n)
{
	u128 sum = 0;

	for (size_t i = 0; i < n; i++)
		sum += vs->v[i].low_bytes;
	return sum;
}

vessel_sum_t vessels_high(const struct vessels *vs, size_t n)
{
	u128 sum = 0;

	for (size_t i = 0; i < n; i++)
		sum += vs->v[i].high_bytes;
	return sum;
}

static bool fits_at(
	const struct vessels *vs, size_t n, vessel_level_t level, uint64_t available_bytes)
{
	u128 sum = 0;

	for (size_t i = 0; i < n && sum <= available_bytes; i++)
		sum += vessel_amount(&vs->v[i], level);
	return sum <= available_bytes;
}

vessel_level_t vessels_level(const struct vessels *vs, size_t n, uint64_t available_bytes)
{
	vessel_level_t level = 0;

	for (int bit = LEVEL_BITS - 1; bit >= 0; bit--) {
		vessel_level_t higher = level | (vessel_level_t)1 << bit;

		if (fits_at(vs, n, higher, available_bytes))
			level = higher;
	}
	return level;
}
