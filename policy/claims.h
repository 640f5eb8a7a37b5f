/*
 * Whether a guest can be believed: what it claims, against what the host knows. Pure.
 *
 * DOC: what a lie can get
 *
 * Claims are hints. A guest that claims more available memory than it has gets a larger balloon, and
 * harms only itself. One that claims less keeps memory that others need, and so does one that claims
 * to be out of memory, or whose balloon does not move. What the host knows for certain is how much
 * memory a guest cannot be using: pages that it never touched or has reported free are not there at
 * all. And it has sampled how much the guest does touch.
 *
 *   impossible   available is more than the memory the balloon has left it
 *   too little   available is less than half of what the host knows to be free
 *
 * A guest that contradicts what is known in CLAIMS_STRIKES fresh claims, one after the other, is not
 * believed until its claims have been sound for CLAIMS_FORGIVE_US; nor is one whose balloon is stuck.
 * Of such a guest memory is had by the host's paging alone, at once. That a claim of distress is
 * false cannot be known (memory can be cold and needed), so the balloon is always emptied; but the
 * target is raised for it only if the guest is seen to use most of what it has, or to wait.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define CLAIMS_STRIKES	  3
#define CLAIMS_FORGIVE_US UINT64_C(60000000)

/* Kept between ticks. Zero it. */
struct claims {
	uint32_t strikes; /* contradictions in a row */
	uint64_t struck_us; /* the last */
	bool distrusted;
};

struct claims_in {
	uint64_t now_us;
	bool fresh; /* the guest has claimed anew since the last call */
	bool balloon_stuck;
	uint64_t configured_bytes;
	uint64_t balloon_bytes;
	uint64_t available_bytes; /* claimed */
	uint64_t absent_bytes; /* never touched, or reported free: certainly not in use */
};

enum claims_verdict {
	CLAIMS_SOUND,
	CLAIMS_IMPOSSIBLE,
	CLAIMS_TOO_LITTLE,
	CLAIMS_STUCK,
};
/* "claims to have ... ", for a log line; "" for CLAIMS_SOUND. */
const char *claims_verdict_text(enum claims_verdict v);

/* Sets c->distrusted, and says what the present figures are. */
enum claims_verdict claims_check(struct claims *c, const struct claims_in *in);

/*
 * Whether distress is supported by what the host sampled: the guest touches at least half of what it
 * holds, or waits for memory 1 % of the time, or has not been sampled yet.
 */
bool claims_distress_is_seen(
	bool sampled, uint64_t working_set_bytes, uint64_t held_bytes, uint32_t stall_some_bp);
