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
	uint64_t last_actual_bytes;
	uint64_t moved_us; /* when actual last changed: claims from before say nothing */
	uint64_t quiet_until_us; /* after distress, or while stuck; 0: neither */
	bool stuck;
	bool distress;
};

struct balloon_in {
	uint64_t now_us;
	bool wanted; /* by the host (balloon_host_decide), or the operator fixed the target */
	bool ready; /* the driver has started */
	uint64_t configured_bytes;
	uint64_t target_bytes; /* of the guest */
	uint64_t overhead_bytes;
	uint64_t saved_sharing_bytes;
	uint64_t hole_zero_bytes;
	uint32_t max_bp;
	uint64_t actual_bytes;
	uint64_t available_bytes; /* claimed; UINT64_MAX: not said */
	uint64_t claimed_us; /* when */
	bool distress; /* its agent cried */
	bool asked; /* its agent consents to no more than consent_bytes */
	uint64_t consent_bytes;
	bool faulting; /* claimed major faults rose since the last tick */
};

enum balloon_host_state {
	BALLOON_HOST_PLENTY,
	BALLOON_HOST_SHORT,
};

/* Whether the host wants balloons at all; kept between ticks. Zero it. */
struct balloon_host {
	bool wanted;
	uint64_t plenty_since_us; /* 0: there is not plenty */
};
#define BALLOON_PLENTY_US UINT64_C(10000000)
/*
 * Wanted as soon as the host is short; no more when it was not for BALLOON_PLENTY_US
 * and all that balloons hold (held_bytes) could come back without using more than 9/10 of the
 * budget: else giving back would be followed by taking again.
 */
bool balloon_host_decide(struct balloon_host *h, enum balloon_host_state state, uint64_t now_us,
	uint64_t used_bytes, uint64_t held_bytes, uint64_t budget_bytes);

/* What the balloon should have by target and claims, a multiple of 4 KiB: before anybody consented. */
uint64_t balloon_wanted_bytes(const struct balloon_in *in);
/* The new balloon target in bytes, a multiple of 4 KiB. */
uint64_t balloon_decide(struct balloon *b, const struct balloon_in *in);
