/*
 * The PCI transport of virtio (virtio 1.2, 4.1).
 *
 * DOC: locks
 * status_lock serializes vCPUs that write the device status, so that a start and a reset never
 * interleave; run_lock (the device's) is taken within it. `lock` protects the registers and is held
 * for a few instructions only, by vCPUs, by the device thread when it interrupts and by the control
 * thread when it changes the configuration. Interrupts are raised under `lock`, so that ISR, status
 * and line change together. The place of these among all locks: pci.c.
 *
 * Must never: trust an offset or a size; take run_lock on behalf of the control thread.
 */
#include "kvm-glue/virtio-pci.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "kvm-glue/virtio-pci-internal.h"
#include "memd/base/overflow.h"

enum {
	VENDOR_VIRTIO = 0x1af4,
	DEVICE_MODERN = 0x1040, /* + device type (4.1.2.1) */
	SUBSYSTEM_MODERN = 0x1100,

	CAPABILITY_VENDOR = 0x09,
	/* cfg_type (4.1.4) */
	CAP_COMMON = 1,
	CAP_NOTIFY = 2,
	CAP_ISR = 3,
	CAP_DEVICE = 4,
	CAP_PCI_CFG = 5,

	ISR_QUEUE = 1 << 0,
	ISR_CONFIG = 1 << 1,
};

/*
 * 4.1.4.3, little endian and naturally aligned, without what belongs to features that are not
 * offered.
 */
struct common_config {
	uint32_t device_feature_select;
	uint32_t device_feature;
	uint32_t driver_feature_select;
	uint32_t driver_feature;
	uint16_t config_msix_vector;
	uint16_t num_queues;
	uint8_t device_status;
	uint8_t config_generation;
	uint16_t queue_select;
	uint16_t queue_size;
	uint16_t queue_msix_vector;
	uint16_t queue_enable;
	uint16_t queue_notify_off;
	uint32_t queue_desc[2];
	uint32_t queue_driver[2];
	uint32_t queue_device[2];
};
_Static_assert(sizeof(struct common_config) == 56, "as virtio 1.2, 4.1.4.3 has it");

/* 4.1.4: struct virtio_pci_cap, with what notify (4.1.4.4) and pci_cfg (4.1.4.9) append. */
struct capability {
	uint8_t header[2];
	uint8_t cap_len;
	uint8_t cfg_type;
	uint8_t bar;
	uint8_t id;
	uint8_t padding[2];
	uint32_t offset;
	uint32_t length;
	uint32_t extra; /* notify_off_multiplier or pci_cfg_data */
};
enum {
	CAPABILITY_BYTES = offsetof(struct capability, extra),
	CAPABILITY_EXTRA_BYTES = sizeof(struct capability),
};

static struct virtio_pci *of_function(struct pci_function *f)
{
	return (struct virtio_pci *)f;
}

/* Interrupts the driver, by the vector or, without MSI-X, by ISR and line; lock held. */
static void interrupt(struct virtio_pci *p, uint16_t vector, uint8_t isr)
{
	if (pci_msix_enabled(&p->function)) {
		if (vector != VIRTIO_PCI_NO_VECTOR)
			pci_msix_raise(&p->function, vector);
	} else {
		p->isr |= isr;
		pci_intx_set(&p->function, true);
	}
}

static void interrupt_queue(struct virtio_device *d, unsigned queue)
{
	struct virtio_pci *p = d->transport;

	pthread_mutex_lock(&p->lock);
	interrupt(p, p->queue_vectors[queue], ISR_QUEUE);
	pthread_mutex_unlock(&p->lock);
}

static void interrupt_config(struct virtio_device *d)
{
	struct virtio_pci *p = d->transport;

	pthread_mutex_lock(&p->lock);
	p->generation++;
	if (p->status & VIRTIO_STATUS_DRIVER_OK)
		interrupt(p, p->config_vector, ISR_CONFIG);
	pthread_mutex_unlock(&p->lock);
}

static void needs_reset(struct virtio_device *d)
{
	struct virtio_pci *p = d->transport;

	pthread_mutex_lock(&p->lock);
	p->status |= VIRTIO_STATUS_NEEDS_RESET;
	if (p->status & VIRTIO_STATUS_DRIVER_OK)
		interrupt(p, p->config_vector, ISR_CONFIG);
	pthread_mutex_unlock(&p->lock);
}

