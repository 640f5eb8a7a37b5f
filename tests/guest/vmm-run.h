/*
 * Runs memd-vmm for tests: starts it with a guest in a directory of its own, speaks its control
 * socket as memd does, reads the guest's console, and never leaves the process or the directory
 * behind. Reports failures as values; the test asserts.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "memd/base/cleanup.h"
#include "memd/base/ipc.h"
#include "memd/base/vmm-proto.h"

struct vmm_run_options {
	const char *kernel; /* NULL: the freestanding guest */
	const char *boot; /* NULL: auto */
	const char *initrd; /* NULL: none */
	const char *cmdline; /* NULL: empty */
	const char *
		snapshot; /* go on from the one in this directory; of all above nothing counts then */
	int template_fd; /* with it: its RAM as a template, not close-on-exec; 0: memd-vmm loads it */
	uint64_t memory_bytes;
	unsigned n_vcpus;
	bool interactive; /* the console takes input: vmm_run_type */
	const char *const *arguments; /* more of memd-vmm's, ended by NULL; NULL: none */
};

struct vmm_run;

/* Why guests cannot run here (no /dev/kvm, no permission), NULL when they can. */
const char *vmm_run_unusable(void);

/*
 * Starts memd-vmm, the one of this build, and receives its HELLO. -ECHILD: it ended before; what it
 * said is on the test's stderr. Any errno of processes and sockets.
 */
int vmm_run_start(const struct vmm_run_options *o, struct vmm_run **ret);
/* Kills what still runs, waits for it, and removes the directory. NULL is allowed. */
void vmm_run_free(struct vmm_run *v);
DEFINE_CLEANUP(struct vmm_run *, vmm_run_free)

/* Valid until vmm_run_free, though the process may be gone. */
pid_t vmm_run_pid(const struct vmm_run *v);
const struct vmm_hello *vmm_run_hello(const struct vmm_run *v);
const char *vmm_run_console_path(const struct vmm_run *v);
const char *vmm_run_socket_path(const struct vmm_run *v);

/* Sends a request and waits for its DONE: the result in it, or a negative errno of our own. */
int vmm_run_request(
	struct vmm_run *v, enum vmm_message_type type, const void *payload, size_t size);
int vmm_run_set_balloon(struct vmm_run *v, uint64_t target_pages);
/* pool_fd, a connection to memd-pool, stays the caller's. */
int vmm_run_attach_pool(struct vmm_run *v, int pool_fd);
/* Takes a snapshot into an existing, empty directory. */
int vmm_run_snapshot(struct vmm_run *v, const char *directory);
int vmm_run_get_stats(struct vmm_run *v, struct vmm_stats *ret);
/* The state and reason of the last event, VMM_STATE_RUNNING before any. */
const struct vmm_event *vmm_run_last_event(const struct vmm_run *v);

/*
 * Waits until text is on the console, anywhere. false: not within the time, or the process ended
 * without.
 */
bool vmm_run_wait_text(struct vmm_run *v, const char *text, unsigned timeout_ms);
/*
 * The value of " name=" in the last whole line of the console that has one; fallback when none has.
 * vmm_run_wait_value waits until it is at least `least`.
 */
uint64_t vmm_run_value(struct vmm_run *v, const char *name, uint64_t fallback);
bool vmm_run_wait_value(struct vmm_run *v, const char *name, uint64_t least, unsigned timeout_ms);
/* Types on the console of an interactive guest. 0, any errno of writing. */
int vmm_run_type(struct vmm_run *v, const char *text);
/*
 * The whole console so far, what cannot be printed as '?'; the caller's to free. NULL on failure.
 */
char *vmm_run_console(const struct vmm_run *v);

/* Waits for the end of the process. Its wait status, or -ETIMEDOUT. */
int vmm_run_wait_exit(struct vmm_run *v, unsigned timeout_ms, int *ret_status);

/* Anonymous memory behind the guest's RAM as the kernel counts it (smaps). 0 when the process is gone. */
uint64_t vmm_run_anonymous_bytes(const struct vmm_run *v);
/* Writes guest memory behind the guest's back. -EFAULT when gpa .. gpa + size is not RAM. */
int vmm_run_poke(const struct vmm_run *v, uint64_t gpa, const void *bytes, size_t size);
