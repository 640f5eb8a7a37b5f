/* Between the files of guests (guest*.c) and their providers. */
#pragma once

#include "memd/guest.h"

DEFINE_CLEANUP(struct guest *, guest_free)

/* Changes state and reason, logs, and tells the environment, unless nothing changes. */
void guest_set_state(struct guest *g, enum guest_state state, const char *reason);
/* What memd-vmm says about its state, with all that follows. */
void guest_enter_state(struct guest *g, enum guest_state state, const char *reason);
/* Closes the connection; everything under way on it ends without success. */
void guest_disconnect(struct guest *g);

int guest_add_waiter(struct guest_waiter **list, guest_done_fn done, void *context);
void guest_answer_waiters(struct guest_waiter **list, int result, const struct refusal *refusal);
/* Commands whose answer cannot come any more. */
void guest_fail_commands(struct guest *g);

int guest_send_quit(struct guest *g);
/* Of guest_vmm_ops. */
bool guest_vmm_sample_begin(struct guest *g);
void guest_vmm_sample_cancel(struct guest *g);
int guest_vmm_stop(struct guest *g, enum guest_stop_how how, guest_done_fn done, void *context);
/* NOT_SUPPORTED, NOT_RUNNING. */
int guest_may_snapshot(const struct guest *g, struct refusal *refusal);
/* VMM_SNAPSHOT into two files, state and RAM, which stay the caller's. */
int guest_send_snapshot(struct guest *g, const int fds[2], guest_done_fn done, void *context,
	struct refusal *refusal);
/* Resumes whoever paused it, for a stop. */
void guest_unpause(struct guest *g);
