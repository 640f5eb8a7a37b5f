/*
 * Isolation of memd-vmm, in stages. It should end as a process that can do nothing but run its guest: no new files, no
 * programs, no privileges. It must not lock itself out of what its threads need: each system call allowed is listed in
 * sandbox.c with who needs it.
 */
#pragma once

#include <stddef.h>

#include "kvm-glue/device.h"
#include "memd/base/error.h"
#include "memd/base/sanitizer.h"

/* Stage 1, first thing: closes descriptors from 3 on that were inherited by accident; keeps those in keep (-1 are skipped). */
int sandbox_close_stray(const int *keep, size_t n, struct error *e);
/*
 * Sanitizers make calls of their own, at any time, and look at /proc: with them there is neither
 * isolation nor a filter.
 */
#define SANDBOX_COMPLETE (!HAS_SANITIZER)

/*
 * Stage 2, everything is open and no thread runs (sandbox-isolate.c): mount, network, IPC and UTS
 * namespaces without anything in them, and a user of its own. What cannot be had the log says.
 */
void sandbox_isolate(void);
/* Stage 3, likewise and no thread runs: no core dumps, no capabilities, no way to gain any. */
int sandbox_drop_privileges(struct error *e);
/*
 * Stage 4, all threads run: the filter of system calls, for all of them. What only some devices need
 * is listed with them (device.h), and allowed to guests that have one. Calls for files fail with
 * EPERM, since libraries make them and do without; every other call that is not listed ends the
 * process.
 */
int sandbox_filter(const struct devices *devices, struct error *e); /* NULL: none */
/*
 * Stage 5, in the thread of each vCPU before it runs the guest: calls is what is left to it, of what
 * the process may, ended by -1; the guest's devices' calls are added. Every other call ends the
 * process.
 */
int sandbox_filter_thread(const int *calls, const struct devices *devices, struct error *e);