static const struct virtio_transport_ops transport_ops = {
	.interrupt_queue = interrupt_queue,
	.interrupt_config = interrupt_config,
	.needs_reset = needs_reset,
};

/* Everything as after power on; lock held. */
static void registers_reset(struct virtio_pci *p)
{
	p->device_feature_select = 0;
	p->driver_feature_select = 0;
	p->driver_features = 0;
	p->config_vector = VIRTIO_PCI_NO_VECTOR;
	p->status = 0;
	p->isr = 0;
	p->queue_select = 0;
	for (unsigned q = 0; q < VIRTIO_QUEUES_MAX; q++) {
		p->queues[q] = (struct virtio_queue_setup){.size = p->device->class->queue_size};
		p->queue_vectors[q] = VIRTIO_PCI_NO_VECTOR;
	}
	pci_intx_set(&p->function, false);
}

static void device_reset(struct virtio_pci *p)
{
	virtio_device_stop(p->device);
	pthread_mutex_lock(&p->lock);
	registers_reset(p);
	pthread_mutex_unlock(&p->lock);
}

/*
 * FEATURES_OK sticks only with VERSION_1 and nothing that was not offered (3.1.1, 6.1); lock held.
 */
static bool features_acceptable(const struct virtio_pci *p)
{
	return (p->driver_features & VIRTIO_F_VERSION_1) &&
	       !(p->driver_features & ~virtio_device_offered(p->device));
}

/*
 * The driver writes the status. It can only add bits (2.1.1) or reset; DEVICE_NEEDS_RESET is not
 * its to set. status_lock held, lock not.
 */
static void status_add(struct virtio_pci *p, uint8_t bits)
{
	struct virtio_queue_setup setup[VIRTIO_QUEUES_MAX];
	uint64_t features;
	uint8_t added;

	pthread_mutex_lock(&p->lock);
	added = bits & (uint8_t) ~(p->status | VIRTIO_STATUS_NEEDS_RESET);
	if ((added & VIRTIO_STATUS_FEATURES_OK) && !features_acceptable(p))
		added &= (uint8_t)~VIRTIO_STATUS_FEATURES_OK;
	/*
	 * A driver that skips FEATURES_OK does not speak this version: it gets no DRIVER_OK either.
	 */
	if (!((p->status | added) & VIRTIO_STATUS_FEATURES_OK))
		added &= (uint8_t)~VIRTIO_STATUS_DRIVER_OK;
	p->status |= added;
	features = p->driver_features;
	memcpy(setup, p->queues, sizeof(setup));
	pthread_mutex_unlock(&p->lock);

	if (added & VIRTIO_STATUS_DRIVER_OK)
		virtio_device_start(p->device, features, setup);
}

static void status_write(struct virtio_pci *p, uint8_t value)
{
	pthread_mutex_lock(&p->status_lock);
	if (value == 0)
		device_reset(p);
	else
		status_add(p, value);
	pthread_mutex_unlock(&p->status_lock);
}

/* The selected queue, NULL when there is no such; lock held. */
static struct virtio_queue_setup *selected_queue(struct virtio_pci *p)
{
	return p->queue_select < p->device->class->n_queues ? &p->queues[p->queue_select] : NULL;
}

static uint32_t feature_word(uint64_t features, uint32_t select)
{
	return select > 1 ? 0 : (uint32_t)(features >> 32 * select);
}

static void put_gpa(uint32_t to[2], uint64_t gpa)
{
	to[0] = (uint32_t)gpa;
	to[1] = (uint32_t)(gpa >> 32);
}

static uint64_t get_gpa(const uint32_t from[2])
{
	return (uint64_t)from[1] << 32 | from[0];
}

/* What the registers read as now; lock held. */
static void common_image(struct virtio_pci *p, struct common_config *ret)
{
	const struct virtio_queue_setup *q = selected_queue(p);

	*ret = (struct common_config){
		.device_feature_select = p->device_feature_select,
		.device_feature =
			feature_word(virtio_device_offered(p->device), p->device_feature_select),
		.driver_feature_select = p->driver_feature_select,
		.driver_feature = feature_word(p->driver_features, p->driver_feature_select),
		.config_msix_vector = p->config_vector,
		.num_queues = (uint16_t)p->device->class->n_queues,
		.device_status = p->status,
		.config_generation = p->generation,
		.queue_select = p->queue_select,
		.queue_msix_vector = VIRTIO_PCI_NO_VECTOR,
	};
	if (!q)
		return;
	ret->queue_size = q->size;
	ret->queue_msix_vector = p->queue_vectors[p->queue_select];
	ret->queue_enable = q->enabled;
	ret->queue_notify_off = p->queue_select;
	put_gpa(ret->queue_desc, q->descriptors_gpa);
	put_gpa(ret->queue_driver, q->driver_gpa);
	put_gpa(ret->queue_device, q->device_gpa);
}

