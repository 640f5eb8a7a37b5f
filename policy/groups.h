/*
 * Groups of guests with a policy of their own. Decides only, like policy-host.h, which calls it.
 *
 * DOC: two levels
 *
 * The policy of the host proposes for all guests, also for those in groups. What it proposes for the
 * guests of a group together, and as much more as is left of the memory for that, is the group's part;
 * the group's policy divides it among them, as if they were all the guests of a smaller host. So
 * groups need no weights of their own: a group counts as much as its guests' shares, floors and
 * needs, a guest that joins brings its part along, and the targets of all guests add up to no more
 * than they would without groups. What the group's policy leaves over stays free.
 *
 *     part = available * (proposed for the group) / (proposed for all)
 *
 * The filters come after that, over all guests, as always. The policies of groups are built in: they
 * answer at once and cannot fail, so that a tick has one policy to wait for at most.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "memd/base/cleanup.h"
#include "memd/base/error.h"
#include "memd/policy.h"
#include "policy/open-policy.h"

/* [Group NAME] */
struct policy_group_options {
	const char *name;
	const char *policy;
	const struct policy_setting *settings; /* of [Policy POLICY], then of [Group NAME] */
	size_t n_settings;
};

struct policy_groups;

/*
 * Opens a policy for each group. calls as of policy_host_new. -EINVAL: there is no such built-in
 * policy; what a policy says to its settings; -ENOMEM. Names are copied.
 */
int policy_groups_new(const struct policy_group_options *options, size_t n,
	const struct memd_host_calls *calls, struct policy_groups **ret, struct error *e);
void policy_groups_free(struct policy_groups *g);
DEFINE_CLEANUP(struct policy_groups *, policy_groups_free)

/* What a group had to divide in this tick. */
struct policy_part {
	const char *group;
	const char *policy;
	uint64_t bytes;
	uint32_t n_guests;
};

/*
 * Replaces the host policy's proposals for guests in groups by those of the groups' policies. names:
 * the group of each guest of the view, NULL for none; one without a section stays with the host's
 * policy. parts[i]: of the i-th guest's group, until the next call; NULL. -ENOMEM: the proposals are
 * not to be used.
 */
int policy_groups_divide(struct policy_groups *g, const struct memd_host_view *view,
	const char *const *names, struct memd_proposal *const *proposals,
	const struct policy_part **parts);
