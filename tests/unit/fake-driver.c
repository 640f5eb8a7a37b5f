/* The driver side of virtio over PCI, for tests. */
#undef NDEBUG /* here asserts are the test's, in every build */
#include "fake-driver.h"

#include <assert.h>
#include <string.h>

#include "kvm-glue/pci.h"
#include "kvm-glue/virtio-pci.h"
#include "wait-until.h"

enum {
	RING_SPACE = 0x8000, /* for the rings of one queue */
};

uint32_t fake_config_read(struct fake_machine *f, unsigned slot, unsigned offset, unsigned size)
{
	fake_io_write(f, 0xcf8, 4, UINT32_C(0x80000000) | slot << 11 | (offset & 0xfc));
	return (uint32_t)fake_io_read(f, (uint16_t)(0xcfc + (offset & 3)), size);
}

void fake_config_write(
	struct fake_machine *f, unsigned slot, unsigned offset, unsigned size, uint32_t value)
{
	fake_io_write(f, 0xcf8, 4, UINT32_C(0x80000000) | slot << 11 | (offset & 0xfc));
	fake_io_write(f, (uint16_t)(0xcfc + (offset & 3)), size, value);
}

static void read_capability(struct fake_driver *d, unsigned at)
{
	unsigned type = fake_config_read(d->f, d->slot, at + 3, 1);
	uint64_t where = d->bar + fake_config_read(d->f, d->slot, at + 8, 4);

	switch (type) {
	case 1:
		d->common = where;
		break;
	case 2:
		d->notify = where;
		d->notify_multiplier = fake_config_read(d->f, d->slot, at + 16, 4);
		break;
	case 3:
		d->isr = where;
		break;
	case 4:
		d->device = where;
		break;
	default:
		break;
	}
}

void fake_driver_init(struct fake_driver *d, struct fake_machine *f, unsigned slot)
{
	unsigned at, limit = 48;

	*d = (struct fake_driver){.f = f, .slot = slot};
	assert(fake_config_read(f, slot, 0, 2) == 0x1af4);
	d->bar = MACHINE_PCI_MMIO_BASE + 0x100000 * slot;
	fake_config_write(f, slot, 0x10, 4, (uint32_t)d->bar);
	fake_config_write(f, slot, 0x04, 2, 0x6);
	for (at = fake_config_read(f, slot, 0x34, 1); at != 0 && limit-- > 0;
		at = fake_config_read(f, slot, at + 1, 1)) {
		unsigned id = fake_config_read(f, slot, at, 1);

		if (id == 0x09)
			read_capability(d, at);
		if (id != 0x11)
			continue;
		d->msix_table = d->bar + fake_config_read(f, slot, at + 4, 4);
		fake_config_write(f, slot, at + 2, 2, 0x8000);
		for (unsigned v = 0; v <= (fake_config_read(f, slot, at + 2, 2) & 0x7ff); v++) {
			fake_mmio_write(f, d->msix_table + v * 16, 4, 0xfee00000);
			fake_mmio_write(f, d->msix_table + v * 16 + 8, 4, slot * 16 + v);
			fake_mmio_write(f, d->msix_table + v * 16 + 12, 4, 0);
		}
	}
	assert(d->common && d->isr && d->notify && d->msix_table);
}

uint8_t fake_driver_status(struct fake_driver *d)
{
	return (uint8_t)fake_mmio_read(d->f, d->common + 0x14, 1);
}

void fake_driver_reset(struct fake_driver *d)
{
	fake_mmio_write(d->f, d->common + 0x14, 1, 0);
}

uint8_t fake_driver_negotiate(struct fake_driver *d, uint64_t wanted)
{
	uint64_t offered = 0;

	fake_driver_reset(d);
	fake_mmio_write(d->f, d->common + 0x14, 1, 1);
	fake_mmio_write(d->f, d->common + 0x14, 1, 3);
	for (unsigned i = 0; i < 2; i++) {
		fake_mmio_write(d->f, d->common + 0x00, 4, i);
		offered |= fake_mmio_read(d->f, d->common + 0x04, 4) << 32 * i;
	}
	d->features = offered & wanted;
	for (unsigned i = 0; i < 2; i++) {
		fake_mmio_write(d->f, d->common + 0x08, 4, i);
		fake_mmio_write(d->f, d->common + 0x0c, 4, (uint32_t)(d->features >> 32 * i));
	}
	fake_mmio_write(d->f, d->common + 0x10, 2, 0);
	fake_mmio_write(d->f, d->common + 0x14, 1, 11);
	return fake_driver_status(d);
}

