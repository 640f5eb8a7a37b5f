/*
 * What every virtio device is, whatever it does and whatever transport it sits on: the class (an
 * operations table), the negotiated features, the queues, and the thread that serves them.
 *
 * Who may do what: a transport calls virtio_device_start, _stop and _notify from vCPU threads. The
 * device's own thread calls the class's handlers with `run_lock` held and may block in them on
 * guest memory for as long as one freeze lasts; start and stop wait for it. No other thread takes
 * run_lock: what the control thread needs lies under locks of the class that are never held while
 * guest memory is touched.
 */
#pragma once

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "kvm-glue/machine.h"
#include "kvm-glue/snapshot.h"
#include "kvm-glue/virtq.h"
#include "memd/base/log.h"

/* Feature bits that belong to no device type (virtio 1.2, 6). */
#define VIRTIO_F_INDIRECT_DESC (UINT64_C(1) << 28)
#define VIRTIO_F_EVENT_IDX     (UINT64_C(1) << 29)
#define VIRTIO_F_VERSION_1     (UINT64_C(1) << 32)

#define VIRTIO_QUEUES_MAX 17 /* 8 pairs and a control queue of a network device */

struct virtio_device;

/*
 * One kind of device. Handlers return 0, or a negative errno when the guest broke the rules: the
 * device then needs a reset (virtio 1.2, 2.1.2).
 *
 * config_read/config_write: [offset, offset + size) lies within config_bytes. vCPU threads, several
 *   at a time, no lock held. May be NULL when config_bytes is 0.
 * started: DRIVER_OK; d->features and d->queues are set. stopped: reset, also of a device that
 *   never started: forget chains and whatever the driver said, the rings are gone. Both from a vCPU
 *   thread with run_lock held.
 * serve: the guest notified this queue, or may have. Device thread, run_lock held, the device is
 *   running. Returns VIRTIO_SERVE_AGAIN when it stopped early to let others have the lock.
 * woken: somebody called virtio_device_wake, or the descriptor watched has events. As serve, may be
 *   NULL.
 * watch: the descriptor and events to wait for, fd -1 for none. Device thread, run_lock held; may
 *   be NULL.
 * save: for a snapshot: appends what the device and its driver agreed on beside queues and features.
 *   No chain may stay popped: each is pushed first (with requests under way waited for), or, if it
 *   was its queue's last, taken back by virtq_unpop. run_lock held; the guest goes on afterwards. 0,
 *   -ENOMEM. NULL: the device cannot be saved, and neither can its guest.
 * restore: of a device that was saved; queues and features are there, and `started` was called, if it
 *   was running. Everything is looked at once afterwards. run_lock held. 0, or -EINVAL.
 */
#define VIRTIO_SERVE_AGAIN 1
struct virtio_class {
	const char *name; /* of the thread, and in messages: at most 15 bytes */
	uint16_t id; /* virtio 1.2, 5 */
	uint32_t pci_class_code;
	unsigned n_queues; /* with all features */
	uint16_t queue_size; /* largest, a power of two, at most VIRTQ_SIZE_MAX */
	uint64_t features; /* of this device type */
	uint32_t config_bytes;
	void (*config_read)(struct virtio_device *d, uint32_t offset, uint8_t *data, unsigned size);
	void (*config_write)(
		struct virtio_device *d, uint32_t offset, const uint8_t *data, unsigned size);
	void (*started)(struct virtio_device *d);
	void (*stopped)(struct virtio_device *d);
	int (*serve)(struct virtio_device *d, unsigned queue);
	int (*woken)(struct virtio_device *d);
	void (*watch)(struct virtio_device *d, struct pollfd *ret);
	int (*save)(struct virtio_device *d, struct snapshot_writer *w);
	int (*restore)(struct virtio_device *d, struct snapshot_reader *r);
};

