/*
 * Virtio over PCI, modern only, split queues, polled (virtio 1.2, 2.7, 4.1). Devices are found in
 * ring 0 at boot; all else is memory access from ring 3. This is the well-behaved driver; hostile.c
 * uses the registers only.
 */
#pragma once

#include "tests/guest/memd-guest/arch.h"

#define VIRTIO_DEVICES_MAX 16
#define VIRTIO_QUEUE_MAX   128 /* entries that the driver asks for at most */

#define VIRTIO_ID_NET	  1
#define VIRTIO_ID_BLOCK	  2
#define VIRTIO_ID_CONSOLE 3
#define VIRTIO_ID_RNG	  4
#define VIRTIO_ID_BALLOON 5
#define VIRTIO_ID_VSOCK	  19

#define VIRTIO_F_VERSION_1 (UINT64_C(1) << 32)

#define VIRTIO_STATUS_ACKNOWLEDGE 0x01
#define VIRTIO_STATUS_DRIVER	  0x02
#define VIRTIO_STATUS_DRIVER_OK	  0x04
#define VIRTIO_STATUS_FEATURES_OK 0x08
#define VIRTIO_STATUS_NEEDS_RESET 0x40

/* Common configuration (4.1.4.3). */
enum virtio_register {
	VIRTIO_DEVICE_FEATURE_SELECT = 0x00,
	VIRTIO_DEVICE_FEATURE = 0x04,
	VIRTIO_DRIVER_FEATURE_SELECT = 0x08,
	VIRTIO_DRIVER_FEATURE = 0x0c,
	VIRTIO_MSIX_CONFIG = 0x10,
	VIRTIO_NUM_QUEUES = 0x12,
	VIRTIO_STATUS = 0x14,
	VIRTIO_CONFIG_GENERATION = 0x15,
	VIRTIO_QUEUE_SELECT = 0x16,
	VIRTIO_QUEUE_SIZE = 0x18,
	VIRTIO_QUEUE_MSIX = 0x1a,
	VIRTIO_QUEUE_ENABLE = 0x1c,
	VIRTIO_QUEUE_NOTIFY_OFF = 0x1e,
	VIRTIO_QUEUE_DESC = 0x20,
	VIRTIO_QUEUE_DRIVER = 0x28,
	VIRTIO_QUEUE_DEVICE = 0x30,
};

struct virtio_device {
	uint32_t function; /* PCI_ADDRESS */
	unsigned type; /* VIRTIO_ID_... */
	uint64_t common, notify, config; /* addresses of the register blocks */
	uint32_t common_bytes, notify_bytes, config_bytes;
	uint32_t notify_multiplier;
	uint64_t bars[6];
	uint64_t offered, features; /* features is what was agreed */
};

#define VIRTQ_DESC_NEXT	    1
#define VIRTQ_DESC_WRITE    2
#define VIRTQ_DESC_INDIRECT 4
#define VIRTQ_NO_INTERRUPT  1 /* avail flags */

struct virtq_desc {
	uint64_t address;
	uint32_t bytes;
	uint16_t flags;
	uint16_t next;
};

struct virtq_avail {
	uint16_t flags;
	uint16_t index;
	uint16_t ring[VIRTIO_QUEUE_MAX];
};

struct virtq_used {
	uint16_t flags;
	uint16_t index;
	struct {
		uint32_t id;
		uint32_t bytes;
	} ring[VIRTIO_QUEUE_MAX];
};

/* One request is under way at a time, beginning at descriptor 0. */
struct virtqueue {
	struct virtq_desc desc[VIRTIO_QUEUE_MAX] __attribute__((aligned(4096)));
	struct virtq_avail avail;
	struct virtq_used used __attribute__((aligned(4096)));
	uint16_t size;
	uint16_t index;
	uint16_t used_seen;
	bool busy;
	uint64_t doorbell;
};

struct virtio_segment {
	const void *address;
	uint32_t bytes;
};

/* Ring 0, after memory_init. */
void virtio_init(void);
unsigned virtio_n_devices(void);
const struct virtio_device *virtio_device(unsigned i);
/* The first device of that type, or NULL. */
struct virtio_device *virtio_find(unsigned type);

uint32_t virtio_read(const struct virtio_device *d, enum virtio_register reg, unsigned size);
void virtio_write(
	const struct virtio_device *d, enum virtio_register reg, uint32_t value, unsigned size);
uint64_t virtio_offered_features(const struct virtio_device *d);
/* Resets the device and waits until it says so. */
void virtio_reset(const struct virtio_device *d);

/* Resets the device and agrees on VERSION_1 and what of wanted it offers. false: it refuses. */
bool virtio_start(struct virtio_device *d, uint64_t wanted);
/* false: the device has no such queue. Between virtio_start and virtio_driver_ok. */
bool virtio_queue_init(struct virtio_device *d, struct virtqueue *q, uint16_t index);
void virtio_driver_ok(const struct virtio_device *d);

/*
 * Hands n (at most the queue's size) segments to the device, all to read or all to write, and rings
 * its doorbell.
 */
void virtio_submit(
	struct virtqueue *q, const struct virtio_segment *segments, unsigned n, uint16_t flags);
/* The same, the first n_readable segments to read and the others to write. */
void virtio_submit_mixed(struct virtqueue *q, const struct virtio_segment *segments, unsigned n,
	unsigned n_readable);
/* Whether the request under way has come back; then another may be submitted. */
bool virtio_done(struct virtqueue *q);
