/*
 * What memd makes of a guest from one tick to the next: whether its claims are believed, and what
 * having memory from it has cost. The rules are policy/claims.h's and policy/ladder.h's; here they
 * meet the guest's figures.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "policy/claims.h"
#include "policy/ladder.h"

/* How long each mechanism may try before the next one, which costs more, is used too. */
#define JUDGE_PATIENCE_US UINT64_C(2500000)

struct guest;

/* Kept with the guest. Zero it. */
struct judge {
	struct claims claims;
	struct ladder ladder;
	/* as of the last tick */
	uint64_t claimed_us;
	uint64_t scan_cpu_us, scan_pages;
	uint64_t balloon_bytes, balloon_cpu_us;
	uint64_t stall_us;
	bool faulting; /* the guest said that it pages in by itself since the tick before */
	bool begun;
};

/* Takes in a fresh sample, and says in the log whom it no longer believes, and why. */
void judge_sample(struct guest *g, bool ladder_fixed, uint64_t now_us);
/* Regions were paged out: so many pages, at that much CPU time. */
void judge_paged_out(struct guest *g, uint64_t pages, uint64_t cpu_us);
/*
 * What the guest could spare: what it says, of one that is not believed what the host knows for
 * certain. UINT64_MAX: it said nothing.
 */
uint64_t judge_available_bytes(const struct guest *g);
/* What it says, whether it is believed or not. UINT64_MAX: nothing. */
uint64_t judge_claimed_bytes(const struct guest *g);
/* When it said so; 0: never. */
uint64_t judge_claimed_us(const struct guest *g);
/* Ran out of memory, and is seen to. */
bool judge_in_distress(const struct guest *g);
/* How long a guest over its target is left to what costs less than paging. */
uint64_t judge_page_out_wait_us(const struct guest *g);
/*
 * The target that the balloon is to follow: the guest's, but no less than it costs now while paging
 * is cheaper for this guest and has not had its time yet.
 */
uint64_t judge_balloon_target(const struct guest *g, uint64_t now_us);
