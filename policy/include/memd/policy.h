/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The policy interface of memd: what a reclamation policy sees and may propose. Strict C11,
 * includes nothing of memd.
 *
 * Rules of the ABI: structs begin with their size and only grow at the end; whoever reads takes the
 * smaller of its own and the given size; views are arrays of pointers, so that an element may grow.
 * All sizes are in bytes, times in microseconds, fractions in basis points (1/10000). A policy
 * proposes; safety filters of memd come after it, always.
 */
#ifndef MEMD_POLICY_H
#define MEMD_POLICY_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define MEMD_POLICY_API_VERSION 1
#define MEMD_REASON_MAX 160 /* with the NUL */

enum memd_host_state {
	MEMD_HOST_HIGH = 0, /* plenty */
	MEMD_HOST_SOFT = 1,
	MEMD_HOST_HARD = 2,
	MEMD_HOST_LOW = 3
};

/* memd_guest_view.flags */
#define MEMD_GUEST_BALLOON_READY (UINT32_C(1) << 0)
#define MEMD_GUEST_CAN_PAGE      (UINT32_C(1) << 1)
#define MEMD_GUEST_CLAIMS_VALID  (UINT32_C(1) << 2) /* claimed_* were refreshed this tick */
#define MEMD_GUEST_PAUSED        (UINT32_C(1) << 3)
#define MEMD_GUEST_TARGET_FIXED  (UINT32_C(1) << 4) /* by the operator: proposals are ignored */
#define MEMD_GUEST_WORKING_SET_VALID (UINT32_C(1) << 5) /* working_set_* hold an estimate */
#define MEMD_GUEST_DISTRESS      (UINT32_C(1) << 6) /* ran out of memory: gets its balloon back */
#define MEMD_GUEST_HAS_AGENT     (UINT32_C(1) << 8) /* a program in it that speaks for it */
#define MEMD_GUEST_DISTRUSTED    (UINT32_C(1) << 7) /* its claims contradict what was sampled */

struct memd_guest_view {
	size_t size;
	const char *name;
	uint64_t id;               /* stable for the life of the guest */
	uint32_t flags;
	uint32_t shares;           /* relative weight, 1..1000000 */
	uint64_t configured_bytes; /* RAM the guest was booted with */
	uint64_t min_bytes;        /* floor */
	uint64_t max_bytes;        /* never more than this */
	uint64_t target_bytes;     /* what was decided in the last tick */
	uint64_t resident_bytes;   /* it costs now: private, its part of shared pages, overhead */
	uint64_t swapped_bytes;
	uint64_t saved_sharing_bytes; /* its RAM that costs nothing: others hold the same page */
	uint64_t hole_bytes;       /* without a page: untouched, zero, ballooned, reported */
	uint64_t balloon_bytes;
	uint64_t refault_bytes;    /* came back from swap since the last tick */
	uint64_t claimed_available_bytes; /* the guest says; a hint */
	/*
	 * What of its RAM the guest has touched within the last 15 s of its time, as sampled from
	 * outside. Plan with the first: it is the slow average, and rises at once with the fast
	 * one.
	 */
	uint64_t working_set_bytes;
	uint64_t working_set_slow_bytes;
	uint64_t working_set_fast_bytes;
	uint64_t working_set_error_bytes; /* working_set_bytes is right to this, at 3 sigma */
	/* Time in which some vCPU, or all of them, waited for memory: averages over 10 and 60 s. */
	uint32_t stall_some_10_bp;
	uint32_t stall_some_60_bp;
	uint32_t stall_full_10_bp;
	uint32_t stall_full_60_bp;
	uint64_t critical_bytes;   /* with less it was seen to thrash; 0: not seen */
	uint64_t claimed_floor_bytes; /* its agent says it needs this; min..max; a hint; 0: not said */
};

struct memd_host_view {
	size_t size;
	uint64_t now_us;           /* monotonic */
	uint64_t tick_us;          /* since the last evaluation */
	uint64_t budget_bytes;
	uint64_t used_bytes;       /* everything: guests, pools, RAM of swap, memd itself */
	uint64_t pool_bytes;
	uint64_t swap_occupied_bytes;
	/*
	 * Of used, what is in no guest's resident_bytes: memd, memd-pool, pool pages that nobody
	 * maps, swap_occupied_bytes.
	 */
	uint64_t overhead_bytes;
	uint32_t state;            /* enum memd_host_state */
	uint32_t n_guests;
	const struct memd_guest_view *const *guests; /* n_guests, by id, ascending */
};

/*
 * One for each guest, same order as the view. memd fills size and target_bytes (the present target)
 * beforehand.
 */
struct memd_proposal {
	size_t size;
	uint64_t target_bytes;
	char reason[MEMD_REASON_MAX]; /* a sentence with the numbers that decided */
};

/* Calls into memd; may be called from any policy function. */
struct memd_host_calls {
	size_t size;
	void (*log)(void *host, int level, const char *line); /* levels of syslog(3) */
	void *host;
};

struct memd_policy {
	size_t size;
	uint32_t api_version;     /* MEMD_POLICY_API_VERSION */
	uint32_t flags;           /* 0 */
	const char *name;         /* [a-z0-9-]+ */
	const char *description;
	/*
	 * Key=value of the section [Policy NAME], before open. 0, or negative errno after saying
	 * why by log. NULL: takes no keys.
	 */
	int (*config)(const struct memd_host_calls *calls, const char *key, const char *value);
	/* All keys are seen. May be NULL. */
	int (*config_complete)(const struct memd_host_calls *calls);
	/* *ret_state is handed to evaluate and close. May be NULL. */
	int (*open)(const struct memd_host_calls *calls, void **ret_state);
	/*
	 * 0, or negative errno: this tick's proposals are ignored. Must not block, read a clock or
	 * keep pointers.
	 */
	int (*evaluate)(void *state, const struct memd_host_view *view,
		struct memd_proposal *const *proposals);
	void (*close)(void *state);
};

/* A plugin exports this symbol. */
const struct memd_policy *memd_policy_get(void);

#ifdef __cplusplus
}
#endif
#endif
