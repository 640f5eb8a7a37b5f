/*
 * A plugin as it was written for version 1 of the interface, with the header of that day (memd/policy.h
 * beside this file; neither is ever changed). It must be built and decide as it did for as long as
 * there is version 1. It uses every part: settings, log, state, every field of both views.
 */
#include <inttypes.h>
#include <memd/policy.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t percent = 100;
static int n_settings;

static int config(const struct memd_host_calls *calls, const char *key, const char *value)
{
	if (strcmp(key, "Percent") != 0) {
		calls->log(calls->host, 3, "there is only Percent=");
		return -22;
	}
	percent = strtoull(value, NULL, 10);
	n_settings++;
	return 0;
}

static int config_complete(const struct memd_host_calls *calls)
{
	if (percent <= 100)
		return 0;
	calls->log(calls->host, 3, "Percent= is at most 100");
	return -34;
}

static int open_policy(const struct memd_host_calls *calls, void **ret_state)
{
	*ret_state = calloc(1, sizeof(unsigned));
	calls->log(calls->host, 6, "open");
	return *ret_state ? 0 : -12;
}

/* Every field, so that one that moves is noticed. */
static uint64_t sum_of(const struct memd_guest_view *g)
{
	return g->id + g->flags + g->shares + g->configured_bytes + g->min_bytes + g->max_bytes +
	       g->target_bytes + g->resident_bytes + g->swapped_bytes + g->saved_sharing_bytes +
	       g->hole_bytes + g->balloon_bytes + g->refault_bytes + g->claimed_available_bytes;
}

static int evaluate(
	void *state, const struct memd_host_view *host, struct memd_proposal *const *proposals)
{
	unsigned *tick = state;
	uint64_t host_sum = host->now_us + host->tick_us + host->budget_bytes + host->used_bytes +
			    host->pool_bytes + host->swap_occupied_bytes + host->overhead_bytes +
			    host->state + host->n_guests;

	++*tick;
	if (host->size < sizeof(*host))
		return -71;
	for (uint32_t i = 0; i < host->n_guests; i++) {
		const struct memd_guest_view *g = host->guests[i];

		if (g->size < sizeof(*g) || proposals[i]->size < sizeof(*proposals[i]))
			return -71;
		proposals[i]->target_bytes = g->configured_bytes / 100 * percent;
		snprintf(proposals[i]->reason, sizeof(proposals[i]->reason),
			"tick %u, %s: %" PRIu64 " and %" PRIu64, *tick, g->name, sum_of(g), host_sum);
	}
	return 0;
}

static void close_policy(void *state)
{
	free(state);
}

static const struct memd_policy policy = {
	.size = sizeof(policy),
	.api_version = MEMD_POLICY_API_VERSION,
	.name = "old",
	.description = "a plugin of the first day",
	.config = config,
	.config_complete = config_complete,
	.open = open_policy,
	.evaluate = evaluate,
	.close = close_policy,
};

const struct memd_policy *memd_policy_get(void)
{
	return &policy;
}
