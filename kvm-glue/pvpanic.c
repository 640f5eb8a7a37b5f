/* One port: reading says which events are known, writing reports one. Keeps nothing. */
#include "kvm-glue/pvpanic.h"

#include <stdlib.h>

#include "memd/base/log.h"

enum {
	EVENT_PANICKED = 1 << 0,
	EVENT_CRASH_LOADED = 1 << 1, /* a crash kernel takes over: the guest goes on */
};

struct pvpanic {
	struct machine *machine;
	struct bus_range *port;
};

static void port_read(void *device, uint64_t offset, uint8_t *data, unsigned size)
{
	data[0] = EVENT_PANICKED | EVENT_CRASH_LOADED;
}

static void port_write(void *device, uint64_t offset, const uint8_t *data, unsigned size)
{
	struct machine *m = ((struct pvpanic *)device)->machine;

	if (data[0] & EVENT_PANICKED)
		m->ops->request_stop(m, true, "the guest's kernel panicked");
	else if (data[0] & EVENT_CRASH_LOADED)
		log_notice("the guest's kernel panicked; its crash kernel takes over");
}

static const struct bus_ops port_ops = {.read = port_read, .write = port_write};

int pvpanic_new(struct machine *m, struct pvpanic **ret)
{
	_cleanup_(pvpanic_freep) struct pvpanic *p = calloc(1, sizeof(*p));
	int r;

	if (!p)
		return -ENOMEM;
	p->machine = m;
	r = bus_add(m->bus, BUS_PIO, PVPANIC_PORT, 1, &port_ops, p, "pvpanic", &p->port);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(p);
	return 0;
}

void pvpanic_free(struct pvpanic *p)
{
	if (!p)
		return;
	if (p->port)
		bus_move(p->machine->bus, p->port, PVPANIC_PORT, false);
	free(p);
}