void fake_driver_queue(struct fake_driver *d, unsigned q, uint16_t size)
{
	struct fake_queue *queue = &d->queues[q];
	uint64_t base = (d->slot * ARRAY_SIZE(d->queues) + q) * RING_SPACE % FAKE_BUFFERS_GPA;

	fake_mmio_write(d->f, d->common + 0x16, 2, q);
	if (size == 0)
		size = (uint16_t)fake_mmio_read(d->f, d->common + 0x18, 2);
	*queue = (struct fake_queue){
		.size = size,
		.desc_gpa = base,
		.avail_gpa = base + 0x2000,
		.used_gpa = base + 0x4000,
	};
	memset(fake_ram(d->f, base, RING_SPACE), 0, RING_SPACE);
	fake_mmio_write(d->f, d->common + 0x18, 2, size);
	fake_mmio_write(d->f, d->common + 0x1a, 2, q + 1);
	fake_mmio_write(d->f, d->common + 0x20, 4, (uint32_t)queue->desc_gpa);
	fake_mmio_write(d->f, d->common + 0x24, 4, queue->desc_gpa >> 32);
	fake_mmio_write(d->f, d->common + 0x28, 8, queue->avail_gpa);
	fake_mmio_write(d->f, d->common + 0x30, 8, queue->used_gpa);
	fake_mmio_write(d->f, d->common + 0x1c, 2, 1);
}

void fake_driver_ok(struct fake_driver *d)
{
	fake_mmio_write(d->f, d->common + 0x14, 1, 15);
}

void fake_driver_start(struct fake_driver *d, uint64_t wanted, unsigned n_queues)
{
	uint8_t status = fake_driver_negotiate(d, wanted);

	assert(status == 11);
	(void)status;
	for (unsigned q = 0; q < n_queues; q++)
		fake_driver_queue(d, q, 0);
	fake_driver_ok(d);
}

void fake_put_desc(struct fake_driver *d, unsigned q, uint16_t i, uint64_t gpa, uint32_t bytes,
	uint16_t flags, uint16_t next)
{
	struct {
		uint64_t gpa;
		uint32_t bytes;
		uint16_t flags, next;
	} desc = {gpa, bytes, flags, next};

	memcpy(fake_ram(d->f, d->queues[q].desc_gpa + i * 16, 16), &desc, 16);
}

void fake_publish(struct fake_driver *d, unsigned q, uint16_t head)
{
	struct fake_queue *queue = &d->queues[q];
	uint16_t *avail = fake_ram(d->f, queue->avail_gpa, 4 + 2 * (uint64_t)queue->size);

	__atomic_store_n(&avail[2 + queue->avail_idx % queue->size], head, __ATOMIC_RELAXED);
	queue->avail_idx++;
	__atomic_store_n(&avail[1], queue->avail_idx, __ATOMIC_RELEASE);
}

uint16_t fake_add(struct fake_driver *d, unsigned q, const struct fake_buffer *buffers, unsigned n)
{
	struct fake_queue *queue = &d->queues[q];
	uint16_t head = queue->next_desc;

	for (unsigned i = 0; i < n; i++) {
		uint16_t at = queue->next_desc, next = (uint16_t)((at + 1) % queue->size);

		fake_put_desc(d, q, at, buffers[i].gpa, buffers[i].bytes,
			(uint16_t)((i + 1 < n ? 1 : 0) | (buffers[i].writable ? 2 : 0)), next);
		queue->next_desc = next;
	}
	fake_publish(d, q, head);
	return head;
}

void fake_kick(struct fake_driver *d, unsigned q)
{
	fake_mmio_write(d->f, d->notify + q * d->notify_multiplier, 2, q);
}

static const uint16_t *used_ring(struct fake_driver *d, unsigned q)
{
	return fake_ram(d->f, d->queues[q].used_gpa, 4 + 8 * (uint64_t)d->queues[q].size);
}

bool fake_has_used(struct fake_driver *d, unsigned q)
{
	return __atomic_load_n(&used_ring(d, q)[1], __ATOMIC_ACQUIRE) != d->queues[q].seen_used;
}

bool fake_wait_used(struct fake_driver *d, unsigned q, uint32_t *ret_id, uint32_t *ret_bytes)
{
	struct fake_queue *queue = &d->queues[q];
	const uint16_t *used = used_ring(d, q);

	if (!COMES_TRUE(fake_has_used(d, q)))
		return false;
	if (ret_id)
		memcpy(ret_id, &used[2 + 4 * (queue->seen_used % queue->size)], 4);
	if (ret_bytes)
		memcpy(ret_bytes, &used[2 + 4 * (queue->seen_used % queue->size) + 2], 4);
	queue->seen_used++;
	return true;
}

bool fake_wait_status(struct fake_driver *d, uint8_t bits)
{
	return COMES_TRUE((fake_driver_status(d) & bits) == bits);
}

uint32_t fake_request(
	struct fake_driver *d, unsigned q, const struct fake_buffer *buffers, unsigned n)
{
	uint16_t head = fake_add(d, q, buffers, n);
	uint32_t id = UINT32_MAX, bytes = 0;
	bool came;

	fake_kick(d, q);
	came = fake_wait_used(d, q, &id, &bytes);
	assert(came && id == head);
	(void)came;
	return bytes;
}

unsigned fake_vector_take(struct fake_driver *d, unsigned vector)
{
	uint32_t data = (uint32_t)fake_mmio_read(d->f, d->msix_table + vector * 16 + 8, 4);

	for (uint32_t gsi = 0; gsi < ARRAY_SIZE(d->f->msis); gsi++)
		if (d->f->msis[gsi].used && !d->f->msis[gsi].masked && d->f->msis[gsi].data == data)
			return fake_msi_take(d->f, gsi);
	return 0;
}
