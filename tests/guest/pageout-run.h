/*
 * Sends all RAM of a guest to swap, one piece after the other and again from the start, as memd does
 * it with what is cold: for tests that want everything to be swapped at some time.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "tests/guest/vmm-run.h"

struct pageout_run {
	pthread_t thread;
	bool started;
	atomic_bool stop;
	int pidfd;
	uint64_t hva, bytes; /* of the guest's first range of RAM */
	uint64_t interval_us;
};

/* One piece of 2 MiB each interval, until the end. An errno of pidfd_open or pthread_create. */
int pageout_run_start(struct pageout_run *p, const struct vmm_run *v, uint64_t interval_us);
/* Before the guest is freed. {0} is allowed. */
void pageout_run_done(struct pageout_run *p);
