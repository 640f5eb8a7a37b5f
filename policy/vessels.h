/*
 * Memory poured into guests like water into connected vessels: what the built-in policies share.
 *
 * DOC: one level for all
 *
 * At a level L a vessel holds base + L * weight, but not less than low and not more than high; above
 * its knee (what is poured in beyond knee bytes) it takes only 1/tax of that, so that the others get
 * ahead of it. The level is the highest at which the sum of all still fits: max-min fairness by
 * weight, with a price on what lies above the knee (Waldspurger 2002, 5.2; policy/esx.c says how
 * the paper's formula becomes this). The sum grows with the level, so that it is found by bisection:
 * no sorting, and the same figures give the same level.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define VESSEL_NO_KNEE	  UINT64_MAX
#define VESSEL_NO_TAX_BP  10000
#define VESSEL_WEIGHT_MAX (UINT64_C(1) << 42)

struct vessel {
	uint64_t base_bytes;
	uint64_t low_bytes, high_bytes; /* low <= high */
	uint64_t knee_bytes; /* VESSEL_NO_KNEE */
	uint64_t weight; /* bytes for each unit of level; at most VESSEL_WEIGHT_MAX */
	uint32_t tax_bp; /* price of a byte above the knee, at least 10000: 1 */
};

struct vessels {
	struct vessel *v;
	size_t n_room;
};

/* A level: bytes for a weight of 1, times 2^20. */
typedef unsigned __int128 vessel_level_t;

/* Room for n, which is kept: a tick needs no memory. -ENOMEM. */
int vessels_reserve(struct vessels *vs, size_t n);
void vessels_done(struct vessels *vs);

uint64_t vessel_amount(const struct vessel *v, vessel_level_t level);
/* A sum over guests, in bytes. */
typedef unsigned __int128 vessel_sum_t;

/* For messages: cut to what 64 bits hold. */
static inline uint64_t vessel_sum_cut(vessel_sum_t sum)
{
	return sum > UINT64_MAX ? UINT64_MAX : (uint64_t)sum;
}

/* Of the first n, at their lowest, at their highest. */
vessel_sum_t vessels_low(const struct vessels *vs, size_t n);
vessel_sum_t vessels_high(const struct vessels *vs, size_t n);
/* The highest level at which the first n fit into available_bytes; 0 also when none does. */
vessel_level_t vessels_level(const struct vessels *vs, size_t n, uint64_t available_bytes);
