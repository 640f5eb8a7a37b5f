/* Reset by the keyboard controller (IBM PC AT technical reference, 8042 command 0xfe): how PCs reboot. */
#include "kvm-glue/i8042.h"

#include <stddef.h>

enum {
	PORT_DATA = 0x60,
	PORT_COMMAND = 0x64,
	COMMAND_PULSE = 0xf0, /* with a mask of lines that are not pulsed */
	LINE_RESET = 0x01,
};

/* Status: nothing to read, ready for commands. */
static void ports_read(void *device, uint64_t offset, uint8_t *data, unsigned size)
{
}

static void data_write(void *device, uint64_t offset, const uint8_t *data, unsigned size)
{
}

static void command_write(void *device, uint64_t offset, const uint8_t *data, unsigned size)
{
	struct machine *m = device;

	if ((data[0] & COMMAND_PULSE) == COMMAND_PULSE && !(data[0] & LINE_RESET))
		m->ops->request_stop(m, false, "reset by the keyboard controller");
}

static const struct bus_ops data_ops = {.read = ports_read, .write = data_write};
static const struct bus_ops command_ops = {.read = ports_read, .write = command_write};

int i8042_add(struct machine *m)
{
	struct bus_range *range;
	int r = bus_add(m->bus, BUS_PIO, PORT_DATA, 1, &data_ops, m, "i8042-data", &range);

	if (r < 0)
		return r;
	return bus_add(m->bus, BUS_PIO, PORT_COMMAND, 1, &command_ops, m, "i8042", &range);
}
