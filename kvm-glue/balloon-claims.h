/* What a guest's balloon driver says of its memory (virtio 1.2, 5.5.6.3 and 5.5.6.4). */
#pragma once

#include "kvm-glue/virtq.h"

/* What the guest said of itself; UINT64_MAX for what it did not say. A hint, never more. */
struct virtio_balloon_claims {
	uint64_t swap_in_bytes;
	uint64_t swap_out_bytes;
	uint64_t major_faults;
	uint64_t minor_faults;
	uint64_t free_bytes;
	uint64_t total_bytes;
	uint64_t available_bytes;
	uint64_t disk_caches_bytes;
	uint64_t time_us; /* CLOCK_MONOTONIC of the last report, 0 for none */
};

void balloon_claims_clear(struct virtio_balloon_claims *ret);
/*
 * Reads a buffer of statistics: entries in any order, unknown ones skipped. false: it holds none.
 * time_us is the caller's to set.
 */
bool balloon_claims_parse(const struct virtq_chain *c, struct virtio_balloon_claims *ret);