/* What the transport does for the device: thread safe, never takes run_lock. */
struct virtio_transport_ops {
	void (*interrupt_queue)(struct virtio_device *d, unsigned queue);
	/* Configuration changed: generation and interrupt. */
	void (*interrupt_config)(struct virtio_device *d);
	/* The device cannot go on until it is reset: status bit and interrupt. */
	void (*needs_reset)(struct virtio_device *d);
};

/* Embedded in the device of a class, as its first member. */
struct virtio_device {
	const struct virtio_class *class;
	const struct virtio_transport_ops *transport_ops;
	void *transport;
	struct machine *machine;
	int doorbells[VIRTIO_QUEUES_MAX]; /* eventfd of each queue: what an ioeventfd signals */
	int wake_fd;
	pthread_t thread;
	bool thread_started;
	_Atomic bool quit;
	_Atomic uint64_t needs_reset_count; /* times the guest broke a rule */

	pthread_mutex_t turn; /* held only to take run_lock: who waits is next */
	pthread_mutex_t run_lock; /* what follows */
	_Atomic bool running; /* written under run_lock, read by anyone */
	struct log_ratelimit ratelimit;
	bool serve_all; /* look at every queue: after start, or after stopping early */
	uint64_t features; /* negotiated */
	struct virtq queues[VIRTIO_QUEUES_MAX];
};

/* Where the driver put a queue (virtio 1.2, 4.1.4.3). */
struct virtio_queue_setup {
	uint16_t size;
	bool enabled;
	uint64_t descriptors_gpa;
	uint64_t driver_gpa;
	uint64_t device_gpa;
};

/* Makes descriptors and locks of *d (zeroed by the caller); no thread yet. Errno of eventfd. */
int virtio_device_init(
	struct virtio_device *d, const struct virtio_class *class, struct machine *m);
/* Starts the thread: after the transport is connected. Errno of pthread_create. */
int virtio_device_run(struct virtio_device *d);
/* Ends the thread. Safe on a half-built one. */
void virtio_device_halt(struct virtio_device *d);
/* Closes what init made; after halt, and after the transport let go of the doorbells. */
void virtio_device_done(struct virtio_device *d);

/* All features the device offers. */
uint64_t virtio_device_offered(const struct virtio_device *d);

/*
 * The driver is ready: sets up the queues and lets the thread serve them. A queue that is not where
 * or what a queue can be breaks the device, like any other rule the guest breaks.
 */
void virtio_device_start(struct virtio_device *d, uint64_t features,
	const struct virtio_queue_setup setup[VIRTIO_QUEUES_MAX]);
/* Reset: when it returns the thread touches the rings no more. */
void virtio_device_stop(struct virtio_device *d);
/* The guest notified a queue and no ioeventfd took it. */
void virtio_device_notify(struct virtio_device *d, unsigned queue);
/* The device pushed chains: interrupts the driver if it wants that. run_lock held. */
void virtio_device_pushed(struct virtio_device *d, unsigned queue);
/* Has the device thread call `woken`. Any thread. */
void virtio_device_wake(struct virtio_device *d);
/*
 * The guest broke a rule: counts, logs with a limit, stops serving until the reset, tells the
 * driver. run_lock held.
 */
void virtio_device_break(struct virtio_device *d, const char *what);

/*
 * For a snapshot: between the two the device's thread stands still. By one thread that is neither a
 * vCPU's nor the control thread's.
 */
void virtio_device_quiesce(struct virtio_device *d);
void virtio_device_unquiesce(struct virtio_device *d);
/* Quiesced. -EOPNOTSUPP: the device cannot be saved. */
int virtio_device_save(struct virtio_device *d, struct snapshot_writer *w, struct error *e);
/*
 * What virtio_device_start does, for a device that ran in the snapshot, or, with setup NULL, for one
 * that did not; and the rest of its state. -EINVAL.
 */
int virtio_device_restore(struct virtio_device *d, uint64_t features,
	const struct virtio_queue_setup *setup, struct snapshot_reader *r);
