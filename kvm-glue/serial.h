/* A 16550A UART at COM1 (ports 0x3f8..0x3ff, IRQ 4). */
#pragma once

#include "kvm-glue/console.h"
#include "kvm-glue/machine.h"
#include "kvm-glue/snapshot.h"

struct serial;

/* Output goes to console, input comes from there; m and console outlive it. An errno of bus_add. */
int serial_new(struct machine *m, struct console *console, struct serial **ret);
/* After vCPUs have stopped, before the bus goes. NULL is allowed. */
void serial_free(struct serial *s);
DEFINE_CLEANUP(struct serial *, serial_free)
/* vCPUs stand still. restore: -EINVAL. */
void serial_save(struct serial *s, struct snapshot_writer *w);
int serial_restore(struct serial *s, struct snapshot_reader *r);
