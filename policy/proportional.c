/*
 * DOC: proportional, memory by shares between floor and ceiling
 *
 * Available is the budget less what is no guest's. Each guest gets level * shares of it, but not less
 * than its floor and not more than its ceiling (Waldspurger's min, max and shares, as max-min
 * fairness by weight; by-shares.c says what the ceiling is). The simplest policy that is fair, and
 * the one that takes over when another fails.
 */
#include <errno.h>
#include <stdlib.h>

#include "policy/builtin.h"
#include "policy/by-shares.h"
#include "policy/guest-view.h"

static int open_state(const struct memd_host_calls *calls, void **ret_state)
{
	(void)calls;
	*ret_state = calloc(1, sizeof(struct vessels));
	return *ret_state ? 0 : -ENOMEM;
}

static int evaluate(
	void *state, const struct memd_host_view *view, struct memd_proposal *const *proposals)
{
	struct by_shares rule = {.available_bytes = view_available(view)};

	return by_shares_propose(&rule, state, view, proposals);
}

static void close_state(void *state)
{
	vessels_done(state);
	free(state);
}

const struct memd_policy policy_proportional = {
	.size = sizeof(policy_proportional),
	.api_version = MEMD_POLICY_API_VERSION,
	.name = "proportional",
	.description = "memory by shares, between each guest's floor and ceiling",
	.open = open_state,
	.evaluate = evaluate,
	.close = close_state,
};
