/* Memory by shares, with or without a tax on what is idle: what proportional and esx share. */
#pragma once

#include "memd/policy.h"
#include "policy/vessels.h"

struct by_shares {
	uint64_t available_bytes; /* for all targets together */
	/*
	 * What a byte that the guest does not use costs, in basis points of one that it uses: 10000
	 * for no tax. of: the i-th guest's; NULL: none is taxed.
	 */
	uint32_t (*tax_of)(void *context, const struct memd_guest_view *g);
	void *context;
};

/*
 * Proposes for all guests of view, each with its reason. vs: kept between ticks by the caller.
 * -ENOMEM.
 */
int by_shares_propose(const struct by_shares *rule, struct vessels *vs,
	const struct memd_host_view *view, struct memd_proposal *const *proposals);