static uint16_t valid_vector(const struct virtio_pci *p, uint16_t vector)
{
	return vector < p->function.n_vectors ? vector : VIRTIO_PCI_NO_VECTOR;
}

/* Takes over one half of the driver's features; they are fixed once accepted. lock held. */
static void driver_feature_write(struct virtio_pci *p, uint32_t value)
{
	unsigned shift = 32 * (p->driver_feature_select & 1);

	if (p->driver_feature_select > 1 || (p->status & VIRTIO_STATUS_FEATURES_OK))
		return;
	p->driver_features &= ~(UINT64_C(0xffffffff) << shift);
	p->driver_features |= (uint64_t)value << shift;
}

/* The access covers at least a part of that field. */
#define TOUCHED(field)                                                                             \
	(offset < offsetof(struct common_config, field) +                                          \
				sizeof(((struct common_config *)NULL)->field) &&                   \
		offset + size > offsetof(struct common_config, field))

/*
 * Takes over what was written to the selected queue; one that is enabled is fixed until the reset
 * (4.1.4.3.2). lock held.
 */
static void common_write_queue(
	struct virtio_pci *p, const struct common_config *c, uint64_t offset, unsigned size)
{
	struct virtio_queue_setup *q = selected_queue(p);

	if (!q)
		return;
	if (TOUCHED(queue_msix_vector))
		p->queue_vectors[p->queue_select] = valid_vector(p, c->queue_msix_vector);
	if (q->enabled)
		return;
	if (TOUCHED(queue_size))
		q->size = c->queue_size;
	if (TOUCHED(queue_desc))
		q->descriptors_gpa = get_gpa(c->queue_desc);
	if (TOUCHED(queue_driver))
		q->driver_gpa = get_gpa(c->queue_driver);
	if (TOUCHED(queue_device))
		q->device_gpa = get_gpa(c->queue_device);
	if (TOUCHED(queue_enable))
		q->enabled = c->queue_enable == 1;
}

/*
 * Writes of any size at any offset: the bytes are laid over what the registers read as, then each
 * field that was touched is taken over from there.
 */
static void common_write(struct virtio_pci *p, uint64_t offset, const uint8_t *data, unsigned size)
{
	struct common_config c;

	pthread_mutex_lock(&p->lock);
	common_image(p, &c);
	memcpy((uint8_t *)&c + offset, data, size);
	if (TOUCHED(device_feature_select))
		p->device_feature_select = c.device_feature_select;
	if (TOUCHED(driver_feature_select))
		p->driver_feature_select = c.driver_feature_select;
	if (TOUCHED(driver_feature))
		driver_feature_write(p, c.driver_feature);
	if (TOUCHED(config_msix_vector))
		p->config_vector = valid_vector(p, c.config_msix_vector);
	if (TOUCHED(queue_select))
		p->queue_select = c.queue_select;
	else
		common_write_queue(p, &c, offset, size);
	pthread_mutex_unlock(&p->lock);
	if (TOUCHED(device_status))
		status_write(p, c.device_status);
}

static void common_read(struct virtio_pci *p, uint64_t offset, uint8_t *data, unsigned size)
{
	struct common_config c;

	pthread_mutex_lock(&p->lock);
	common_image(p, &c);
	pthread_mutex_unlock(&p->lock);
	memcpy(data, (const uint8_t *)&c + offset, size);
}

/* Reading acknowledges (4.1.4.5). */
static uint8_t isr_read(struct virtio_pci *p)
{
	uint8_t isr;

	pthread_mutex_lock(&p->lock);
	isr = p->isr;
	p->isr = 0;
	pci_intx_set(&p->function, false);
	pthread_mutex_unlock(&p->lock);
	return isr;
}

