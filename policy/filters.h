/*
 * The safety filters: what every proposal goes through, whoever made it. In this order, always all
 * of them; there is no switch. They see figures that memd measured; of what a guest claims only the
 * floor of its agent, which can get it no more than its shares entitle it to.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "policy/policy-host.h"

/* A target may fall by so much of the configured size in a second (MOM, Proxmox: 5 % a tick). */
#define FILTER_STEP_BP_PER_S 500
/* All guests together may be made to give so much of the budget in a second. */
#define FILTER_RATE_BP_PER_S 1000
/* A target that was raised does not fall for so long. */
#define FILTER_SETTLE_US     UINT64_C(10000000)

struct filter_host {
	uint64_t now_us;
	uint64_t tick_us; /* since the last tick */
	uint64_t budget_bytes;
	uint64_t available_bytes; /* what the targets may add up to */
	bool urgent; /* the host is short: rate and settle time do not count */
};

/* What is remembered of a guest. Zero it. */
struct filter_memory {
	uint64_t id; /* by-guest.h */
	uint64_t raised_us; /* when its target last rose; 0: never */
};

struct filter_guest {
	uint32_t shares;
	uint64_t configured_bytes;
	uint64_t min_bytes;
	uint64_t max_bytes;
	uint64_t critical_bytes; /* with less it was seen to thrash, or says it would; 0: neither */
	uint64_t previous_bytes; /* target of the last tick, 0 for a new guest */
	uint64_t resident_bytes;
	uint64_t fixed_bytes;
	bool fixed;
	bool distress;
	/* in: the proposal; out: what is to be done */
	uint64_t target_bytes;
	uint32_t clamps; /* out, added to: enum policy_clamp */
	uint64_t floor_bytes; /* out: what held as the floor */
};

/* Applies all filters to guests[n]; memories[n] go with them. */
void filters_apply(struct filter_guest *guests, struct filter_memory *memories, size_t n,
	const struct filter_host *host);
