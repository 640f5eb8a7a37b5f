/*
 * Isolation of memd-vmm, in stages. It should end as a process that can do nothing but run its guest: no new files, no
 * programs, no privileges. It must not lock itself out of what its threads need: each system call allowed is listed in
 * sandbox.c with who needs it.
 */
#pragma once

#include <stddef.h>

#include "kvm-glue/device.h"
#include "memd/base/error.h"

/* Stage 1, first thing: closes descriptors from 3 on that were inherited by accident; keeps those in keep (-1 are skipped). */
int sandbox_close_stray(const int *keep, size_t n, struct error *e);
/* Stage 2, everything is open and no thread runs: no core dumps, no capabilities, no way to gain any. */
int sandbox_drop_privileges(struct error *e);
/*
 * Stage 3, all threads run: the filter of system calls, for all of them. Refused calls fail with EPERM. What only some devices
 * need is listed with them (device.h), and allowed to guests that have one.
 */
int sandbox_filter(const struct devices *devices, struct error *e);
