/*
 * The state of the host by the free part of its budget. Each state has a threshold to fall into it
 * and a higher one to leave it upwards, so that a figure that trembles at a threshold does not
 * switch it.
 */
#include "policy/host-state.h"

#include "memd/base/cleanup.h"

#include "memd/base/overflow.h"
#include "memd/base/units.h"

/* Sixths of what should be free; Waldspurger 2002, 6.3: 6, 4, 2, 1 percent. */
static const struct {
	const char *name;
	unsigned fall_below; /* free is less: fall into this state; 0: never falls into it */
	unsigned rise_at; /* free is at least: leave it for the next better one */
} states[] = {
	[MEMD_HOST_HIGH] = {"high", 0, 100},
	[MEMD_HOST_SOFT] = {"soft", 4, 6},
	[MEMD_HOST_HARD] = {"hard", 2, 4},
	[MEMD_HOST_LOW] = {"low", 1, 2},
};
#define WHOLE 6

uint64_t host_min_free_bytes(uint64_t budget_bytes)
{
	static const struct {
		uint64_t bytes; /* of the budget */
		unsigned percent;
	} parts[] = {{4 * GIB, 6}, {8 * GIB, 4}, {16 * GIB, 2}, {UINT64_MAX, 1}};
	unsigned __int128 hundredths = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(parts); i++) {
		uint64_t part = u64_min(budget_bytes, parts[i].bytes);

		hundredths += (unsigned __int128)part * parts[i].percent;
		budget_bytes -= part;
	}
	return (uint64_t)(hundredths / 100);
}

enum memd_host_state host_state_next(
	enum memd_host_state now, uint64_t budget_bytes, uint64_t used_bytes)
{
	uint64_t free_bytes = used_bytes < budget_bytes ? budget_bytes - used_bytes : 0;
	/* 128 bits: six times any figure fits. */
	unsigned __int128 free_sixths = (unsigned __int128)free_bytes * WHOLE;
	unsigned __int128 whole = host_min_free_bytes(budget_bytes);
	enum memd_host_state state = now;

	if (budget_bytes == 0)
		return MEMD_HOST_LOW;
	while (state < MEMD_HOST_LOW && free_sixths < whole * states[state + 1].fall_below)
		state++;
	while (state > MEMD_HOST_HIGH && free_sixths >= whole * states[state].rise_at)
		state--;
	return state;
}

const char *host_state_name(enum memd_host_state state)
{
	return states[state].name;
}
