/* See virtio-frames.h. Must never: look at a frame in guest memory twice; wait. */
#include "kvm-glue/virtio-frames.h"

#include <errno.h>
#include <stdlib.h>

#include "memd/base/cleanup.h"

struct frames {
	struct virtio_device *device;
	const struct frames_ops *ops;
	unsigned pair;
	unsigned to_guest_queue;
	unsigned to_host_queue;
	bool starved; /* the frame for the guest waits for chains */
	size_t to_guest_bytes; /* of the frame that waits, 0: none */
	size_t to_host_bytes;
	unsigned n_chains; /* popped for the frame that waits */
	uint64_t room_bytes; /* in them */
	uint8_t to_guest[FRAMES_BYTES_MAX];
	uint8_t to_host[FRAMES_BYTES_MAX];
	struct virtq_chain chain; /* the one at work, of what the guest sends */
	struct virtq_chain chains[FRAMES_CHAINS_MAX];
};

int frames_new(struct virtio_device *d, const struct frames_ops *ops, unsigned pair,
	unsigned to_guest_queue, unsigned to_host_queue, struct frames **ret)
{
	/* Large, but what is not used is never touched. */
	struct frames *f = calloc(1, sizeof(*f));

	if (!f)
		return -ENOMEM;
	f->device = d;
	f->ops = ops;
	f->pair = pair;
	f->to_guest_queue = to_guest_queue;
	f->to_host_queue = to_host_queue;
	*ret = f;
	return 0;
}

void frames_free(struct frames *f)
{
	free(f);
}

/* --- from the guest */

/* False: the other side takes no more for now. A frame that it refuses is lost, as on any wire. */
static bool send_waiting(struct frames *f)
{
	if (f->to_host_bytes > 0 &&
		f->ops->send(f->device, f->pair, f->to_host, f->to_host_bytes) == -EAGAIN)
		return false;
	f->to_host_bytes = 0;
	return true;
}

/* Takes the frame of a chain; one that is too long is lost. -EPROTO when it is none. */
static int take(struct frames *f, const struct virtq_chain *c)
{
	if (c->n_writable > 0 || c->readable_bytes < f->ops->header_bytes)
		return -EPROTO;
	if (c->readable_bytes <= sizeof(f->to_host))
		f->to_host_bytes = virtq_chain_read(c, 0, f->to_host, sizeof(f->to_host));
	return 0;
}

int frames_serve_to_host(struct frames *f)
{
	struct virtq *q = &f->device->queues[f->to_host_queue];
	int r = 0;

	for (unsigned n = 0; n < q->size && r == 0; n++) {
		if (!send_waiting(f)) {
			r = VIRTQ_EMPTY;
			break;
		}
		r = virtq_next(q, &f->chain);
		if (r != 0)
			break;
		r = take(f, &f->chain);
		virtq_push(q, &f->chain, 0);
	}
	if (r == 0)
		send_waiting(f);
	virtio_device_pushed(f->device, f->to_host_queue);
	if (r < 0)
		return r;
	return r == VIRTQ_EMPTY ? 0 : VIRTIO_SERVE_AGAIN;
}

/* --- to the guest */

/* Pops chains until the waiting frame has room, or cannot get it. 0, VIRTQ_EMPTY, -EPROTO. */
static int find_room(struct frames *f)
{
	const bool merge = f->ops->merges && f->ops->merges(f->device);

	while (f->room_bytes < f->to_guest_bytes && f->n_chains < (merge ? FRAMES_CHAINS_MAX : 1)) {
		struct virtq_chain *c = &f->chains[f->n_chains];
		int r = virtq_next(&f->device->queues[f->to_guest_queue], c);

		if (r != 0)
			return r;
		f->n_chains++;
		f->room_bytes += c->writable_bytes;
		if (c->n_readable > 0 || c->writable_bytes == 0 ||
			(f->n_chains == 1 && c->writable_bytes < f->ops->header_bytes))
			return -EPROTO;
	}
	return 0;
}

/* Gives the chains back, with the frame in them when there is room for it; else it is lost. */
static void deliver(struct frames *f)
{
	struct virtq *q = &f->device->queues[f->to_guest_queue];
	size_t at = 0, bytes = f->room_bytes >= f->to_guest_bytes ? f->to_guest_bytes : 0;

	if (f->ops->merged)
		f->ops->merged(f->to_guest, f->n_chains);
	for (unsigned c = 0; c < f->n_chains; c++) {
		size_t part = virtq_chain_write(&f->chains[c], 0, f->to_guest + at, bytes - at);

		virtq_fill(q, &f->chains[c], (uint32_t)part);
		at += part;
	}
	virtq_publish(q);
	f->n_chains = 0;
	f->room_bytes = f->to_guest_bytes = 0;
}

/* Gives the chains of a frame that broke the rules back, empty. */
static int give_up(struct frames *f)
{
	f->room_bytes = 0;
	deliver(f);
	return -EPROTO;
}

int frames_serve_to_guest(struct frames *f)
{
	struct virtq *q = &f->device->queues[f->to_guest_queue];
	int r = 0;

	f->starved = false;
	for (unsigned n = 0; n < VIRTQ_SIZE_MAX && r == 0; n++) {
		if (f->to_guest_bytes == 0) {
			ssize_t got = f->ops->receive(
				f->device, f->pair, f->to_guest, sizeof(f->to_guest));

			if (got < (ssize_t)f->ops->header_bytes) {
				r = VIRTQ_EMPTY;
				break;
			}
			f->to_guest_bytes = (size_t)got;
		}
		r = q->size > 0 ? find_room(f) : VIRTQ_EMPTY;
		if (r == 0)
			deliver(f);
		else if (r < 0)
			r = give_up(f);
		else
			f->starved = true;
	}
	virtio_device_pushed(f->device, f->to_guest_queue);
	if (r < 0)
		return r;
	return r == 0 ? VIRTIO_SERVE_AGAIN : 0;
}

int frames_woken(struct frames *f)
{
	int received = f->starved ? 0 : frames_serve_to_guest(f);
	int sent = f->to_host_bytes > 0 && received >= 0 ? frames_serve_to_host(f) : 0;

	if (received < 0 || sent < 0)
		return -EPROTO;
	return received > 0 || sent > 0 ? VIRTIO_SERVE_AGAIN : 0;
}

short frames_interest(const struct frames *f)
{
	return (short)((f->starved ? 0 : POLLIN) | (f->to_host_bytes > 0 ? POLLOUT : 0));
}

void frames_reset(struct frames *f)
{
	for (unsigned c = 0; c < f->n_chains; c++)
		f->chains[c].popped = false;
	f->n_chains = 0;
	f->room_bytes = f->to_guest_bytes = f->to_host_bytes = 0;
	f->starved = false;
}
