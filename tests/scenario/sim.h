/*
 * A host with guests in virtual time, for policies: a second is one call.
 *
 * DOC: what is modelled
 *
 * A guest has allocated memory, a part of it hot (touched every second), the rest cold (each page
 * once in COLD_PERIOD_S), and garbage: freed by the guest, still backed by the host. The host keeps
 * each guest at its target: the balloon takes garbage and costs nothing; beyond that pages go out to
 * compressed memory, cold ones COLD_BIAS times more likely than hot ones. Touching what is out
 * costs FAULT_US a page and, at the target, another page going out. A guest that grows beyond its
 * target pages itself out; when the whole host is over its budget, guests over their targets do,
 * hot and cold alike. All that waiting is the guest's stall.
 *
 * The policy sees what memd would show it: sampled working sets with an error and a delay, stalls as
 * averages, and what guests claim, which some make up. Everything is computed from the seed.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "policy/policy-host.h"

struct sim_guest;

/* Sets what the guest allocates and touches at that second: per mille of its configured memory. */
typedef void (*sim_behave_fn)(struct sim_guest *g, uint64_t second);

enum sim_claim { SIM_HONEST, SIM_CLAIMS_NOTHING_FREE, SIM_CLAIMS_ALL_FREE };

struct sim_guest {
	char name[24];
	uint64_t id;
	uint64_t configured_bytes, min_bytes;
	uint32_t shares;
	sim_behave_fn behave;
	enum sim_claim claim;
	uint64_t random; /* its generator's state */
	uint64_t phase; /* a number of its own, for behaviours */
	uint64_t started; /* the second */
	/* set by behave */
	uint32_t allocated_pm, hot_pm;
	/* state, bytes */
	uint64_t hot_in, hot_out, cold_in, cold_out, garbage;
	uint64_t target_bytes;
	uint64_t sampled_fast, sampled_slow;
	uint32_t stall_10_bp, stall_60_bp;
	uint64_t critical_bytes;
	uint64_t refault_bytes;
	uint64_t stall_us; /* of this second */
	/* totals */
	uint64_t stall_total_us;
	uint64_t out_total_bytes;
	uint64_t below_floor_s; /* seconds in which it wanted its floor and had not got it */
	uint32_t turns; /* changes of direction of its target */
	int direction;
	uint64_t turn_bytes; /* the target at the last extreme */
};

struct sim {
	struct policy_host *h;
	uint64_t budget_bytes;
	uint64_t second;
	size_t n;
	struct sim_guest *guests;
	struct policy_guest *in;
	struct policy_decision *decisions;
	enum memd_host_state state;
	uint64_t over_target_s; /* seconds in which targets grew beyond what is available */
	uint64_t evaluate_ns; /* CPU time of the last tick */
};

/* Guests without behaviour yet; budget_bytes is set by the caller. Aborts without memory. */
void sim_init(struct sim *s, const struct memd_policy *policy,
	const struct policy_setting *settings, size_t n_settings, size_t n, uint64_t seed);
void sim_done(struct sim *s);
void sim_second(struct sim *s);
void sim_run(struct sim *s, uint64_t seconds);
/* Stall of all guests but those that lie, in microseconds for each guest and second. */
uint64_t sim_stall_us(const struct sim *s);
uint64_t sim_resident(const struct sim_guest *g);
uint64_t sim_random(struct sim_guest *g, uint64_t below);

/* The mixes. */
struct sim_mix {
	const char *name;
	/* Sets up the i-th of n guests. */
	void (*set_up)(struct sim_guest *g, size_t i, size_t n);
};
extern const struct sim_mix sim_mixes[];
extern const size_t sim_n_mixes;
/* n guests of 256 MiB with that mix; overcommit_pc: their memory in percent of the budget. */
void sim_init_mix(struct sim *s, const struct memd_policy *policy, const struct sim_mix *mix,
	size_t n, unsigned overcommit_pc, uint64_t seed);
