/*
 * DOC: static, the same whatever the guests do
 *
 * Each guest has its Target=, by default its MemoryMax=. When those do not all fit, each gives up the
 * same part of what it has above its floor. Nothing that a guest does changes its target, so that
 * nobody pays for a neighbour, and nobody gains from an idle one.
 *
 *   Target@NAME=512M   what the guests of that name (or pattern) are to have
 */
#include <errno.h>
#include <stdio.h>

#include "memd/base/units.h"
#include "memd/base/cleanup.h"
#include "policy/builtin-state.h"
#include "policy/builtin.h"
#include "policy/guest-view.h"

enum { TARGET };

static const struct setting keys[] = {
	[TARGET] = {"Target", SETTING_BYTES, UINT64_MAX, 0, UINT64_MAX},
};

DEFINE_BUILTIN_STATE(keys, 0)

static int evaluate(
	void *state, const struct memd_host_view *view, struct memd_proposal *const *proposals)
{
	struct builtin_state *f = state;
	uint64_t available_bytes = view_available(view);
	vessel_sum_t wanted_bytes;
	vessel_level_t level;

	if (vessels_reserve(&f->vessels, view->n_guests) < 0)
		return -ENOMEM;
	for (uint32_t i = 0; i < view->n_guests; i++) {
		const struct memd_guest_view *g = view->guests[i];
		uint64_t target = view_clamp(g, settings_get(&f->settings, TARGET, g->name));

		f->vessels.v[i] = (struct vessel){
			.base_bytes = view_min(g),
			.low_bytes = view_min(g),
			.high_bytes = target,
			.knee_bytes = VESSEL_NO_KNEE,
			.weight =
				u64_min((target - view_min(g)) / PAGE_BYTES + 1, VESSEL_WEIGHT_MAX),
			.tax_bp = VESSEL_NO_TAX_BP,
		};
	}
	wanted_bytes = vessels_high(&f->vessels, view->n_guests);
	level = vessels_level(&f->vessels, view->n_guests, available_bytes);
	for (uint32_t i = 0; i < view->n_guests; i++) {
		const struct vessel *v = &f->vessels.v[i];

		proposals[i]->target_bytes = vessel_amount(v, level);
		SAY(proposals[i], "fixed at %s, above a floor of %s; all guests' %s, %s available",
			UNITS_BYTES(v->high_bytes), UNITS_BYTES(v->low_bytes),
			UNITS_BYTES(vessel_sum_cut(wanted_bytes)), UNITS_BYTES(available_bytes));
	}
	return 0;
}

const struct memd_policy policy_static = {
	.size = sizeof(policy_static),
	.api_version = MEMD_POLICY_API_VERSION,
	.name = "static",
	.description = "fixed targets, whatever the guests do",
	.config = configure,
	.open = open_state,
	.evaluate = evaluate,
	.close = builtin_state_close,
};
