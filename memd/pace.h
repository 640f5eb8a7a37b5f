/*
 * How much of one guest goes out ahead of need. Pure: time and figures come in.
 *
 * DOC: within a stall budget
 *
 * Senpai (Weiner et al., TMO, ASPLOS 2022) takes a little, looks at the pressure, and takes less the
 * nearer that is to its budget. So here: once a tick a part of what the guest has in memory, less
 * the part of its stall budget that is used up. Regions whose samples say that they are cold go
 * eight times as fast, since they are no probe: the samples were it. Stall over the budget ends it at
 * once, for 1 s, and for twice as long each time it happens again, up to 64 s; half of that is
 * forgiven each time a wait is over and the stall is under half of the budget.
 *
 * Swap on flash wears: what is written ahead of need is limited by a rate. What the host cannot do
 * without is not limited by any of this: that is wall.c's.
 */
#pragma once

#include <stdint.h>

struct pace {
	uint64_t again_us; /* not before */
	uint64_t wait_us; /* how long the last wait was; 0: none */
	uint64_t last_us;
	double credit_bytes; /* of the rate */
	uint64_t backoffs; /* since the start */
};

struct pace_in {
	uint64_t now_us;
	uint32_t stall_bp; /* some, over 10 s */
	uint32_t budget_bp;
	uint64_t resident_bytes;
	uint64_t rate_bytes; /* a second; 0: no limit */
};

struct pace_out {
	uint64_t cold_bytes; /* of regions rated cold */
	uint64_t other_bytes; /* of any others, instead */
};

void pace_decide(struct pace *p, const struct pace_in *in, struct pace_out *ret);
/* So much went out. */
void pace_spend(struct pace *p, uint64_t bytes);
