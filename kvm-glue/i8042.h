/* The keyboard controller, of which only the reset line is there (ports 0x60, 0x64). */
#pragma once

#include "kvm-glue/machine.h"

struct i8042;

/* m outlives it. An errno of bus_add. */
int i8042_new(struct machine *m, struct i8042 **ret);
/* After vCPUs have stopped, before the bus goes. NULL is allowed. */
void i8042_free(struct i8042 *k);
DEFINE_CLEANUP(struct i8042 *, i8042_free)
