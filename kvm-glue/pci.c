/*
 * The PCI bus: configuration mechanism 1, type 0 functions, one memory BAR each, MSI-X and INTA.
 *
 * DOC: the order of locks
 * Each is taken with none held but those above it; whoever holds several lets them go in any order.
 *   1. `lock` of the PCI bus: configuration space and where BARs are. Taken by vCPUs in the port
 *      handlers only, and by the thread that takes a snapshot, from quiesce to resume.
 *   2. a virtio function's status_lock (virtio-pci.c)
 *   3. a device's `turn` and run_lock (virtio-device.c), of several devices in the order of slots
 *   4. locks of the device's own, then the virtio function's `lock` (virtio-pci.c)
 *   5. a function's msix_lock
 *   6. what the machine takes for interrupts and doorbells (vm-irq.c); the machine's bus (bus.c)
 * 3 comes after 1 in two ways: a driver may write the status through the window in configuration
 * space (4.1.4.9 of virtio), and a snapshot needs both to stand still. So nobody who has 3 may want
 * 1: that is why quiesce takes 1 first and saving does not take it again, and why an MMIO handler,
 * which takes 2 and 3, is called without any lock of the machine's bus: moving a BAR takes that
 * with 1 held.
 *
 * Must never: let a BAR decode outside of the host bridge's window, where the guest could lay it
 * over RAM or the interrupt controllers; take the PCI bus's lock in an MMIO handler.
 */
#include "kvm-glue/pci.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include "kvm-glue/pci-internal.h"
#include "memd/base/overflow.h"

/* Configuration space of a type 0 function (PCI Local Bus 3.0, 6.1). */
enum {
	CFG_VENDOR = 0x00,
	CFG_DEVICE = 0x02,
	CFG_COMMAND = 0x04,
	CFG_STATUS = 0x06,
	CFG_REVISION = 0x08,
	CFG_CLASS = 0x09,
	CFG_BAR0 = 0x10,
	CFG_SUBSYSTEM_VENDOR = 0x2c,
	CFG_SUBSYSTEM = 0x2e,
	CFG_CAPABILITIES = 0x34,
	CFG_INTERRUPT_LINE = 0x3c,
	CFG_INTERRUPT_PIN = 0x3d,
	CFG_HEADER_END = 0x40,

	COMMAND_MEMORY = 1 << 1,
	COMMAND_MASTER = 1 << 2,
	COMMAND_INTX_DISABLE = 1 << 10,
	STATUS_INTERRUPT = 1 << 3,
	STATUS_CAPABILITIES = 1 << 4,

	CAPABILITY_MSIX = 0x11,
	MSIX_CONTROL_ENABLE = 1 << 15,
	MSIX_CONTROL_MASK_ALL = 1 << 14,
	MSIX_ENTRY_BYTES = 16,
	MSIX_ENTRY_MASKED = 1 << 0,
};

enum {
	PORT_BASE = 0xcf8,
	PORT_BYTES = 8,
	/* offsets from PORT_BASE */
	PORT_ADDRESS = 0,
	PORT_RESET =
		1, /* reset control of Intel's south bridges: a byte inside the address register */
	PORT_DATA = 4,
	RESET_CPU = 1 << 2,
};

static uint16_t get16(const uint8_t *p)
{
	return (uint16_t)(p[0] | p[1] << 8);
}

static void put16(uint8_t *p, uint16_t v)
{
	memcpy(p, &v, sizeof(v));
}

