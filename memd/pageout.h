/*
 * Pages regions of a guest out: a job for a worker thread, since a 4 KiB page takes about 10 us.
 * The kernel moves the pages (process_madvise, MADV_PAGEOUT); which ones is decided in reclaim.c.
 */
#pragma once

#include <stdint.h>

#include "memd/sample.h"
#include "memd/worker.h"

struct pageout_region {
	uint32_t number;
	struct region_count after; /* filled by the run */
};

struct pageout {
	struct job job; /* first; run: pageout_run; done: the submitter's */
	struct worker *worker;
	struct sample_process *process; /* a reference, the submitter's to give back */
	void *context; /* the submitter's */
	uint64_t guest_id;
	uint64_t time_limit_us; /* regions not begun by then are left */
	/* filled by the run */
	uint32_t n_done; /* the first n_done regions are out */
	int result; /* 0, or why it ended early: negative errno */
	uint64_t begun_us, done_us; /* monotonic */
	uint64_t cpu_us; /* that it took: the kernel's moving of the pages, too */
	uint32_t n_regions;
	struct pageout_region regions[];
};

void pageout_run(struct job *j);
