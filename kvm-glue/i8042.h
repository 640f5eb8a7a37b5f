/* The keyboard controller, of which only the reset line is there (ports 0x60, 0x64). */
#pragma once

#include "kvm-glue/machine.h"

/* Registers it; it has no state. An errno of bus_add. */
int i8042_add(struct machine *m);
