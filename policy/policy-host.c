/*
 * The caller of policies. What a policy sees are copies, made anew each tick; what it proposes is
 * only ever a number and a text, both cut to what they may be. The filters work on memd's own
 * figures.
 */
#include "policy/policy-host.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "memd/base/overflow.h"
#include "memd/base/text.h"
#include "memd/base/units.h"
#include "policy/builtin.h"
#include "policy/by-guest.h"
#include "policy/filters.h"

struct policy_host {
	struct open_policy open;
	struct policy_groups *groups; /* the caller's; NULL */
	/* room for one tick, of n_room guests; kept, so that a tick needs no memory */
	size_t n_room;
	struct memd_guest_view *views;
	const struct memd_guest_view **view_list;
	struct memd_proposal *proposals;
	struct memd_proposal **proposal_list;
	const char **group_names;
	const struct policy_part **parts;
	struct filter_guest *filtered;
	struct by_guest memories; /* the filters': struct filter_memory */
};

static const struct memd_policy *const builtin[] = {
	&policy_esx,
	&policy_proportional,
	&policy_pressure,
	&policy_balanced,
	&policy_static,
};

const struct memd_policy *policy_find_builtin(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(builtin); i++)
		if (strcmp(builtin[i]->name, name) == 0)
			return builtin[i];
	return NULL;
}

const struct memd_policy *policy_builtin_at(size_t number)
{
	return number < ARRAY_SIZE(builtin) ? builtin[number] : NULL;
}

const char *policy_builtin_names(void)
{
	return "esx, proportional, pressure, balanced, static";
}

int policy_host_new(const struct memd_policy *policy, const struct policy_setting *settings,
	size_t n_settings, const struct memd_host_calls *calls, struct policy_host **ret,
	struct error *e)
{
	_cleanup_(policy_host_freep) struct policy_host *h = NULL;
	char section[64];
	int r;

	if (policy->size < sizeof(*policy) || policy->api_version != MEMD_POLICY_API_VERSION ||
		!policy->name || !policy->evaluate)
		return error_set(e, -EINVAL, "the policy is not of interface version %d",
			MEMD_POLICY_API_VERSION);
	h = calloc(1, sizeof(*h));
	if (!h)
		return -ENOMEM;
	h->memories.record_bytes = sizeof(struct filter_memory);
	snprintf(section, sizeof(section), "Policy %s", policy->name);
	r = policy_open(policy, section, settings, n_settings, calls, &h->open, e);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(h);
	return 0;
}

void policy_host_free(struct policy_host *h)
{
	if (!h)
		return;
	policy_close(&h->open);
	free(h->views);
	free(h->view_list);
	free(h->proposals);
	free(h->proposal_list);
	free(h->group_names);
	free(h->parts);
	free(h->filtered);
	by_guest_done(&h->memories);
	free(h);
}

void policy_host_set_groups(struct policy_host *h, struct policy_groups *groups)
{
	h->groups = groups;
}

/* Each array by itself: a failure in between leaves some larger than n_room, which does no harm. */
static int make_room(struct policy_host *h, size_t n)
{
	if (n <= h->n_room)
		return 0;
	if (!GROW_ARRAY(h->views, n) || !GROW_ARRAY(h->view_list, n) ||
		!GROW_ARRAY(h->proposals, n) || !GROW_ARRAY(h->proposal_list, n) ||
		!GROW_ARRAY(h->group_names, n) || !GROW_ARRAY(h->parts, n) ||
		!GROW_ARRAY(h->filtered, n))
		return -ENOMEM;
	h->n_room = n;
	return 0;
}

/* The operator's target, as far as floor and ceiling let it. */
static uint64_t fixed_of(const struct policy_guest *g)
{
	uint64_t ceiling = u64_min(g->view.max_bytes, g->view.configured_bytes);

	return u64_max(u64_min(g->fixed_bytes, ceiling), u64_min(g->view.min_bytes, ceiling));
}

static void build_view(struct policy_host *h, const struct policy_guest *g, size_t i)
{
	struct memd_guest_view *view = &h->views[i];

	*view = g->view;
	view->size = sizeof(*view);
	if (g->view.flags & MEMD_GUEST_TARGET_FIXED) {
		view->min_bytes = fixed_of(g);
		view->max_bytes = fixed_of(g);
	}
	h->view_list[i] = view;
	h->proposals[i] = (struct memd_proposal){
		.size = sizeof(h->proposals[i]),
		.target_bytes = g->view.target_bytes,
	};
	h->proposal_list[i] = &h->proposals[i];
	h->group_names[i] = g->group;
	h->parts[i] = NULL;
}

/*
 * In the place of what a failed policy left behind: the present target; of a new guest, its most.
 */
static void propose_present(const struct policy_guest *g, struct memd_proposal *p)
{
	p->target_bytes = g->view.target_bytes ? g->view.target_bytes : g->view.max_bytes;
	snprintf(p->reason, sizeof(p->reason), "the policy failed");
}

static void build_filtered(struct policy_host *h, const struct policy_guest *g, size_t i)
{
	h->filtered[i] = (struct filter_guest){
		.shares = g->view.shares,
		.configured_bytes = g->view.configured_bytes,
		.min_bytes = g->view.min_bytes,
		.max_bytes = g->view.max_bytes,
		.critical_bytes = u64_max(g->view.critical_bytes, g->view.claimed_floor_bytes),
		.previous_bytes = g->view.target_bytes,
		.resident_bytes = g->view.resident_bytes,
		.fixed_bytes = g->fixed_bytes,
		.fixed = g->view.flags & MEMD_GUEST_TARGET_FIXED,
		.distress = g->view.flags & MEMD_GUEST_DISTRESS,
		.target_bytes = h->proposals[i].target_bytes,
	};
}

