/*
 * What the processes cost that belong to memd and to no guest and no pool: memd itself, and
 * memd-policy with whatever it started. Read in a worker thread. One reading at a time; whoever
 * asked may go away while it is under way.
 */
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include "memd/worker.h"

struct own_costs {
	uint64_t memd_bytes; /* 0: could not be read */
	uint64_t policy_bytes; /* memd-policy's and its descendants'; 0 without, or when they ended */
};

typedef void (*own_costs_fn)(void *context, const struct own_costs *costs);

struct own_costs_reading;

/* Of the program of a policy, so many processes are counted; a policy may start what it likes. */
#define OWN_COSTS_PROCESSES_MAX 256

/*
 * policy_pid 0: there is none. -ENOMEM. *ret is to be cancelled or called back; it is gone when
 * `done` is called.
 */
int own_costs_begin(struct worker *worker, pid_t policy_pid, own_costs_fn done, void *context,
	struct own_costs_reading **ret);
/* `done` is not called any more. NULL is allowed. */
void own_costs_cancel(struct own_costs_reading *reading);

/* What a process and its descendants cost, now, in this thread. */
uint64_t own_costs_of_tree(pid_t pid);
