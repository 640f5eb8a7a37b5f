/*
 * virtio-balloon (virtio 1.2, 5.5): inflate, deflate, statistics, free page reporting and hinting,
 * page poison.
 * All functions may be called from any thread; none waits for the guest or touches its memory.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "kvm-glue/balloon-claims.h"
#include "kvm-glue/balloon-hints.h"
#include "kvm-glue/machine.h"
#include "kvm-glue/pci.h"

struct virtio_balloon;

struct virtio_balloon_stats {
	bool ready; /* the driver has set DRIVER_OK */
	uint64_t target_pages;
	uint64_t actual_pages; /* distinct pages in the balloon, as we counted them */
	uint64_t claimed_pages; /* `actual` as the driver wrote it */
	uint64_t inflated_pages; /* since the start */
	uint64_t deflated_pages;
	uint64_t reported_pages;
	uint64_t discard_calls; /* discarding system calls, balloon and reporting */
	uint64_t discard_ranges; /* ranges handed to guest_ram_discard */
	uint64_t cpu_us; /* of the device's thread, on requests; without hints */
	uint64_t ignored_pages; /* not RAM, inflated twice, or deflated without being held */
	uint64_t poison_reports; /* pages reported and kept, since their poison is not zero */
	uint64_t needs_reset; /* times the guest broke a rule */
	struct virtio_balloon_claims claims;
	bool hints_negotiated; /* the driver can be asked for hints */
	struct balloon_hints_stats hints;
};

/*
 * A balloon in a slot of the bus, with its thread running. m and pci outlive it. An errno of what
 * it is made of.
 */
int virtio_balloon_new(
	struct machine *m, struct pci_bus *pci, unsigned slot, struct virtio_balloon **ret);
/* After vCPUs have stopped. Pages stay as they are. NULL is allowed. */
void virtio_balloon_free(struct virtio_balloon *b);
DEFINE_CLEANUP(struct virtio_balloon *, virtio_balloon_free)

/*
 * Pages of 4 KiB that the guest shall hold in its balloon; more than it has RAM counts as all.
 * Tells the driver.
 */
void virtio_balloon_set_target(struct virtio_balloon *b, uint64_t pages);
/*
 * Asks the driver for its statistics; they arrive later, if at all. Harmless before the driver is
 * ready.
 */
void virtio_balloon_request_claims(struct virtio_balloon *b);
/*
 * Asks the driver for all its free memory, which is then dropped; does nothing while that is under
 * way. -ENOTCONN: no driver. -EOPNOTSUPP: it knows no hints. What came of it is in the statistics.
 */
int virtio_balloon_request_hints(struct virtio_balloon *b);
void virtio_balloon_stats_read(struct virtio_balloon *b, struct virtio_balloon_stats *ret);
