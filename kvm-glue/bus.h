/*
 * The machine's I/O buses: port I/O and MMIO ranges, each with one handler. Ranges are registered before vCPUs run, and
 * PCI BARs are moved by the guest while they do.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "memd/base/cleanup.h"

enum bus_kind {
	BUS_PIO,
	BUS_MMIO,
};

/*
 * Called from vCPU threads, several at a time, without any lock: the device locks itself. offset is within the range, size 1, 2, 4 or 8;
 * the access lies within the range entirely. data: little endian, the guest's bytes (write) or zeroed (read).
 */
struct bus_ops {
	void (*read)(void *device, uint64_t offset, uint8_t *data, unsigned size);
	void (*write)(void *device, uint64_t offset, const uint8_t *data, unsigned size);
};

struct bus;
struct bus_range; /* handle of one registration, owned by the bus */

int bus_new(struct bus **ret);
/* After the devices are gone. NULL is allowed. */
void bus_free(struct bus *b);
DEFINE_CLEANUP(struct bus *, bus_free)

/* -EEXIST when it overlaps another range of that kind, -EINVAL when it is empty or wraps, -ENOMEM. name is for debuggers and must outlive the bus. */
int bus_add(struct bus *b, enum bus_kind kind, uint64_t base, uint64_t size, const struct bus_ops *ops,
	void *device, const char *name, struct bus_range **ret);
/*
 * Moves a range (BAR reprogrammed); enabled false takes it off the bus but keeps the handle. -EEXIST on overlap: it is then
 * disabled. Waits for nobody, so it may be called with any lock held: an access that another vCPU had begun where the range
 * was may reach its handler after the return. A device goes away only when vCPUs have stopped.
 */
int bus_move(struct bus *b, struct bus_range *r, uint64_t base, bool enabled);

/* Nobody answers: reads give all ones, writes vanish; returns false then. Accesses that straddle a range's end too. */
bool bus_read(struct bus *b, enum bus_kind kind, uint64_t address, uint8_t *data, unsigned size);
bool bus_write(struct bus *b, enum bus_kind kind, uint64_t address, const uint8_t *data, unsigned size);
