/*
 * A thread that takes jobs one after the other, for system calls that may sleep (reading
 * smaps_rollup, paging out, lowering a limit), so that the event loop never does. A job's `run` is
 * called in the thread and sees only what the job holds; its `done` is called in the event loop
 * afterwards, and may free the job.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "memd/base/cleanup.h"

struct job {
	void (*run)(struct job *j);
	void (*done)(struct job *j);
	struct job *next; /* the worker's */
};

struct worker;

/* name: of the thread, at most 15 characters. Negative errno. */
int worker_new(sd_event *event, const char *name, struct worker **ret);
/*
 * Waits for the job under way; jobs not begun are not run. `done` is called for all. NULL is
 * allowed.
 */
void worker_free(struct worker *w);
DEFINE_CLEANUP(struct worker *, worker_free)
/*
 * For jobs that may never end: runs those that were submitted, waits at most so long for the last,
 * and frees it as worker_free. false: the thread is left behind with its job, the worker and all
 * that they use; `done` is not called for them any more.
 */
bool worker_finish(struct worker *w, uint64_t wait_us);

/* The job is the worker's until `done`. */
void worker_submit(struct worker *w, struct job *j);
/* The thread asks, in a long job, whether it should end early. */
bool worker_stopping(struct worker *w);
