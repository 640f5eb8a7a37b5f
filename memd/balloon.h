/*
 * How large a guest's balloon shall be. Pure: time and figures come in, a number of bytes goes out.
 *
 * DOC: from target to balloon
 *
 * A target is what a guest may cost the host. The guest may use that, and what costs nothing
 * besides: pages that others hold too, and zeros that were dropped. So the balloon takes
 *     configured - (target - overhead) - saved_sharing - zero holes
 * and never more than BalloonMax= of the configured memory, nor more than what the guest says it
 * can spare (a hint: a guest that lies keeps its memory for itself, and is paged out by the host
 * instead). A guest that runs out of memory while it holds a balloon gets all of it back at once
 * and is left alone for a while. A driver that makes no progress is not asked for more: what it has
 * stays, and paging carries the rest.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/*
 * Waldspurger 2002 and the balloons of today (anchors): without progress for 5 s a driver is stuck.
 */
#define BALLOON_STUCK_US  UINT64_C(5000000)
#define BALLOON_RETRY_US  UINT64_C(30000000) /* then it is asked again */
#define BALLOON_SETTLE_US UINT64_C(30000000) /* after distress */

/* What is kept from one tick to the next. Zero it. */
struct balloon {
	uint64_t target_bytes;
	uint64_t best_bytes; /* the most it held since it was last noted to move */
	uint64_t progress_us; /* when that was */
	uint64_t quiet_until_us; /* after distress, or while stuck; 0: neither */
	bool stuck;
	bool distress;
};

struct balloon_in {
	uint64_t now_us;
	bool wanted; /* the host is short, or the operator fixed the target */
	bool ready; /* the driver has started */
	uint64_t configured_bytes;
	uint64_t target_bytes; /* of the guest */
	uint64_t overhead_bytes;
	uint64_t saved_sharing_bytes;
	uint64_t hole_zero_bytes;
	uint32_t max_bp;
	uint64_t actual_bytes;
	uint64_t available_bytes; /* claimed; UINT64_MAX: not said */
	bool faulting; /* claimed major faults rose since the last tick */
};

/* The new balloon target in bytes, a multiple of 4 KiB. */
uint64_t balloon_decide(struct balloon *b, const struct balloon_in *in);
