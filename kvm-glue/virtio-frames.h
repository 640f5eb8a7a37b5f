/*
 * Messages between a pair of a device's queues (one that the driver fills, one that it empties) and
 * a descriptor of ours: what a network device and vsock have in common. Everything with the device's
 * run_lock held, but for frames_new and frames_free.
 *
 * DOC: frames
 * Each frame is copied once, between guest memory and a buffer of the pair: what is looked at or
 * handed on cannot change under our feet, and a frozen page makes nobody wait but this thread. A
 * frame from the guest that the other side does not take now waits in that buffer, and the queue
 * behind it is not looked at; a frame for the guest that finds no room in its queue waits in the
 * other one, and the other side is not asked for more. So neither can make us keep more than a
 * frame a pair each way.
 *
 * Where buffers merge, a frame takes as many chains as it needs: they are popped until there is
 * room, filled, and given back at once, since the driver must find them all when it finds the first.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "kvm-glue/virtio-device.h"

#define FRAMES_BYTES_MAX  (65536 + 64) /* of a frame, with its header */
#define FRAMES_CHAINS_MAX 64 /* of one that is merged */

struct frames;

/*
 * Nonblocking. send: 0, -EAGAIN when it is to be tried again once the descriptor is writable; any
 * other error means that the frame is lost. receive: the size of the next frame with its header,
 * -EAGAIN for none.
 */
struct frames_ops {
	int (*send)(struct virtio_device *d, unsigned pair, const uint8_t *frame, size_t bytes);
	ssize_t (*receive)(struct virtio_device *d, unsigned pair, uint8_t *ret, size_t max);
	/*
	 * Whether a frame for the guest may be merged from several chains, and what is to be done to
	 * its header then. NULL: it lies in one chain or is lost.
	 */
	bool (*merges)(struct virtio_device *d);
	void (*merged)(uint8_t *frame, unsigned n_chains);
	size_t header_bytes; /* a frame has at least these, and the first chain room for them */
};

/* pair: the number that ops get. Queues: the one that the driver empties, the one that it fills. */
int frames_new(struct virtio_device *d, const struct frames_ops *ops, unsigned pair,
	unsigned to_guest_queue, unsigned to_host_queue, struct frames **ret);
void frames_free(struct frames *f);

/*
 * From the guest, until its queue is empty or the other side full; to the guest, until there is
 * nothing or no room. 0, VIRTIO_SERVE_AGAIN, -EPROTO.
 */
int frames_serve_to_host(struct frames *f);
int frames_serve_to_guest(struct frames *f);
/* The descriptor has events. */
int frames_woken(struct frames *f);
/* POLLIN, POLLOUT: what the descriptor is to be watched for. */
short frames_interest(const struct frames *f);
/* Reset: what waits is forgotten; the chains are gone with their queues. */
void frames_reset(struct frames *f);
