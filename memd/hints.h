/*
 * When a guest is asked for its free memory (free page hinting). Pure: time and figures come in, a
 * decision goes out.
 *
 * DOC: what it costs to ask
 *
 * To ask costs the guest a fault for each page that it writes meanwhile, since writes are logged,
 * and its allocator some work. So a guest is asked when its memory is wanted and what it says to
 * have free is more than what has no memory anyway: by HINTS_WORTH_PART of its memory. It is a
 * claim: a guest that lies is asked for nothing at most every HINTS_AGAIN_US, and each time that
 * brings less than that part doubles the time, up to HINTS_AGAIN_MAX_US.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define HINTS_WORTH_PART   64
#define HINTS_WORTH_MIN	   (UINT64_C(8) << 20)
#define HINTS_AGAIN_US	   UINT64_C(5000000)
#define HINTS_AGAIN_MAX_US UINT64_C(160000000)

/* What is kept from one tick to the next. Zero it. */
struct hints {
	uint64_t asked_us; /* 0: never */
	uint64_t again_us; /* not before so much later */
	uint64_t dropped_bytes; /* when it was asked, in all runs so far */
	uint64_t runs; /* that had ended then */
	bool waiting; /* for the end of that run */
};

struct hints_in {
	uint64_t now_us;
	bool possible; /* the driver can be asked */
	bool wanted; /* the host is short, or the guest costs more than its target */
	uint64_t configured_bytes;
	uint64_t free_bytes; /* claimed; UINT64_MAX: not said */
	uint64_t hole_bytes; /* untouched, reported, hinted: may be what is free */
	uint64_t runs; /* as memd-vmm counts them */
	uint64_t dropped_bytes;
};

/* Whether to ask now; then it counts as asked. */
bool hints_decide(struct hints *h, const struct hints_in *in);
