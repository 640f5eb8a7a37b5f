/* Groups of guests with a policy of their own; see groups.h. */
#include "policy/groups.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "memd/base/overflow.h"
#include "policy/guest-view.h"
#include "policy/policy-host.h"

struct group {
	char *name;
	struct open_policy open;
	struct policy_part part;
	unsigned __int128 proposed_bytes; /* by the host's policy, for all its guests */
	/* of its guests, in the order of the host's view; room for n_room */
	const struct memd_guest_view **views;
	struct memd_proposal **proposals;
};

struct policy_groups {
	size_t n;
	size_t n_room; /* guests */
	struct group groups[];
};

static int open_group(struct group *g, const struct policy_group_options *o,
	const struct memd_host_calls *calls, struct error *e)
{
	const struct memd_policy *policy = policy_find_builtin(o->policy);
	char section[128];

	g->name = strdup(o->name);
	if (!g->name)
		return -ENOMEM;
	if (!policy)
		return error_set(e, -EINVAL,
			"[Group %s]: Policy=%s: the policy of a group is one of those that come "
			"with memd: %s; any other can only decide for all guests (Policy= in "
			"[Host])",
			o->name, o->policy, policy_builtin_names());
	snprintf(section, sizeof(section), "Group %s", o->name);
	return policy_open(policy, section, o->settings, o->n_settings, calls, &g->open, e);
}

int policy_groups_new(const struct policy_group_options *options, size_t n,
	const struct memd_host_calls *calls, struct policy_groups **ret, struct error *e)
{
	_cleanup_(policy_groups_freep) struct policy_groups *g =
		calloc(1, sizeof(*g) + n * sizeof(g->groups[0]));

	if (!g)
		return -ENOMEM;
	while (g->n < n) {
		int r = open_group(&g->groups[g->n], &options[g->n], calls, e);

		g->n++; /* also the half-built one: it is freed with the others */
		if (r < 0)
			return r;
	}
	*ret = TAKE_PTR(g);
	return 0;
}

void policy_groups_free(struct policy_groups *g)
{
	if (!g)
		return;
	for (size_t i = 0; i < g->n; i++) {
		policy_close(&g->groups[i].open);
		free(g->groups[i].name);
		free(g->groups[i].views);
		free(g->groups[i].proposals);
	}
	free(g);
}

/* Each array by itself: a failure in between leaves some larger than n_room, which does no harm. */
static int make_room(struct policy_groups *g, size_t n)
{
	if (n <= g->n_room)
		return 0;
	for (size_t i = 0; i < g->n; i++)
		if (!GROW_ARRAY(g->groups[i].views, n) || !GROW_ARRAY(g->groups[i].proposals, n))
			return -ENOMEM;
	g->n_room = n;
	return 0;
}

static struct group *find(struct policy_groups *g, const char *name)
{
	for (size_t i = 0; name && i < g->n; i++)
		if (strcmp(g->groups[i].name, name) == 0)
			return &g->groups[i];
	return NULL;
}

/* Each guest to its group; returns what is proposed for all of them. */
static unsigned __int128 gather(struct policy_groups *g, const struct memd_host_view *view,
	const char *const *names, struct memd_proposal *const *proposals,
	const struct policy_part **parts)
{
	unsigned __int128 all = 0;

	for (size_t i = 0; i < g->n; i++) {
		struct group *group = &g->groups[i];

		group->part = (struct policy_part){
			.group = group->name, .policy = group->open.policy->name};
		group->proposed_bytes = 0;
	}
	for (uint32_t i = 0; i < view->n_guests; i++) {
		struct group *group = find(g, names[i]);
		/* a plugin may propose what it likes */
		uint64_t bytes = view_clamp(view->guests[i], proposals[i]->target_bytes);

		all += bytes;
		parts[i] = group ? &group->part : NULL;
		if (!group)
			continue;
		group->views[group->part.n_guests] = view->guests[i];
		group->proposals[group->part.n_guests++] = proposals[i];
		group->proposed_bytes += bytes;
	}
	return all;
}

static uint64_t part_of(uint64_t available_bytes, unsigned __int128 proposed, unsigned __int128 all)
{
	unsigned __int128 part = proposed;

	if (all < available_bytes && all > 0)
		part = (unsigned __int128)available_bytes * (uint64_t)proposed / (uint64_t)all;
	return part > UINT64_MAX ? UINT64_MAX : (uint64_t)part;
}

static int divide(struct group *group, const struct memd_host_view *host)
{
	struct memd_host_view view = {
		.size = sizeof(view),
		.now_us = host->now_us,
		.tick_us = host->tick_us,
		.budget_bytes = group->part.bytes,
		.state = host->state,
		.n_guests = group->part.n_guests,
		.guests = group->views,
	};

	for (uint32_t i = 0; i < view.n_guests; i++)
		view.used_bytes += group->views[i]->resident_bytes;
	return group->open.policy->evaluate(group->open.state, &view, group->proposals);
}

int policy_groups_divide(struct policy_groups *g, const struct memd_host_view *view,
	const char *const *names, struct memd_proposal *const *proposals,
	const struct policy_part **parts)
{
	unsigned __int128 all;
	int r = make_room(g, view->n_guests);

	if (r < 0)
		return r;
	all = gather(g, view, names, proposals, parts);
	for (size_t i = 0; r == 0 && i < g->n; i++) {
		struct group *group = &g->groups[i];

		group->part.bytes = part_of(view_available(view), group->proposed_bytes, all);
		r = divide(group, view);
	}
	return r;
}
