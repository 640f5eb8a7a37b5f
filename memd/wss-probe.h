/*
 * Looks at marked pages of a guest and marks others: a job for a worker thread. What to look at and
 * how many to mark is wss.c's to say. Touches no page of anybody.
 *
 * DOC: two ways to mark a page
 *
 * Paged out (MADV_PAGEOUT by pidfd), it shows as swapped in the pagemap until somebody touches it;
 * that costs the guest a fault. With idle page tracking (Documentation/admin-guide/mm/
 * idle_page_tracking.rst) a bit is set for its frame, which an access clears; that costs the guest
 * nothing, and huge pages stay whole. A page-out would split those, so with it their pages are
 * passed over (kpageflags tells them). Either way the race is harmless: a page touched between
 * marking and the first look counts as touched, one that is unmapped meanwhile as gone, and no
 * content depends on it: the kernel brings a page back whole whenever it is touched.
 *
 * A page is drawn by its region, in proportion to the private pages counted there last, and within
 * it at random until one is present: so each present page has the same chance. Pages that stay in
 * although asked to go (pinned, or on their way between the kernel's lists) are passed over.
 */
#pragma once

#include "memd/sample.h"
#include "memd/worker.h"
#include "memd/wss.h"

enum wss_method {
	WSS_BY_PAGE_OUT,
	WSS_BY_IDLE_BITS,
};

/* Files of the kernel, -1 where there is none; owned by whoever opened them. */
struct wss_files {
	int idle_bitmap_fd; /* /sys/kernel/mm/page_idle/bitmap */
	int page_flags_fd; /* /proc/kpageflags */
};
void wss_files_open(struct wss_files *f);
void wss_files_close(struct wss_files *f);

struct wss_probe {
	struct job job; /* first; run: wss_probe_run; done: the submitter's */
	struct sample_process *process; /* a reference, the submitter's to give back */
	void *context; /* the submitter's */
	uint64_t wall_us; /* the submitter's: since the last */
	const struct wss_files *files; /* outlives the job */
	enum wss_method method;
	bool has_huge; /* some of the RAM may be in huge pages */
	uint64_t random; /* the state of the generator */
	uint16_t *weights; /* private pages of each region, n_regions of the process; owned */
	struct wss_look *looks; /* owned */
	size_t n_looks;
	size_t n_wanted;
	/* filled by the run */
	uint64_t *pages; /* marked; owned, room for n_wanted */
	size_t n_pages;
	uint64_t cpu_us;
	uint64_t major_faults; /* of the process, so far */
	int result; /* 0, or negative errno: the process ends */
};

/* Room for that much; the rest is the caller's to fill. NULL for want of memory. */
struct wss_probe *wss_probe_new(uint32_t n_regions, size_t n_looks, size_t n_wanted);
void wss_probe_free(struct wss_probe *p);
void wss_probe_run(struct job *j);
