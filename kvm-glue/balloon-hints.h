/*
 * The balloon's free page hinting (virtio 1.2, 5.5.6.5): asks the guest for all its free memory at
 * once, and drops it (dedup/hinted.h). Part of the balloon device: all functions are called with
 * its run_lock held, but for _new, _free and _stats.
 */
#pragma once

#include "kvm-glue/virtio-device.h"

struct balloon_hints;

/* What the device shows as free_page_hint_cmd_id. */
typedef void (*balloon_hints_command)(void *context, uint32_t id);

struct balloon_hints_stats {
	uint64_t runs; /* that have ended */
	uint64_t runs_cut; /* of those, because the driver took too long */
	uint64_t named_pages; /* in hints that counted */
	uint64_t dropped_pages; /* had memory or swap, and have none any more */
	uint64_t written_pages; /* were written since: kept */
	uint64_t unsettled_pages; /* kept, since a vCPU did not come in time */
	uint64_t kept_pages; /* kept, since their poison is not zero */
	uint64_t cpu_us; /* of this thread */
	uint64_t wall_us; /* of runs, from the question to the end */
};

/* m and context outlive it. -ENOMEM, or an errno of timerfd. */
int balloon_hints_new(struct machine *m, balloon_hints_command command, void *context,
	struct balloon_hints **ret);
/* After the device's thread has ended. NULL is allowed. */
void balloon_hints_free(struct balloon_hints *h);
DEFINE_CLEANUP(struct balloon_hints *, balloon_hints_free)

/* Begins a run, if none is under way. -EOPNOTSUPP, -ENOMEM, an errno of KVM: nothing was asked. */
int balloon_hints_begin(struct balloon_hints *h);
/*
 * Serves the queue, as virtio_class.serve. poison: what the driver says free pages hold; where that
 * is not zero they are kept.
 */
int balloon_hints_serve(
	struct balloon_hints *h, struct virtio_device *d, unsigned queue, uint32_t poison);
/* A descriptor to be watched for POLLIN while the device runs, and what to do then. */
int balloon_hints_fd(const struct balloon_hints *h);
void balloon_hints_look_at_time(struct balloon_hints *h);
/*
 * For snapshots: the last identifier that was used, and that it was so in the life before. A run that
 * was under way then has ended: the driver is told so when the device runs.
 */
uint32_t balloon_hints_id(const struct balloon_hints *h);
void balloon_hints_restored(struct balloon_hints *h, uint32_t id);
/* The device was reset. */
void balloon_hints_reset(struct balloon_hints *h);

/* Any thread. */
void balloon_hints_stats_read(struct balloon_hints *h, struct balloon_hints_stats *ret);
