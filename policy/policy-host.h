/*
 * Runs a policy: hands it copies of the figures, takes its proposals with suspicion, and applies
 * the safety filters, which always come last and cannot be configured away (policy/filters.c).
 * Decides only: no clock, no file, no logging; time comes in the view.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "memd/base/cleanup.h"
#include "memd/base/error.h"
#include "memd/policy.h"
#include "policy/groups.h"
#include "policy/host-state.h"
#include "policy/open-policy.h"

/* The built-in policy of that name, or NULL. */
const struct memd_policy *policy_find_builtin(const char *name);
/* All of them, by number from 0; NULL after the last. */
const struct memd_policy *policy_builtin_at(size_t number);
/* "a, b, c", for messages. */
const char *policy_builtin_names(void);

struct policy_host;

/*
 * Configures and opens the policy. calls (may be NULL) and what it points to outlive the result.
 * -EINVAL: it is of another API version, or takes no such setting; else what the policy returned.
 * Free with policy_host_free, which closes the policy.
 */
int policy_host_new(const struct memd_policy *policy, const struct policy_setting *settings,
	size_t n_settings, const struct memd_host_calls *calls, struct policy_host **ret,
	struct error *e);
void policy_host_free(struct policy_host *h);
DEFINE_CLEANUP(struct policy_host *, policy_host_free)
/* Groups with a policy of their own, which outlive the host; NULL: none. */
void policy_host_set_groups(struct policy_host *h, struct policy_groups *groups);

struct policy_guest {
	struct memd_guest_view
		view; /* size is filled in here; target_bytes 0: a new guest, no target yet */
	uint64_t fixed_bytes; /* the operator's target, with MEMD_GUEST_TARGET_FIXED */
	const char *group; /* its policy is that group's, if there is one; NULL: the host's */
};

/* Which filter changed the target; several may have. */
enum policy_clamp {
	POLICY_CLAMP_IGNORED =
		1 << 0, /* the policy failed or proposed nothing usable: the present target stays */
	POLICY_CLAMP_FIXED = 1 << 1, /* the operator's target took the place of the proposal */
	POLICY_CLAMP_FLOOR = 1 << 2, /* raised to min_bytes */
	POLICY_CLAMP_CEILING = 1 << 3, /* lowered to max_bytes or the configured size */
	POLICY_CLAMP_STEP = 1 << 4, /* falls slower than proposed */
	POLICY_CLAMP_DEAD_BAND = 1 << 5, /* too small a change to act on */
	POLICY_CLAMP_ROOM = 1 << 6, /* a raise waits until others have given */
	POLICY_CLAMP_RATE = 1 << 7, /* all guests together give only so much at a time */
	POLICY_CLAMP_SETTLE = 1 << 8, /* it was raised a moment ago */
	POLICY_CLAMP_DISTRESS = 1 << 9, /* out of memory: may have its most */
};

/* With the NUL: what the group has, the policy's sentence, which filters acted. */
#define POLICY_GROUP_MAX  128
#define POLICY_CLAMPS_MAX 96
#define POLICY_REASON_MAX (POLICY_GROUP_MAX + MEMD_REASON_MAX + POLICY_CLAMPS_MAX)

struct policy_decision {
	uint64_t proposed_bytes; /* by the policy */
	uint64_t target_bytes; /* after the filters */
	uint32_t clamps; /* of enum policy_clamp */
	char reason[POLICY_REASON_MAX]; /* a sentence: see above */
};

#define POLICY_FAILED  1
#define POLICY_PENDING 2
/*
 * One tick. Of host everything is taken but size, guests and n_guests, which are built here from
 * guests[n] (ids ascending; names and groups live until the call returns). A guest with a fixed target is
 * shown to the policy with that as both its floor and its ceiling. Fills decisions[n].
 * 0; POLICY_FAILED when the policy returned an error (*e says which): present targets went through
 * the filters instead; POLICY_PENDING when it returned -EINPROGRESS, which only a policy of another
 * process does (memd/policy-child.h): ask again with the same figures when it has answered;
 * -ENOMEM, -EINVAL (ids not ascending). With the last three, decisions are untouched.
 */
int policy_host_evaluate(struct policy_host *h, const struct memd_host_view *host,
	const struct policy_guest *guests, size_t n, struct policy_decision *decisions,
	struct error *e);

/*
 * "floor, step" for a bit mask of enum policy_clamp, "" for 0. Writes at most size bytes, returns
 * buffer.
 */
char *policy_clamps_format(uint32_t clamps, char *buffer, size_t size);
