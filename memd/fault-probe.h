/*
 * What a major fault takes on this host now: a page of memd's own is paged out and touched. Runs in
 * a worker thread, since both may sleep.
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
/* The time of one fault. -EAGAIN: the page did not go out (no swap, or not this time). */
int fault_probe_run(struct fault_probe *p, uint64_t *ret_ns);
