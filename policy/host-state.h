/* How short of memory the host is, and how much it keeps free. */
#pragma once

#include <stdint.h>

#include "memd/policy.h"

/*
 * What a budget should keep free: 6 % of its first 4 GiB, 4 % of the next 8, 2 % of the next 16 and
 * 1 % of the rest (the sliding scale of ESXi 5: a large host needs not more for the same burst).
 */
uint64_t host_min_free_bytes(uint64_t budget_bytes);

/*
 * The next host state from the free part of the budget: below 4, 2, 1 sixths of
 * host_min_free_bytes it falls to soft, hard, low at once; it rises again only when 6, 4, 2 sixths
 * are free (Waldspurger 2002, 6.3: 6, 4, 2, 1 %). used may exceed budget.
 */
enum memd_host_state host_state_next(
	enum memd_host_state now, uint64_t budget_bytes, uint64_t used_bytes);
/* "high", "soft", "hard", "low". */
const char *host_state_name(enum memd_host_state state);
