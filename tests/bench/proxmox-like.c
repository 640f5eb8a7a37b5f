/*
 * Proxmox VE's auto-ballooning, as its administration guide has it. Every 10 s: the host shall use
 * 80 % of its memory. Below that, what is missing is added to the guests that have less than their
 * maximum, by their shares; above it, the excess is taken from the guests that have more than their
 * minimum, in proportion to that. A guest changes by at most 100 MB a step, and less than 10 MB are
 * not moved.
 */
#include "tests/bench/rivals.h"

#include <errno.h>
#include <stdlib.h>

#include "memd/base/overflow.h"
#include "memd/base/units.h"

#define EVERY_US     UINT64_C(10000000)
#define HOST_USED_PC 80
#define MAX_CHANGE   (100 * MIB)
#define LEAST_CHANGE (10 * MIB)

static int open_state(const struct memd_host_calls *calls, void **ret_state)
{
	(void)calls;
	*ret_state = calloc(1, sizeof(uint64_t));
	return *ret_state ? 0 : -ENOMEM;
}

static uint64_t size_of(const struct memd_guest_view *g)
{
	return g->target_bytes ? g->target_bytes : g->max_bytes;
}

static uint64_t part_of(uint64_t bytes, uint64_t numerator, uint64_t denominator)
{
	return denominator ? (uint64_t)((unsigned __int128)bytes * numerator / denominator) : 0;
}

static void add(
	const struct memd_host_view *view, uint64_t bytes, struct memd_proposal *const *proposals)
{
	uint64_t shares = 0;

	for (uint32_t i = 0; i < view->n_guests; i++)
		if (size_of(view->guests[i]) < view->guests[i]->max_bytes)
			shares += view->guests[i]->shares;
	for (uint32_t i = 0; i < view->n_guests; i++) {
		const struct memd_guest_view *g = view->guests[i];
		uint64_t part = u64_min(part_of(bytes, g->shares, shares), MAX_CHANGE);

		proposals[i]->target_bytes = u64_min(size_of(g) + part, g->max_bytes);
	}
}

static void take(
	const struct memd_host_view *view, uint64_t bytes, struct memd_proposal *const *proposals)
{
	uint64_t above = 0;

	for (uint32_t i = 0; i < view->n_guests; i++)
		above += u64_sub_or_zero(size_of(view->guests[i]), view->guests[i]->min_bytes);
	for (uint32_t i = 0; i < view->n_guests; i++) {
		const struct memd_guest_view *g = view->guests[i];
		uint64_t own = u64_sub_or_zero(size_of(g), g->min_bytes);
		uint64_t part = u64_min(part_of(bytes, own, above), MAX_CHANGE);

		proposals[i]->target_bytes = size_of(g) - u64_min(part, own);
	}
}

static int evaluate(
	void *state, const struct memd_host_view *view, struct memd_proposal *const *proposals)
{
	uint64_t *last_us = state;
	uint64_t goal = view->budget_bytes / 100 * HOST_USED_PC;

	for (uint32_t i = 0; i < view->n_guests; i++)
		proposals[i]->target_bytes = size_of(view->guests[i]);
	if (view->now_us - *last_us < EVERY_US)
		return 0;
	*last_us = view->now_us;
	if (view->used_bytes + LEAST_CHANGE <= goal)
		add(view, goal - view->used_bytes, proposals);
	else if (view->used_bytes >= goal + LEAST_CHANGE)
		take(view, view->used_bytes - goal, proposals);
	return 0;
}

const struct memd_policy policy_proxmox_like = {
	.size = sizeof(policy_proxmox_like),
	.api_version = MEMD_POLICY_API_VERSION,
	.name = "proxmox-like",
	.description = "Proxmox VE's auto-ballooning",
	.open = open_state,
	.evaluate = evaluate,
	.close = free,
};
