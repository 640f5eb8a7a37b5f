/*
 * Which pages are in a guest's balloon, and what is done with those that its driver gives, takes back
 * or reports free (virtio 1.2, 5.5.6, 5.5.6.7). By the device's thread, with its run_lock held, but
 * for _new and _free.
 */
#pragma once

#include <stdint.h>

#include "dedup/guest-ram.h"
#include "kvm-glue/snapshot.h"
#include "kvm-glue/virtq.h"

/* What handling requests changed: counts, added to what is in it. */
struct balloon_tally {
	uint64_t inflated_pages;
	uint64_t deflated_pages;
	uint64_t reported_pages;
	uint64_t unballooned_pages; /* were in the balloon and were reported free */
	uint64_t ignored_pages;
	uint64_t kept_pages; /* reported, but poisoned */
	uint64_t discard_calls;
	uint64_t discard_ranges;
	uint64_t cpu_us; /* of the thread; whoever asked fills it in */
};

struct balloon_pages;

/* An empty balloon. ram outlives it. -ENOMEM. */
int balloon_pages_new(struct guest_ram *ram, struct balloon_pages **ret);
void balloon_pages_free(struct balloon_pages *p); /* NULL is allowed */

/*
 * A request, c, to give pages, to take them back, or that reports ranges free; poison is what the
 * driver says that free pages hold, 0 for nothing. -EPROTO when it is none: nothing was done then.
 */
int balloon_pages_inflate(
	struct balloon_pages *p, const struct virtq_chain *c, struct balloon_tally *t);
int balloon_pages_deflate(
	struct balloon_pages *p, const struct virtq_chain *c, struct balloon_tally *t);
int balloon_pages_report(struct balloon_pages *p, const struct virtq_chain *c, uint32_t poison,
	struct balloon_tally *t);
/* The pages of the balloon are the guest's again: ordinary holes. */
void balloon_pages_release(struct balloon_pages *p);

/* For a snapshot. restore: into an empty balloon; how many pages are in it then, or -EINVAL. */
void balloon_pages_save(const struct balloon_pages *p, struct snapshot_writer *w);
int balloon_pages_restore(
	struct balloon_pages *p, struct snapshot_reader *r, uint64_t *ret_held_pages);
