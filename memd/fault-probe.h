/*
 * What a major fault takes on this host now. Swap in RAM (zram): a page of memd's own is paged out
 * and touched. Swap on disk: a page that went out stays in the swap cache until somebody needs its
 * memory, so that touching it would tell nothing; there a page of the device is read, past the
 * caches. Runs in a worker thread, since both may sleep.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct fault_probe {
	void *page; /* its own mapping */
	uint64_t seed;
};

/* -ENOMEM. */
int fault_probe_init(struct fault_probe *p);
/* NULL page is allowed. */
void fault_probe_done(struct fault_probe *p);
/*
 * The time of one fault. device: of swap on disk, of that size; NULL: swap is in RAM. -EAGAIN: the
 * page did not go out (no swap, or not this time); any errno of reading the device.
 */
int fault_probe_run(
	struct fault_probe *p, const char *device, uint64_t device_bytes, uint64_t *ret_ns);
