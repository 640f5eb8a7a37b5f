/*
 * Reads the kernel's figures about one process in a worker thread and hands them to the event loop.
 * One reading at a time for each owner; the owner may go away while it is under way.
 */
#pragma once

#include "memd/sample.h"
#include "memd/worker.h"

/*
 * error: 0, or why there are no figures. *s is the receiver's (kernel_sample_done) when error is 0.
 */
typedef void (*process_sampled_fn)(void *context, int error, struct kernel_sample *s);

struct process_reading;

/* -ENOMEM. *ret is to be cancelled or called back; it is gone when `sampled` is called. */
int process_sampler_begin(struct worker *worker, struct sample_process *process,
	process_sampled_fn sampled, void *context, struct process_reading **ret);
/* `sampled` is not called any more. NULL is allowed. */
void process_sampler_cancel(struct process_reading *reading);