static uint32_t get32(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static void put32(uint8_t *p, uint32_t v)
{
	memcpy(p, &v, sizeof(v));
}

/* What the INTA line shows; msix_lock held. */
static void intx_update(struct pci_function *f)
{
	bool shown =
		f->intx_level && !f->intx_disabled && !f->msix_enabled && f->slot < PCI_LINE_SLOTS;
	struct machine *m = f->bus->machine;

	if (shown == f->intx_shown)
		return;
	f->intx_shown = shown;
	m->ops->irq_line(m, PCI_GSI(f->slot), shown);
}

/*
 * Brings what the machine delivers in line with the vector's entry and the masks; msix_lock held.
 */
static void msix_vector_update(struct pci_function *f, struct pci_msix_vector *v)
{
	struct machine *m = f->bus->machine;
	bool deliver = f->msix_enabled && !f->msix_masked && !(v->entry[3] & MSIX_ENTRY_MASKED);
	int r;

	if (!deliver && !v->armed)
		return;
	r = m->ops->msi_update(m, v->gsi, v->eventfd, (uint64_t)v->entry[1] << 32 | v->entry[0],
		v->entry[2], !deliver);
	v->armed = deliver && r == 0;
	if (v->armed && v->pending) {
		v->pending = false;
		eventfd_write(v->eventfd, 1);
	}
}

void pci_interrupts_configured(struct pci_function *f)
{
	uint16_t control = 0;

	pthread_mutex_lock(&f->msix_lock);
	if (f->msix_capability != 0)
		control = get16(f->config + f->msix_capability + 2);
	f->msix_enabled = control & MSIX_CONTROL_ENABLE;
	f->msix_masked = control & MSIX_CONTROL_MASK_ALL;
	f->intx_disabled = get16(f->config + CFG_COMMAND) & COMMAND_INTX_DISABLE;
	for (unsigned i = 0; i < f->n_vectors; i++) {
		if (!f->msix_enabled)
			f->vectors[i].pending = false;
		msix_vector_update(f, &f->vectors[i]);
	}
	intx_update(f);
	pthread_mutex_unlock(&f->msix_lock);
}

void pci_bar_configured(struct pci_function *f)
{
	uint64_t gpa = get32(f->config + CFG_BAR0);
	struct bus *mmio = f->bus->machine->bus;

	if (!f->bar_range)
		return;
	if (!(get16(f->config + CFG_COMMAND) & COMMAND_MEMORY) ||
		!u64_range_within(gpa, PCI_BAR_BYTES, MACHINE_PCI_MMIO_BASE, MACHINE_PCI_MMIO_SIZE))
		gpa = UINT64_MAX;
	if (gpa == f->bar_gpa)
		return;
	/*
	 * An overlap with another function leaves this one undecoded, as real ones would fight over
	 * it.
	 */
	if (bus_move(mmio, f->bar_range, gpa == UINT64_MAX ? PCI_BAR_INITIAL(f->slot) : gpa,
		    gpa != UINT64_MAX) < 0)
		gpa = UINT64_MAX;
	f->bar_gpa = gpa;
	if (f->ops->bar_moved)
		f->ops->bar_moved(f, gpa);
}

static void function_read(struct pci_function *f, unsigned offset, uint8_t *data, unsigned size)
{
	pthread_mutex_lock(&f->msix_lock);
	f->config[CFG_STATUS] &= (uint8_t)~STATUS_INTERRUPT;
	if (f->intx_level)
		f->config[CFG_STATUS] |= STATUS_INTERRUPT;
	pthread_mutex_unlock(&f->msix_lock);
	if (f->ops->config_read)
		f->ops->config_read(f, offset, size);
	memcpy(data, f->config + offset, size);
}

static void function_write(
	struct pci_function *f, unsigned offset, const uint8_t *data, unsigned size)
{
	for (unsigned i = offset; i < offset + size; i++) {
		uint8_t mask = f->writable[i];

		f->config[i] = (uint8_t)((f->config[i] & ~mask) | (data[i - offset] & mask));
	}
	pci_interrupts_configured(f);
	pci_bar_configured(f);
	if (f->ops->config_written)
		f->ops->config_written(f, offset, size);
}

/*
 * The function that CONFIG_ADDRESS selects, and the offset that a data port then means; NULL for
 * none. Lock held.
 */
static struct pci_function *selected(struct pci_bus *b, uint64_t port, unsigned *ret_offset)
{
	uint32_t a = b->address;
	unsigned slot = a >> 11 & 0x1f;

	/* enabled, bus 0, function 0 */
	if (!(a >> 31) || (a >> 16 & 0xff) != 0 || (a >> 8 & 7) != 0 || slot >= PCI_SLOTS)
		return NULL;
	*ret_offset = (a & 0xfc) + (unsigned)(port - PORT_DATA);
	return b->functions[slot];
}

static void ports_read(void *device, uint64_t offset, uint8_t *data, unsigned size)
{
	struct pci_bus *b = device;
	struct pci_function *f;
	unsigned at;

	memset(data, 0xff, size);
	pthread_mutex_lock(&b->lock);
	if (offset >= PORT_DATA) {
		f = selected(b, offset, &at);
		if (f)
			function_read(f, at, data, size);
	} else if (offset == PORT_ADDRESS && size == 4) {
		put32(data, b->address);
	}
	pthread_mutex_unlock(&b->lock);
}

static void ports_write(void *device, uint64_t offset, const uint8_t *data, unsigned size)
{
	struct pci_bus *b = device;
	struct pci_function *f;
	unsigned at;

	if (offset == PORT_RESET && size == 1) {
		if (data[0] & RESET_CPU)
			b->machine->ops->request_stop(b->machine, false, "reset by port 0xcf9");
		return;
	}
	pthread_mutex_lock(&b->lock);
	if (offset >= PORT_DATA) {
		f = selected(b, offset, &at);
		if (f)
			function_write(f, at, data, size);
	} else if (offset == PORT_ADDRESS && size == 4) {
		/* reserved bits and the two lowest read as zeros */
		b->address = get32(data) & UINT32_C(0x80fffffc);
	}
	pthread_mutex_unlock(&b->lock);
}

static const struct bus_ops ports_ops = {
	.read = ports_read,
	.write = ports_write,
};

/* Where [offset, offset + size) of the BAR lies in the MSI-X table, if all of it does. */
static bool in_msix_table(const struct pci_function *f, uint64_t offset, unsigned size)
{
	return u64_range_within(
		offset, size, f->msix_table_offset, f->n_vectors * MSIX_ENTRY_BYTES);
}

static bool in_msix_pba(const struct pci_function *f, uint64_t offset, unsigned size)
{
	return u64_range_within(offset, size, f->msix_pba_offset, f->n_vectors > 0 ? 8 : 0);
}

static void bar_read(void *device, uint64_t offset, uint8_t *data, unsigned size)
{
	struct pci_function *f = device;

	if (in_msix_table(f, offset, size)) {
		pthread_mutex_lock(&f->msix_lock);
		for (unsigned i = 0; i < size; i++) {
			unsigned at = (unsigned)(offset - f->msix_table_offset) + i;
			const struct pci_msix_vector *v = &f->vectors[at / MSIX_ENTRY_BYTES];

			data[i] = ((const uint8_t *)v->entry)[at % MSIX_ENTRY_BYTES];
		}
		pthread_mutex_unlock(&f->msix_lock);
	} else if (in_msix_pba(f, offset, size)) {
		uint64_t pending = 0;

		pthread_mutex_lock(&f->msix_lock);
		for (unsigned i = 0; i < f->n_vectors; i++)
			pending |= (uint64_t)f->vectors[i].pending << i;
		pthread_mutex_unlock(&f->msix_lock);
		memcpy(data, (const uint8_t *)&pending + (offset - f->msix_pba_offset), size);
	} else if (f->ops->bar.read) {
		f->ops->bar.read(f, offset, data, size);
	}
}

static void bar_write(void *device, uint64_t offset, const uint8_t *data, unsigned size)
{
	struct pci_function *f = device;

	if (in_msix_table(f, offset, size)) {
		unsigned begin = (unsigned)(offset - f->msix_table_offset);

		pthread_mutex_lock(&f->msix_lock);
		for (unsigned i = 0; i < size; i++) {
			struct pci_msix_vector *v = &f->vectors[(begin + i) / MSIX_ENTRY_BYTES];

			((uint8_t *)v->entry)[(begin + i) % MSIX_ENTRY_BYTES] = data[i];
		}
		for (unsigned i = begin / MSIX_ENTRY_BYTES;
			i <= (begin + size - 1) / MSIX_ENTRY_BYTES; i++) {
			struct pci_msix_vector *v = &f->vectors[i];

			/*
			 * Messages are dwords, and of the vector control only the mask bit exists.
			 */
			v->entry[0] &= ~UINT32_C(3);
			v->entry[3] &= MSIX_ENTRY_MASKED;
			msix_vector_update(f, v);
		}
		pthread_mutex_unlock(&f->msix_lock);
	} else if (!in_msix_pba(f, offset, size) && f->ops->bar.write) {
		f->ops->bar.write(f, offset, data, size);
	}
}

static const struct bus_ops bar_ops = {
	.read = bar_read,
	.write = bar_write,
};

/* What every function has, with a BAR or without; cannot fail. */
static void function_setup(struct pci_function *f, struct pci_bus *b, unsigned slot,
	const struct pci_ids *ids, const struct pci_function_ops *ops)
{
	pthread_mutex_init(&f->msix_lock, NULL);
	f->bus = b;
	f->slot = slot;
	f->ops = ops;
	f->bar_gpa = UINT64_MAX;
	f->end_of_capabilities = CFG_HEADER_END;
	put16(f->config + CFG_VENDOR, ids->vendor);
	put16(f->config + CFG_DEVICE, ids->device);
	f->config[CFG_REVISION] = ids->revision;
	put16(f->config + CFG_CLASS, (uint16_t)ids->class_code);
	f->config[CFG_CLASS + 2] = (uint8_t)(ids->class_code >> 16);
	put16(f->config + CFG_SUBSYSTEM_VENDOR, ids->subsystem_vendor);
	put16(f->config + CFG_SUBSYSTEM, ids->subsystem);
}

int pci_bus_new(struct machine *m, struct pci_bus **ret)
{
	/*
	 * The identity that other small hypervisors give their bridge: no driver of Linux has a
	 * quirk for it.
	 */
	static const struct pci_ids bridge_ids = {
		.vendor = 0x8086,
		.device = 0x0d57,
		.class_code = 0x060000,
	};
	static const struct pci_function_ops bridge_ops = {0};
	struct pci_bus *b = calloc(1, sizeof(*b));
	int r;

	if (!b)
		return -ENOMEM;
	b->machine = m;
	pthread_mutex_init(&b->lock, NULL);
	r = bus_add(m->bus, BUS_PIO, PORT_BASE, PORT_BYTES, &ports_ops, b, "pci-config", &b->ports);
	if (r < 0) {
		pci_bus_free(b);
		return r;
	}
	function_setup(&b->bridge, b, 0, &bridge_ids, &bridge_ops);
	pci_function_publish(&b->bridge);
	*ret = b;
	return 0;
}

void pci_bus_free(struct pci_bus *b)
{
	if (!b)
		return;
	pci_function_done(&b->bridge);
	if (b->ports)
		bus_move(b->machine->bus, b->ports, PORT_BASE, false);
	pthread_mutex_destroy(&b->lock);
	free(b);
}

int pci_function_init(struct pci_function *f, struct pci_bus *b, unsigned slot,
	const struct pci_ids *ids, const struct pci_function_ops *ops)
{
	int r;

	if (slot == 0 || slot >= PCI_SLOTS)
		return -EINVAL;
	if (b->functions[slot])
		return -EBUSY;
	function_setup(f, b, slot, ids, ops);
	put16(f->writable + CFG_COMMAND, COMMAND_MEMORY | COMMAND_MASTER | COMMAND_INTX_DISABLE);
	put32(f->config + CFG_BAR0, (uint32_t)PCI_BAR_INITIAL(slot));
	put32(f->writable + CFG_BAR0, ~(uint32_t)(PCI_BAR_BYTES - 1));
	f->writable[CFG_INTERRUPT_LINE] = 0xff;
	if (slot < PCI_LINE_SLOTS) {
		f->config[CFG_INTERRUPT_LINE] = (uint8_t)PCI_GSI(slot);
		f->config[CFG_INTERRUPT_PIN] = 1; /* INTA */
	}
	r = bus_add(b->machine->bus, BUS_MMIO, PCI_BAR_INITIAL(slot), PCI_BAR_BYTES, &bar_ops, f,
		"pci-bar", &f->bar_range);
	if (r < 0) {
		pci_function_done(f);
		return r;
	}
	bus_move(b->machine->bus, f->bar_range, PCI_BAR_INITIAL(slot), false);
	return 0;
}

void pci_function_done(struct pci_function *f)
{
	struct pci_bus *b = f->bus;
	struct machine *m;

	if (!b)
		return;
	m = b->machine;
	pthread_mutex_lock(&b->lock);
	if (b->functions[f->slot] == f)
		b->functions[f->slot] = NULL;
	if (f->bar_range)
		bus_move(m->bus, f->bar_range, PCI_BAR_INITIAL(f->slot), false);
	if (f->bar_gpa != UINT64_MAX && f->ops->bar_moved)
		f->ops->bar_moved(f, UINT64_MAX);
	pthread_mutex_unlock(&b->lock);
	for (unsigned i = 0; i < f->n_vectors; i++)
		m->ops->msi_free(m, f->vectors[i].gsi, f->vectors[i].eventfd);
	pthread_mutex_destroy(&f->msix_lock);
	memset(f, 0, sizeof(*f));
}

int pci_function_add_capability(
	struct pci_function *f, uint8_t id, const void *body, unsigned bytes)
{
	unsigned at = f->end_of_capabilities;
	unsigned end = (unsigned)u64_align_up(at + bytes, 4);

	if (bytes < 2 || end > PCI_CONFIG_BYTES)
		return -ENOSPC;
	memcpy(f->config + at, body, bytes);
	f->config[at] = id;
	f->config[at + 1] = 0;
	if (f->last_capability == 0) {
		f->config[CFG_CAPABILITIES] = (uint8_t)at;
		f->config[CFG_STATUS] |= STATUS_CAPABILITIES;
	} else {
		f->config[f->last_capability + 1] = (uint8_t)at;
	}
	f->last_capability = at;
	f->end_of_capabilities = end;
	return (int)at;
}

int pci_function_add_msix(
	struct pci_function *f, unsigned n, uint32_t table_offset, uint32_t pba_offset)
{
	struct machine *m = f->bus->machine;
	uint8_t body[12] = {0};
	int at;

	if (n == 0 || n > PCI_MSIX_MAX || table_offset % 8 != 0 || pba_offset % 8 != 0)
		return -EINVAL;
	put16(body + 2, (uint16_t)(n - 1));
	put32(body + 4, table_offset); /* in BAR 0 */
	put32(body + 8, pba_offset);
	at = pci_function_add_capability(f, CAPABILITY_MSIX, body, sizeof(body));
	if (at < 0)
		return at;
	put16(f->writable + at + 2, MSIX_CONTROL_ENABLE | MSIX_CONTROL_MASK_ALL);
	f->msix_capability = (unsigned)at;
	f->msix_table_offset = table_offset;
	f->msix_pba_offset = pba_offset;
	while (f->n_vectors < n) {
		struct pci_msix_vector *v = &f->vectors[f->n_vectors];
		int r = m->ops->msi_new(m, &v->gsi, &v->eventfd);

		if (r < 0)
			return r;
		v->entry[3] = MSIX_ENTRY_MASKED;
		f->n_vectors++;
	}
	return 0;
}

void pci_function_publish(struct pci_function *f)
{
	pthread_mutex_lock(&f->bus->lock);
	f->bus->functions[f->slot] = f;
	pthread_mutex_unlock(&f->bus->lock);
}

void pci_msix_raise(struct pci_function *f, unsigned vector)
{
	pthread_mutex_lock(&f->msix_lock);
	if (f->msix_enabled && vector < f->n_vectors) {
		struct pci_msix_vector *v = &f->vectors[vector];

		if (v->armed)
			eventfd_write(v->eventfd, 1);
		else
			v->pending = true;
	}
	pthread_mutex_unlock(&f->msix_lock);
}

bool pci_msix_enabled(struct pci_function *f)
{
	bool enabled;

	pthread_mutex_lock(&f->msix_lock);
	enabled = f->msix_enabled;
	pthread_mutex_unlock(&f->msix_lock);
	return enabled;
}

void pci_intx_set(struct pci_function *f, bool level)
{
	pthread_mutex_lock(&f->msix_lock);
	f->intx_level = level;
	intx_update(f);
	pthread_mutex_unlock(&f->msix_lock);
}
