/* Page-out of one guest; see evict.c. */
#pragma once

#include "memd/manager.h"

/* Once a tick, for a guest with fresh figures. */
void evict_act(struct manager *m, struct guest *g, uint64_t now_us);
/*
 * Pages out up to wanted_bytes of a guest, in the pager; nothing when it is busy with that guest.
 * Returns how many regions are under way.
 */
size_t evict_begin(
	struct manager *m, struct guest *g, uint64_t wanted_bytes, enum reclaim_urgency urgency);
/* The guest goes; what is under way finds nobody. */
void evict_cancel(struct guest *g);
