/* See virtio.h. */
#include "tests/guest/memd-guest/virtio.h"
#include "tests/guest/memd-guest/memory.h"
#include "tests/guest/memd-guest/pci.h"

#define VIRTIO_VENDOR	    0x1af4
#define VIRTIO_DEVICE_FIRST 0x1041 /* modern: 0x1040 plus the type */
#define VIRTIO_DEVICE_LAST  0x107f
#define VIRTIO_DEVICE_BASE  0x1040

#define CAPABILITY_VENDOR 0x09
#define CAPABILITIES_MAX  48 /* a list longer than configuration space has room for is a loop */
#define CAPABILITY_COMMON 1
#define CAPABILITY_NOTIFY 2
#define CAPABILITY_CONFIG 4

static struct virtio_device devices[VIRTIO_DEVICES_MAX];
static unsigned n_devices;

static void add_capability(struct virtio_device *d, uint32_t at)
{
	unsigned type = pci_read(at + 3, 1);
	unsigned bar = pci_read(at + 4, 1);
	uint32_t offset = pci_read(at + 8, 4);
	uint32_t bytes = pci_read(at + 12, 4);
	uint64_t address;

	if (bar >= PCI_N_BARS || !d->bars[bar])
		return;
	address = d->bars[bar] + offset;
	memory_map_device(address, bytes);
	/* of several of one type the first is preferred (4.1.4.1) */
	if (type == CAPABILITY_COMMON && !d->common) {
		d->common = address;
		d->common_bytes = bytes;
	} else if (type == CAPABILITY_NOTIFY && !d->notify) {
		d->notify = address;
		d->notify_bytes = bytes;
		d->notify_multiplier = pci_read(at + 16, 4);
	} else if (type == CAPABILITY_CONFIG && !d->config) {
		d->config = address;
		d->config_bytes = bytes;
	}
}

static void add_device(uint32_t function, unsigned type)
{
	struct virtio_device *d = &devices[n_devices];
	uint32_t at = pci_read(function + PCI_CAPABILITY, 1);

	d->function = function;
	d->type = type;
	pci_enable(function, d->bars);
	for (unsigned i = 0; at && i < CAPABILITIES_MAX; i++) {
		uint32_t head = pci_read(function + (at & ~3u), 2);

		if ((head & 0xff) == CAPABILITY_VENDOR)
			add_capability(d, function + (at & ~3u));
		at = head >> 8;
	}
	if (d->common && d->notify)
		n_devices++;
}

void virtio_init(void)
{
	for (unsigned i = 0; i < 32 && n_devices < VIRTIO_DEVICES_MAX; i++) {
		uint32_t function = PCI_ADDRESS(i, 0);
		uint32_t id = pci_read(function + PCI_VENDOR, 4);
		unsigned device = id >> 16;

		if ((id & 0xffff) == VIRTIO_VENDOR && device >= VIRTIO_DEVICE_FIRST &&
			device <= VIRTIO_DEVICE_LAST)
			add_device(function, device - VIRTIO_DEVICE_BASE);
	}
}

unsigned virtio_n_devices(void)
{
	return n_devices;
}

const struct virtio_device *virtio_device(unsigned i)
{
	return &devices[i];
}

struct virtio_device *virtio_find(unsigned type)
{
	for (unsigned i = 0; i < n_devices; i++) {
		if (devices[i].type == type)
			return &devices[i];
	}
	return NULL;
}

uint32_t virtio_read(const struct virtio_device *d, enum virtio_register reg, unsigned size)
{
	uint64_t at = d->common + reg;

	return size == 1   ? MMIO_READ(uint8_t, at)
	       : size == 2 ? MMIO_READ(uint16_t, at)
			   : MMIO_READ(uint32_t, at);
}

void virtio_write(
	const struct virtio_device *d, enum virtio_register reg, uint32_t value, unsigned size)
{
	uint64_t at = d->common + reg;

	if (size == 1)
		MMIO_WRITE(uint8_t, at, (uint8_t)value);
	else if (size == 2)
		MMIO_WRITE(uint16_t, at, (uint16_t)value);
	else
		MMIO_WRITE(uint32_t, at, value);
}

uint64_t virtio_offered_features(const struct virtio_device *d)
{
	uint64_t features;

	virtio_write(d, VIRTIO_DEVICE_FEATURE_SELECT, 1, 4);
	features = (uint64_t)virtio_read(d, VIRTIO_DEVICE_FEATURE, 4) << 32;
	virtio_write(d, VIRTIO_DEVICE_FEATURE_SELECT, 0, 4);
	return features | virtio_read(d, VIRTIO_DEVICE_FEATURE, 4);
}

