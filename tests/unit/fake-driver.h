/*
 * A virtio-pci driver for tests: finds a device by way of configuration space, as a real one would,
 * and drives it. Rings and buffers lie in guest memory at fixed places; each queue has at most
 * FAKE_QUEUE_MAX entries.
 */
#pragma once

#include "fake-machine.h"
#include "kvm-glue/virtio-device.h"

#define FAKE_QUEUE_MAX 256

struct fake_queue {
	uint16_t size;
	uint64_t desc_gpa, avail_gpa, used_gpa;
	uint16_t next_desc; /* descriptors are used round robin */
	uint16_t avail_idx; /* published */
	uint16_t seen_used;
};

struct fake_driver {
	struct fake_machine *f;
	unsigned slot;
	uint64_t bar;
	uint64_t common, isr, device, notify; /* guest physical, from the capabilities */
	uint32_t notify_multiplier;
	uint64_t msix_table;
	uint64_t features; /* negotiated */
	struct fake_queue queues[VIRTIO_QUEUES_MAX];
};

/* Buffers for tests begin here; below are the rings. */
#define FAKE_BUFFERS_GPA UINT64_C(0x100000)

uint32_t fake_config_read(struct fake_machine *f, unsigned slot, unsigned offset, unsigned size);
void fake_config_write(
	struct fake_machine *f, unsigned slot, unsigned offset, unsigned size, uint32_t value);

/*
 * Finds the device in slot, places and enables its BAR, turns MSI-X on with every vector unmasked.
 */
void fake_driver_init(struct fake_driver *d, struct fake_machine *f, unsigned slot);
/*
 * Resets and negotiates: features that are offered and wanted; returns the status after
 * FEATURES_OK.
 */
uint8_t fake_driver_negotiate(struct fake_driver *d, uint64_t wanted);
/* Sets up queue q (vector q + 1) in fresh rings. size 0: as large as the device allows. */
void fake_driver_queue(struct fake_driver *d, unsigned q, uint16_t size);
void fake_driver_ok(struct fake_driver *d);
/* All of it: negotiate, n queues, DRIVER_OK. */
void fake_driver_start(struct fake_driver *d, uint64_t wanted, unsigned n_queues);

uint8_t fake_driver_status(struct fake_driver *d);
void fake_driver_reset(struct fake_driver *d);

struct fake_buffer {
	uint64_t gpa;
	uint32_t bytes;
	bool writable;
};

/* Puts a descriptor into the table as it is. */
void fake_put_desc(struct fake_driver *d, unsigned q, uint16_t i, uint64_t gpa, uint32_t bytes,
	uint16_t flags, uint16_t next);
/* Publishes a head in the available ring without notifying. */
void fake_publish(struct fake_driver *d, unsigned q, uint16_t head);
/* Makes a chain of buffers available; returns its head. */
uint16_t fake_add(struct fake_driver *d, unsigned q, const struct fake_buffer *buffers, unsigned n);
void fake_kick(struct fake_driver *d, unsigned q);
/* Waits for the next used entry; false when none ever came. */
bool fake_wait_used(struct fake_driver *d, unsigned q, uint32_t *ret_id, uint32_t *ret_bytes);
/* A used entry is there now. */
bool fake_has_used(struct fake_driver *d, unsigned q);
/* Waits for status bits to be set; false when they never were. */
bool fake_wait_status(struct fake_driver *d, uint8_t bits);
/*
 * fake_add, fake_kick and fake_wait_used of one chain; fails the test when it does not come back.
 * Returns bytes written.
 */
uint32_t fake_request(
	struct fake_driver *d, unsigned q, const struct fake_buffer *buffers, unsigned n);
/* Vector's interrupts since the last look. */
unsigned fake_vector_take(struct fake_driver *d, unsigned vector);