/* Accesses that no structure covers read as the zeros that are in data, and change nothing. */
static void region_read(struct pci_function *f, uint64_t offset, uint8_t *data, unsigned size)
{
	struct virtio_pci *p = of_function(f);
	const struct virtio_class *class = p->device->class;

	if (u64_range_within(offset, size, VIRTIO_PCI_COMMON_OFFSET, sizeof(struct common_config)))
		common_read(p, offset - VIRTIO_PCI_COMMON_OFFSET, data, size);
	else if (offset == VIRTIO_PCI_ISR_OFFSET)
		data[0] = isr_read(p);
	else if (u64_range_within(offset, size, VIRTIO_PCI_DEVICE_OFFSET, class->config_bytes))
		class->config_read(
			p->device, (uint32_t)(offset - VIRTIO_PCI_DEVICE_OFFSET), data, size);
}

static void region_write(
	struct pci_function *f, uint64_t offset, const uint8_t *data, unsigned size)
{
	struct virtio_pci *p = of_function(f);
	const struct virtio_class *class = p->device->class;

	if (u64_range_within(offset, size, VIRTIO_PCI_COMMON_OFFSET, sizeof(struct common_config)))
		common_write(p, offset - VIRTIO_PCI_COMMON_OFFSET, data, size);
	else if (u64_range_within(offset, size, VIRTIO_PCI_DEVICE_OFFSET, class->config_bytes))
		class->config_write(
			p->device, (uint32_t)(offset - VIRTIO_PCI_DEVICE_OFFSET), data, size);
	else if (u64_range_within(offset, size, VIRTIO_PCI_NOTIFY_OFFSET,
			 class->n_queues * VIRTIO_PCI_NOTIFY_STRIDE))
		virtio_device_notify(p->device,
			(unsigned)(offset - VIRTIO_PCI_NOTIFY_OFFSET) / VIRTIO_PCI_NOTIFY_STRIDE);
}

static void bar_read(void *device, uint64_t offset, uint8_t *data, unsigned size)
{
	region_read(device, offset, data, size);
}

static void bar_write(void *device, uint64_t offset, const uint8_t *data, unsigned size)
{
	region_write(device, offset, data, size);
}

/*
 * The window in configuration space for drivers that cannot map the BAR (4.1.4.9): whether an
 * access to [offset, offset + size) touches its data, and what it then reads or writes in the BAR.
 * False for a window that the driver set up wrong.
 */
static bool window_target(
	const struct virtio_pci *p, unsigned offset, unsigned size, struct capability *ret)
{
	unsigned data = p->pci_cfg + (unsigned)offsetof(struct capability, extra);

	if (offset >= data + sizeof(ret->extra) || offset + size <= data)
		return false;
	memcpy(ret, p->function.config + p->pci_cfg, sizeof(*ret));
	return ret->bar == 0 && (ret->length == 1 || ret->length == 2 || ret->length == 4) &&
	       ret->offset % ret->length == 0 &&
	       u64_range_within(ret->offset, ret->length, 0, PCI_BAR_BYTES);
}

static void window_read(struct pci_function *f, unsigned offset, unsigned size)
{
	struct virtio_pci *p = of_function(f);
	struct capability c;

	if (!window_target(p, offset, size, &c))
		return;
	c.extra = 0;
	region_read(f, c.offset, (uint8_t *)&c.extra, c.length);
	memcpy(f->config + p->pci_cfg + offsetof(struct capability, extra), &c.extra,
		sizeof(c.extra));
}

static void window_written(struct pci_function *f, unsigned offset, unsigned size)
{
	struct capability c;

	if (window_target(of_function(f), offset, size, &c))
		region_write(f, c.offset, (const uint8_t *)&c.extra, c.length);
}

/*
 * Doorbells follow the BAR; a queue for which the machine has none is notified by way of the bus.
 */
static void bar_moved(struct pci_function *f, uint64_t gpa)
{
	struct virtio_pci *p = of_function(f);
	struct machine *m = p->machine;

	for (unsigned q = 0; q < p->device->class->n_queues; q++) {
		uint64_t at = VIRTIO_PCI_NOTIFY_OFFSET + q * VIRTIO_PCI_NOTIFY_STRIDE;
		int fd = p->device->doorbells[q];

		if (p->doorbell_set[q])
			m->ops->doorbell_free(m, p->doorbells_gpa + at, 2, fd);
		p->doorbell_set[q] =
			gpa != UINT64_MAX && m->ops->doorbell_new(m, gpa + at, 2, fd) == 0;
	}
	p->doorbells_gpa = gpa;
}

