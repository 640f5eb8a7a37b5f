/*
 * Which host CPUs a guest's vCPUs run on. Pure: loads and the time come in, sets of CPUs go out;
 * place.c tells memd-vmm.
 *
 * DOC: shared, pinned, auto
 *
 * Guests are time-shared over all CPUs that nobody has alone. A pinned guest has as many CPUs alone as
 * it has vCPUs, each vCPU its own; no other guest's vCPUs run there. (The host's own threads may: that
 * is what isolcpus= is for.) One CPU at least stays for everybody, so a guest that does not fit stays
 * shared, and says so. With `auto` a guest is pinned while it is busy, and gives its CPUs back when it
 * is not: both only after some time, and with a gap between the two loads, so that it does not go to
 * and fro. Who has a set keeps it while it has a right to it: a vCPU is not moved for tidiness.
 */
#pragma once

#include <sched.h>
#include <stdbool.h>
#include <stdint.h>

enum placement_mode { /* as enum config_placement */
	PLACEMENT_SHARED,
	PLACEMENT_PINNED,
	PLACEMENT_AUTO,
};

#define PLACEMENT_BUSY_BP 7000 /* of the time of all its vCPUs: pinned after PLACEMENT_BUSY_US */
#define PLACEMENT_IDLE_BP 3000 /* back after PLACEMENT_IDLE_US */
#define PLACEMENT_BUSY_US UINT64_C(5000000)
#define PLACEMENT_IDLE_US UINT64_C(15000000)

#define PLACEMENT_LOAD_UNKNOWN UINT32_MAX

/* Of one guest; all but the first group is kept from call to call, zeroed at first. */
struct placement {
	enum placement_mode mode;
	uint32_t n_vcpus;
	uint32_t load_bp; /* of this round, or PLACEMENT_LOAD_UNKNOWN */

	cpu_set_t cpus; /* to run on */
	bool exclusive; /* alone, one for each vCPU */
	uint64_t busy_since_us; /* 0: it is not */
	uint64_t idle_since_us;
	char reason[128]; /* why it runs there, for a person */
};

/* Decides for all guests, in their order: who comes first gets first. */
void placement_decide(
	const cpu_set_t *online, struct placement *const *guests, unsigned n, uint64_t now_us);

/* A set as "0-2,5" into text, cut off with "..." when it does not fit. */
#define PLACEMENT_TEXT_MAX 64
void placement_text(const cpu_set_t *cpus, char text[PLACEMENT_TEXT_MAX]);
