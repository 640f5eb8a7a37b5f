/*
 * The scratch area: memory that the guest uses for a while and then frees, so that there is
 * something to reclaim. Boot processor only. Command line: scratch_mib, scratch_s (seconds from
 * filled to freed, and from freed to the next round, default 5), scratch_rounds (default 1),
 * scratch_scatter=1 (no neighbours next to each other in the list of free pages, nothing reported).
 */
#pragma once

#include "tests/guest/memd-guest/area.h"

/* While memory_alloc works. */
void scratch_init(uint64_t capacity);
/* One step, some pages at most. Returns whether there is more to do at once. */
bool scratch_service(struct area_counters *c, uint64_t now_ns);
