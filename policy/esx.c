/*
 * DOC: esx, shares with a tax on idle memory
 *
 * Waldspurger (OSDI 2002, 5.2) takes memory from the guest that pays least for it. A guest with S
 * shares and P bytes, of which the fraction f is in use, pays
 *     rho = S / (P * (f + k * (1 - f))),   k = 1 / (1 - tax)
 * so that with a tax of 75 % an idle byte costs as much as four that are used. Taking from the
 * lowest and giving to the highest ends when all pay the same, 1 / rho = L. With W = f * P, the
 * working set that memd sampled, that is
 *     P * f + k * P * (1 - f) = S * L
 *     P = S * L                    while S * L <= W: all of it is used
 *     P = W + (S * L - W) / k      above
 * which is a vessel with a knee (vessels.h): what is beyond the working set fills k times slower. So
 * the end of the auction is found at once, at any tick, from the figures alone, and the filters
 * decide how fast the guests move there.
 *
 * A part of the budget stays free, so that what guests grow between two ticks comes from there, not
 * from each other: as much as is free where the host state falls from high to soft (four sixths of
 * host_min_free_bytes: 4 % of a small budget, sliding to less than 1 % of a large one). All six
 * sixths were tried: more stall in every mix of the simulator, since what is kept free is missed.
 * While all guests at their most fit into the budget, none of this is needed.
 *
 *   IdleTax=75%   0 to 99.99 %; 0 is proportional, with free memory. IdleTax@web-*=25%
 *   MinFree=      of the budget, in place of the sliding part
 */
#include "memd/base/cleanup.h"
#include "policy/builtin-state.h"
#include "policy/builtin.h"
#include "policy/by-shares.h"
#include "policy/guest-view.h"
#include "policy/host-state.h"

#define ONE_BP	   10000
#define SLIDING_BP UINT32_MAX

enum { IDLE_TAX, MIN_FREE };

static const struct setting keys[] = {
	[IDLE_TAX] = {"IdleTax", SETTING_PERCENT, 7500, 0, ONE_BP - 1},
	[MIN_FREE] = {"MinFree", SETTING_PERCENT, SLIDING_BP, 0, ONE_BP / 2},
};

DEFINE_BUILTIN_STATE(keys, 0)

static uint32_t tax_of(void *context, const struct memd_guest_view *g)
{
	const struct builtin_state *x = context;
	uint64_t tax_bp = settings_get(&x->settings, IDLE_TAX, g->name);

	return (uint32_t)(ONE_BP * ONE_BP / (ONE_BP - tax_bp));
}

/* What stays free, unless everybody's most fits without. */
static uint64_t kept_free(const struct builtin_state *x, const struct memd_host_view *view)
{
	uint64_t bp = settings_get(&x->settings, MIN_FREE, NULL);
	unsigned __int128 max = 0;

	for (uint32_t i = 0; i < view->n_guests; i++)
		max += view_max(view->guests[i]);
	if (max <= view_available(view))
		return 0;
	if (bp == SLIDING_BP)
		return host_min_free_bytes(view->budget_bytes) / 6 * 4;
	return (uint64_t)((unsigned __int128)view->budget_bytes * bp / ONE_BP);
}

static int evaluate(
	void *state, const struct memd_host_view *view, struct memd_proposal *const *proposals)
{
	struct builtin_state *x = state;
	struct by_shares rule = {
		.available_bytes = u64_sub_or_zero(view_available(view), kept_free(x, view)),
		.tax_of = tax_of,
		.context = x,
	};

	return by_shares_propose(&rule, &x->vessels, view, proposals);
}

const struct memd_policy policy_esx = {
	.size = sizeof(policy_esx),
	.api_version = MEMD_POLICY_API_VERSION,
	.name = "esx",
	.description = "memory by shares, with a tax on what a guest has and does not use",
	.config = configure,
	.open = open_state,
	.evaluate = evaluate,
	.close = builtin_state_close,
};
