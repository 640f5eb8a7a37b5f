/* Reset by the keyboard controller (IBM PC AT technical reference, 8042 command 0xfe): how PCs reboot. */
#include "kvm-glue/i8042.h"

#include <errno.h>
#include <stdlib.h>

enum {
	PORT_DATA = 0x60,
	PORT_COMMAND = 0x64,
	COMMAND_PULSE = 0xf0, /* with a mask of lines that are not pulsed */
	LINE_RESET = 0x01,
};

struct i8042 {
	struct machine *machine;
	struct bus_range *data_port;
	struct bus_range *command_port;
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
	struct machine *m = ((struct i8042 *)device)->machine;

	if ((data[0] & COMMAND_PULSE) == COMMAND_PULSE && !(data[0] & LINE_RESET))
		m->ops->request_stop(m, false, "reset by the keyboard controller");
}

static const struct bus_ops data_ops = {.read = ports_read, .write = data_write};
static const struct bus_ops command_ops = {.read = ports_read, .write = command_write};

int i8042_new(struct machine *m, struct i8042 **ret)
{
	_cleanup_(i8042_freep) struct i8042 *k = calloc(1, sizeof(*k));
	int r;

	if (!k)
		return -ENOMEM;
	k->machine = m;
	r = bus_add(m->bus, BUS_PIO, PORT_DATA, 1, &data_ops, k, "i8042-data", &k->data_port);
	if (r == 0)
		r = bus_add(m->bus, BUS_PIO, PORT_COMMAND, 1, &command_ops, k, "i8042-command",
			&k->command_port);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(k);
	return 0;
}

void i8042_free(struct i8042 *k)
{
	if (!k)
		return;
	if (k->data_port)
		bus_move(k->machine->bus, k->data_port, PORT_DATA, false);
	if (k->command_port)
		bus_move(k->machine->bus, k->command_port, PORT_COMMAND, false);
	free(k);
}
