/*
 * The panic device (QEMU's docs/specs/pvpanic): a guest kernel that panics writes so to a port, and
 * the guest is known to have failed at once, instead of never.
 */
#pragma once

#include "kvm-glue/machine.h"

#define PVPANIC_PORT 0x505 /* in the DSDT too */

struct pvpanic;

/* m outlives it. An errno of bus_add. */
int pvpanic_new(struct machine *m, struct pvpanic **ret);
/* After vCPUs have stopped. NULL is allowed. */
void pvpanic_free(struct pvpanic *p);
DEFINE_CLEANUP(struct pvpanic *, pvpanic_free)