void virtio_reset(const struct virtio_device *d)
{
	virtio_write(d, VIRTIO_STATUS, 0, 1);
	while (virtio_read(d, VIRTIO_STATUS, 1))
		cpu_relax();
}

/* 3.1.1, the order of steps. */
bool virtio_start(struct virtio_device *d, uint64_t wanted)
{
	uint8_t status = VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER;

	virtio_reset(d);
	virtio_write(d, VIRTIO_STATUS, VIRTIO_STATUS_ACKNOWLEDGE, 1);
	virtio_write(d, VIRTIO_STATUS, status, 1);
	d->offered = virtio_offered_features(d);
	d->features = d->offered & (wanted | VIRTIO_F_VERSION_1);
	virtio_write(d, VIRTIO_DRIVER_FEATURE_SELECT, 0, 4);
	virtio_write(d, VIRTIO_DRIVER_FEATURE, (uint32_t)d->features, 4);
	virtio_write(d, VIRTIO_DRIVER_FEATURE_SELECT, 1, 4);
	virtio_write(d, VIRTIO_DRIVER_FEATURE, (uint32_t)(d->features >> 32), 4);
	virtio_write(d, VIRTIO_STATUS, status | VIRTIO_STATUS_FEATURES_OK, 1);
	return virtio_read(d, VIRTIO_STATUS, 1) & VIRTIO_STATUS_FEATURES_OK;
}

static void write_address(const struct virtio_device *d, enum virtio_register reg, const void *p)
{
	virtio_write(d, reg, (uint32_t)(uintptr_t)p, 4);
	virtio_write(d, reg + 4, (uint32_t)((uintptr_t)p >> 32), 4);
}

bool virtio_queue_init(struct virtio_device *d, struct virtqueue *q, uint16_t index)
{
	uint16_t size;

	virtio_write(d, VIRTIO_QUEUE_SELECT, index, 2);
	size = (uint16_t)virtio_read(d, VIRTIO_QUEUE_SIZE, 2);
	if (!size)
		return false;
	q->size = MIN(size, VIRTIO_QUEUE_MAX);
	q->index = index;
	q->avail.flags = VIRTQ_NO_INTERRUPT;
	virtio_write(d, VIRTIO_QUEUE_SIZE, q->size, 2);
	write_address(d, VIRTIO_QUEUE_DESC, q->desc);
	write_address(d, VIRTIO_QUEUE_DRIVER, &q->avail);
	write_address(d, VIRTIO_QUEUE_DEVICE, &q->used);
	q->doorbell = d->notify +
		      (uint64_t)virtio_read(d, VIRTIO_QUEUE_NOTIFY_OFF, 2) * d->notify_multiplier;
	virtio_write(d, VIRTIO_QUEUE_ENABLE, 1, 2);
	return true;
}

void virtio_driver_ok(const struct virtio_device *d)
{
	virtio_write(
		d, VIRTIO_STATUS, virtio_read(d, VIRTIO_STATUS, 1) | VIRTIO_STATUS_DRIVER_OK, 1);
}

void virtio_submit(
	struct virtqueue *q, const struct virtio_segment *segments, unsigned n, uint16_t flags)
{
	virtio_submit_mixed(q, segments, n, flags & VIRTQ_DESC_WRITE ? 0 : n);
}

void virtio_submit_mixed(struct virtqueue *q, const struct virtio_segment *segments, unsigned n,
	unsigned n_readable)
{
	for (unsigned i = 0; i < n; i++) {
		q->desc[i].address = (uintptr_t)segments[i].address;
		q->desc[i].bytes = segments[i].bytes;
		q->desc[i].flags = (i < n_readable ? 0 : VIRTQ_DESC_WRITE) |
				   (i + 1 < n ? VIRTQ_DESC_NEXT : 0);
		q->desc[i].next = (uint16_t)(i + 1);
	}
	q->avail.ring[q->avail.index % q->size] = 0;
	q->busy = true;
	compiler_barrier();
	MMIO_WRITE(uint16_t, &q->avail.index, q->avail.index + 1);
	full_barrier();
	MMIO_WRITE(uint16_t, q->doorbell, q->index);
}

bool virtio_done(struct virtqueue *q)
{
	if (MMIO_READ(uint16_t, &q->used.index) == q->used_seen)
		return false;
	compiler_barrier();
	q->used_seen++;
	q->busy = false;
	return true;
}
