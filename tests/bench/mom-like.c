/*
 * MOM's auto-balloon rules, as its documentation has them. Every 10 s: while less than 20 % of the
 * host is free, guests shrink, else they grow. A shrinking guest keeps what it uses and 20 % of its
 * memory free (5 % when less than 5 % of the host is free); it shrinks by at most 5 % of itself. A
 * growing guest gets at least what leaves 20 % of it free, or 5 % more. Changes below 0.25 % are not
 * made. What a guest uses is what it says.
 */
#include "tests/bench/rivals.h"

#include <errno.h>
#include <stdlib.h>

#include "memd/base/overflow.h"

#define EVERY_US	UINT64_C(10000000)
#define PRESSURE_PC	20
#define HARD_PC		5
#define GUEST_FREE_PC	20
#define GUEST_FREE_HARD 5
#define MAX_CHANGE_PC	5
#define MIN_CHANGE	400 /* a 400th: 0.25 % */

static int open_state(const struct memd_host_calls *calls, void **ret_state)
{
	(void)calls;
	*ret_state = calloc(1, sizeof(uint64_t));
	return *ret_state ? 0 : -ENOMEM;
}

static uint64_t used_by_claim(const struct memd_guest_view *g, uint64_t size)
{
	return u64_sub_or_zero(size, g->claimed_available_bytes);
}

static uint64_t shrink(const struct memd_guest_view *g, uint64_t size, unsigned free_pc)
{
	uint64_t least = u64_max(
		used_by_claim(g, size) + size / 100 * free_pc, size - size / 100 * MAX_CHANGE_PC);

	return size > least ? least : size;
}

static uint64_t grow(const struct memd_guest_view *g, uint64_t size)
{
	uint64_t wanted = u64_max(used_by_claim(g, size) + size / 100 * GUEST_FREE_PC,
		size + size / 100 * MAX_CHANGE_PC);

	return u64_min(wanted, g->max_bytes);
}

static int evaluate(
	void *state, const struct memd_host_view *view, struct memd_proposal *const *proposals)
{
	uint64_t *last_us = state;
	uint64_t free_bytes = u64_sub_or_zero(view->budget_bytes, view->used_bytes);
	uint64_t free_pc = free_bytes / (view->budget_bytes / 100 + 1);
	uint64_t since_us = view->now_us - *last_us;

	for (uint32_t i = 0; i < view->n_guests; i++) {
		const struct memd_guest_view *g = view->guests[i];
		uint64_t size = g->target_bytes ? g->target_bytes : g->max_bytes, wanted;

		proposals[i]->target_bytes = size;
		if (since_us < EVERY_US)
			continue;
		if (free_pc >= PRESSURE_PC)
			wanted = grow(g, size);
		else
			wanted = shrink(
				g, size, free_pc < HARD_PC ? GUEST_FREE_HARD : GUEST_FREE_PC);
		if ((wanted > size ? wanted - size : size - wanted) >= size / MIN_CHANGE)
			proposals[i]->target_bytes = wanted;
	}
	if (since_us >= EVERY_US)
		*last_us = view->now_us;
	return 0;
}

const struct memd_policy policy_mom_like = {
	.size = sizeof(policy_mom_like),
	.api_version = MEMD_POLICY_API_VERSION,
	.name = "mom-like",
	.description = "MOM's auto-balloon rules",
	.open = open_state,
	.evaluate = evaluate,
	.close = free,
};
