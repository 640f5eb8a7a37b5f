/*
 * Where the wall stands: the limit of the guests' cgroup, how much has to go out for it, and which
 * guest waits when that does not help. Pure: figures and time come in.
 *
 * DOC: a budget that holds while guests fill up
 *
 * The budget has to hold everything: what is in the guests' cgroup, and beside it the pools' files,
 * memd's own processes and what zram occupies. So the limit of the cgroup is the budget less what
 * is outside, less a reserve; and since each page that the kernel reclaims at the limit makes zram
 * grow (by about half a page), the limit moves down ahead of that growth: by what zram grew lately,
 * projected over the time it takes to act.
 *
 * A limit only throttles (v2), or there is none (v1: see wall.c), and each page that is paged out is
 * taken at once by whoever grows. So while the host is over the budget the guests that grow beyond
 * their targets are paused, the largest excess first, and resumed when there is room again, the
 * least excess first. A pause is short while swap has room: what is paged out meanwhile is their own.
 *
 * Between a reading and the moment when a guest stands still lies a time in which it goes on growing:
 * until the next look, and from the order to pause until the vCPUs are parked. Both depend on how busy
 * the host is, so they are measured, and the slowest of late counts. "Over" begins where the growth of
 * late would lead within that time, and there is room only when a guest could grow for twice as long.
 * Where growth was fast it is expected again: the rate falls by half each second only.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct budget_figures {
	uint64_t now_us;
	uint64_t budget_bytes;
	uint64_t usage_bytes; /* of the guests' cgroup */
	uint64_t outside_bytes; /* beside guests and swap: pools, memd's processes */
	uint64_t zram_bytes; /* our part of what zram occupies */
};

/* The slowest of late: rises at once, falls by half each 10 s. */
struct slowest {
	double us;
	uint64_t at_us;
};

/* Kept between calls. Zero it. */
struct budget {
	struct slowest look; /* from one look to the next; counts as 10 to 200 ms */
	struct slowest pause; /* from an order until it is followed; counts as 5 to 200 ms */
	uint64_t last_us;
	uint64_t last_zram_bytes;
	uint64_t zram_growth; /* bytes a second: rises at once, falls by half each call */
	uint64_t last_used_us, last_used_bytes;
	double growth; /* of all that is used; bytes a second: rises at once, falls by half each second */
};

struct budget_decision {
	uint64_t used_bytes; /* usage + outside + zram */
	uint64_t limit_bytes; /* for the guests' cgroup; may be below the usage */
	uint64_t excess_bytes; /* of usage over the limit: to be paged out */
	bool near; /* look again soon (fast tick) */
	bool over; /* somebody has to wait */
	bool room; /* somebody may go on */
	uint64_t to_room_bytes; /* until there is room */
};

/* Takes in what it took this time. */
void budget_note(struct slowest *s, uint64_t now_us, uint64_t took_us);
void budget_decide(struct budget *b, const struct budget_figures *in, struct budget_decision *ret);

/* A guest as a candidate for a pause. */
struct budget_guest {
	uint64_t cost_bytes;
	uint64_t target_bytes;
	bool paused; /* by us */
	bool running;
	uint64_t since_us; /* of the pause */
};
#define BUDGET_NOBODY SIZE_MAX
/*
 * The running guest that is most over its target (or, when none is, least under it). BUDGET_NOBODY.
 */
size_t budget_choose_pause(const struct budget_guest *guests, size_t n);
/* The guest paused by us, at least 100 ms ago, that is least over its target. BUDGET_NOBODY. */
size_t budget_choose_resume(const struct budget_guest *guests, size_t n, uint64_t now_us);
