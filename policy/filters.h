/*
 * The safety filters: what every proposal goes through, whoever made it. In this order, always all
 * of them; there is no switch. They see figures that memd measured, never what a guest claims.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "policy/policy-host.h"

/* A target may fall by so much of the configured size in a second (MOM, Proxmox: 5 % a tick). */
#define FILTER_STEP_BP_PER_S 500

struct filter_guest {
	uint64_t configured_bytes;
	uint64_t min_bytes;
	uint64_t max_bytes;
	uint64_t previous_bytes; /* target of the last tick, 0 for a new guest */
	uint64_t resident_bytes;
	uint64_t fixed_bytes;
	bool fixed;
	/* in: the proposal; out: what is to be done */
	uint64_t target_bytes;
	uint32_t clamps; /* out, added to: enum policy_clamp */
};

/*
 * Applies all filters to guests[n]. available_bytes: what the targets may add up to. tick_us: the
 * time that passed since the last tick.
 */
void filters_apply(
	struct filter_guest *guests, size_t n, uint64_t available_bytes, uint64_t tick_us);
