/*
 * A policy that was configured and opened: what the caller of one that decides for the host
 * (policy-host.h) and of one that decides for a group (groups.h) have in common.
 */
#pragma once

#include <stddef.h>

#include "memd/base/error.h"
#include "memd/policy.h"

/* Key=value of the section [Policy NAME]. */
struct policy_setting {
	const char *key;
	const char *value;
};

struct open_policy {
	const struct memd_policy *policy;
	struct memd_host_calls calls;
	void *state; /* the policy's */
};

/*
 * Configures and opens it. section: where its settings stand, for messages. calls (may be NULL) and
 * what they point to outlive *ret, which does not move (the policy has its calls). Negative errno
 * with *e: what the policy said or returned, -EINVAL: it takes no settings; *ret is not to be
 * closed then.
 */
int policy_open(const struct memd_policy *policy, const char *section,
	const struct policy_setting *settings, size_t n_settings,
	const struct memd_host_calls *calls, struct open_policy *ret, struct error *e);
/* Closes the policy. A cleared one is allowed. */
void policy_close(struct open_policy *p);
