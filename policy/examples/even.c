/* A policy in 30 lines: all guests get the same, within what each may have. See memd-policy(3).
 * cc -shared -fPIC -o even.so even.c; then, as root, into memd's directory of policies: Policy=even */
#include <inttypes.h>
#include <memd/policy.h>
#include <stdio.h>

static int evaluate(
	void *state, const struct memd_host_view *host, struct memd_proposal *const *proposals)
{
	uint64_t available = host->budget_bytes > host->overhead_bytes
				     ? host->budget_bytes - host->overhead_bytes : 0;

	(void)state;
	for (uint32_t i = 0; i < host->n_guests; i++) {
		const struct memd_guest_view *g = host->guests[i];
		uint64_t part = available / host->n_guests;
		uint64_t most = g->max_bytes < g->configured_bytes ? g->max_bytes : g->configured_bytes;
		uint64_t target = part < g->min_bytes ? g->min_bytes : part;

		proposals[i]->target_bytes = target > most ? most : target;
		snprintf(proposals[i]->reason, sizeof(proposals[i]->reason),
			"an even part of %" PRIu64 " MiB for %" PRIu32 " guests", available >> 20, host->n_guests);
	}
	return 0;
}

const struct memd_policy *memd_policy_get(void)
{
	static const struct memd_policy policy = {.size = sizeof(policy), .api_version = MEMD_POLICY_API_VERSION,
		.name = "even", .description = "the same for every guest", .evaluate = evaluate};
	return &policy;
}
