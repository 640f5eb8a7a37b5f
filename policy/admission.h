/*
 * Whether a guest may start, and how many more of a kind would. Pure.
 *
 * DOC: what is reserved
 *
 * A guest is promised its floor and its memd-vmm's overhead for as long as it lives, so that those of
 * all guests have to fit into the budget beside what is no guest's. What it may have beyond
 * its floor is not promised, but it must have somewhere to go: with paging off, or too little swap,
 * memory that was once touched cannot be taken back, and a guest counts with all of it.
 *
 * A reservation has two phases (Xen's squeezed): it counts from the moment it is made, so that no
 * other takes the same memory and the targets of the others fall; the guest is started only when so
 * much is free in fact.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct admission_host {
	uint64_t budget_bytes;
	uint64_t used_bytes; /* everything, as it is now */
	uint64_t fixed_bytes; /* in use by no guest: memd, pools' processes, RAM of swap */
	uint64_t reserved_bytes; /* floors and overheads of all guests, also of those that wait */
	uint64_t waiting_bytes; /* of that, of guests that wait to be started */
	uint64_t backed_bytes; /* swap that all guests may need: what is above their floors */
	uint64_t swap_bytes; /* size of swap, 0 with paging off */
	uint64_t working_set_bytes; /* of all guests, as sampled; their overheads too */
};

struct admission_guest {
	uint64_t floor_bytes;
	uint64_t overhead_bytes;
	uint64_t max_bytes;
};

enum admission_limit {
	ADMISSION_FITS,
	ADMISSION_FLOORS, /* the floors do not fit into the budget */
	ADMISSION_ROOM, /* it fits, but not so much is free at this moment */
};
/* "", "floors", "room". */
const char *admission_limit_name(enum admission_limit limit);

/* Of one guest more. A guest without a floor above 0 is counted by its overhead. */
enum admission_limit admission_check(
	const struct admission_host *host, const struct admission_guest *guest);

struct admission_forecast {
	uint64_t n; /* so many more would be admitted: their floors fit */
	uint64_t n_now; /* of those, so many without waiting for others to give */
	uint64_t
		n_comfortable; /* of those, so many beside the working sets of all, with their floors */
	uint64_t n_backed; /* of those, so many with swap behind all that all guests may have */
	uint64_t missing_bytes; /* what one more than n lacks */
};
#define ADMISSION_MANY 100000 /* it counts no further */
void admission_forecast(const struct admission_host *host, const struct admission_guest *guest,
	struct admission_forecast *ret);