static const struct pci_function_ops function_ops = {
	.config_read = window_read,
	.config_written = window_written,
	.bar_moved = bar_moved,
	.bar = {.read = bar_read, .write = bar_write},
	.quiesce = virtio_pci_quiesce,
	.resume = virtio_pci_resume,
	.save = virtio_pci_save,
	.restore = virtio_pci_restore,
};

/* Adds a capability for `length` bytes at `offset` of the BAR; returns where, or -ENOSPC. */
static int add_capability(
	struct virtio_pci *p, uint8_t type, uint64_t offset, uint32_t length, uint32_t extra)
{
	unsigned bytes = type == CAP_NOTIFY || type == CAP_PCI_CFG ? CAPABILITY_EXTRA_BYTES
								   : CAPABILITY_BYTES;
	struct capability c = {
		.cap_len = (uint8_t)bytes,
		.cfg_type = type,
		.offset = (uint32_t)offset,
		.length = length,
		.extra = extra,
	};

	return pci_function_add_capability(&p->function, CAPABILITY_VENDOR, &c, bytes);
}

static int add_capabilities(struct virtio_pci *p)
{
	const struct virtio_class *class = p->device->class;
	int r;

	r = add_capability(
		p, CAP_COMMON, VIRTIO_PCI_COMMON_OFFSET, sizeof(struct common_config), 0);
	if (r >= 0)
		r = add_capability(p, CAP_NOTIFY, VIRTIO_PCI_NOTIFY_OFFSET,
			class->n_queues * VIRTIO_PCI_NOTIFY_STRIDE, VIRTIO_PCI_NOTIFY_STRIDE);
	if (r >= 0)
		r = add_capability(p, CAP_ISR, VIRTIO_PCI_ISR_OFFSET, 1, 0);
	if (r >= 0 && class->config_bytes > 0)
		r = add_capability(p, CAP_DEVICE, VIRTIO_PCI_DEVICE_OFFSET, class->config_bytes, 0);
	if (r >= 0)
		r = add_capability(p, CAP_PCI_CFG, 0, 0, 0);
	if (r < 0)
		return r;
	p->pci_cfg = (unsigned)r;
	memset(p->function.writable + p->pci_cfg + offsetof(struct capability, bar), 0xff, 1);
	memset(p->function.writable + p->pci_cfg + offsetof(struct capability, offset), 0xff, 12);
	return pci_function_add_msix(
		&p->function, class->n_queues + 1, VIRTIO_PCI_MSIX_OFFSET, VIRTIO_PCI_PBA_OFFSET);
}

int virtio_pci_new(struct machine *m, struct pci_bus *pci, unsigned slot, struct virtio_device *d,
	struct virtio_pci **ret)
{
	struct pci_ids ids = {
		.vendor = VENDOR_VIRTIO,
		.device = (uint16_t)(DEVICE_MODERN + d->class->id),
		.subsystem_vendor = VENDOR_VIRTIO,
		.subsystem = SUBSYSTEM_MODERN,
		.revision = 1,
		.class_code = d->class->pci_class_code,
	};
	_cleanup_(virtio_pci_freep) struct virtio_pci *p = calloc(1, sizeof(*p));
	int r;

	if (!p)
		return -ENOMEM;
	pthread_mutex_init(&p->status_lock, NULL);
	pthread_mutex_init(&p->lock, NULL);
	p->device = d;
	p->machine = m;
	p->doorbells_gpa = UINT64_MAX;
	r = pci_function_init(&p->function, pci, slot, &ids, &function_ops);
	if (r < 0)
		return r;
	r = add_capabilities(p);
	if (r < 0)
		return r;
	registers_reset(p);
	d->transport_ops = &transport_ops;
	d->transport = p;
	pci_function_publish(&p->function);
	*ret = TAKE_PTR(p);
	return 0;
}

void virtio_pci_free(struct virtio_pci *p)
{
	if (!p)
		return;
	pci_function_done(&p->function);
	pthread_mutex_destroy(&p->status_lock);
	pthread_mutex_destroy(&p->lock);
	free(p);
}