/* "group db has 512 MiB for 3 guests, by pressure: ", "" for a guest in none. */
static void say_part(const struct policy_part *part, char *ret, size_t size)
{
	ret[0] = '\0';
	if (part)
		snprintf(ret, size, "group %s has %s for %u guest%s, by %s: ", part->group,
			UNITS_BYTES(part->bytes), (unsigned)part->n_guests,
			part->n_guests == 1 ? "" : "s", part->policy);
}

static void decide(struct policy_host *h, size_t i, struct policy_decision *ret)
{
	const struct filter_guest *f = &h->filtered[i];
	struct memd_proposal *p = &h->proposals[i];
	char clamps[POLICY_CLAMPS_MAX - sizeof(" ()")], part[POLICY_GROUP_MAX];

	say_part(h->parts[i], part, sizeof(part));
	p->reason[sizeof(p->reason) - 1] = '\0'; /* it goes on the bus */
	text_clean(p->reason);
	policy_clamps_format(f->clamps, clamps, sizeof(clamps));
	ret->proposed_bytes = p->target_bytes;
	ret->target_bytes = f->target_bytes;
	ret->clamps = f->clamps;
	snprintf(ret->reason, sizeof(ret->reason), "%s%s%s%s%s", part,
		p->reason[0] ? p->reason : "no reason given", clamps[0] ? " (" : "", clamps,
		clamps[0] ? ")" : "");
}

static uint64_t id_of(const void *guests, size_t i)
{
	const struct policy_guest *g = guests;

	return g[i].view.id;
}

static bool ids_ascend(const struct policy_guest *guests, size_t n)
{
	for (size_t i = 1; i < n; i++)
		if (guests[i].view.id <= guests[i - 1].view.id)
			return false;
	return true;
}

/* Asks the policy, then those of the groups; what it returned. */
static int propose(struct policy_host *h, const struct memd_host_view *host,
	const struct policy_guest *guests, size_t n)
{
	struct memd_host_view view = *host;
	int r;

	for (size_t i = 0; i < n; i++)
		build_view(h, &guests[i], i);
	view.size = sizeof(view);
	view.n_guests = (uint32_t)n;
	view.guests = h->view_list;
	r = h->open.policy->evaluate(h->open.state, &view, h->proposal_list);
	if (r < 0 || !h->groups)
		return r;
	return policy_groups_divide(
		h->groups, &view, h->group_names, h->proposal_list, h->parts);
}

int policy_host_evaluate(struct policy_host *h, const struct memd_host_view *host,
	const struct policy_guest *guests, size_t n, struct policy_decision *decisions,
	struct error *e)
{
	struct filter_host limits = {
		.now_us = host->now_us,
		.tick_us = host->tick_us,
		.budget_bytes = host->budget_bytes,
		.available_bytes = u64_sub_or_zero(host->budget_bytes, host->overhead_bytes),
		.urgent = host->state >= MEMD_HOST_HARD,
	};
	struct filter_memory *memories;
	int r, failed;

	if (n > UINT32_MAX || !ids_ascend(guests, n))
		return error_set(e, -EINVAL, "guests are not in the order of their ids");
	r = make_room(h, n);
	if (r < 0)
		return r;
	memories = by_guest_match(&h->memories, n, id_of, guests);
	if (!memories && n > 0)
		return -ENOMEM;
	failed = propose(h, host, guests, n);
	if (failed == -EINPROGRESS)
		return POLICY_PENDING;
	for (size_t i = 0; i < n; i++) {
		if (failed < 0)
			propose_present(&guests[i], &h->proposals[i]);
		build_filtered(h, &guests[i], i);
		if (failed < 0)
			h->filtered[i].clamps = POLICY_CLAMP_IGNORED;
	}
	filters_apply(h->filtered, memories, n, &limits);
	for (size_t i = 0; i < n; i++)
		decide(h, i, &decisions[i]);
	if (failed < 0) {
		error_set(
			e, failed, "the policy %s failed: %s", h->open.policy->name, strerror(-failed));
		return POLICY_FAILED;
	}
	return 0;
}

char *policy_clamps_format(uint32_t clamps, char *buffer, size_t size)
{
	static const struct {
		uint32_t clamp;
		const char *name;
	} names[] = {
		{POLICY_CLAMP_IGNORED, "proposal ignored"},
		{POLICY_CLAMP_FIXED, "set by the operator"},
		{POLICY_CLAMP_FLOOR, "floor"},
		{POLICY_CLAMP_CEILING, "ceiling"},
		{POLICY_CLAMP_STEP, "step"},
		{POLICY_CLAMP_DEAD_BAND, "dead band"},
		{POLICY_CLAMP_ROOM, "waits for room"},
		{POLICY_CLAMP_RATE, "rate"},
		{POLICY_CLAMP_SETTLE, "settles"},
		{POLICY_CLAMP_DISTRESS, "distress"},
	};
	size_t used = 0;

	buffer[0] = '\0';
	for (size_t i = 0; i < ARRAY_SIZE(names) && used < size; i++)
		if (clamps & names[i].clamp)
			used += (size_t)snprintf(buffer + used, size - used, "%s%s",
				used ? ", " : "", names[i].name);
	return buffer;
}
