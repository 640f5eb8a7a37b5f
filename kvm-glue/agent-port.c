/*
 * The agent's port (agent-port.h).
 *
 * DOC: flow control
 * Bytes of the guest go to a non-blocking socket: what the socket does not take stays in its chain,
 * which is held until the socket is writable again, and the queue behind it is not looked at; with
 * nobody attached the bytes are dropped and counted. Towards the guest, bytes are read from the
 * socket only when the guest has opened its end and offers a buffer, so they wait in the peer's
 * socket.
 *
 * Must never: block on the socket; keep a byte of the guest's outside of its chain.
 */
#include "kvm-glue/agent-port.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "memd/base/overflow.h"

#define COPY_BYTES 4096

struct agent_port {
	struct virtio_device *device;
	unsigned rx_queue, tx_queue;
	agent_port_changed changed;
	void *context;

	int fd; /* -1: nobody attached */
	struct virtq_chain chain; /* of the receive queue, the one at work */
	struct virtq_chain held; /* of the transmit queue, not passed on completely */
	uint64_t held_done_bytes;
	uint64_t skip_bytes; /* of the next chain of that queue: they were passed on before */
	bool rx_empty; /* wait for a buffer of the guest, not for the socket */
	uint8_t copy[COPY_BYTES];

	pthread_mutex_t lock; /* what follows; never held for longer than a copy */
	int new_fd; /* handed over, not yet taken by the device thread */
	bool has_new;
	struct agent_port_stats stats;
};

int agent_port_new(struct virtio_device *d, unsigned rx_queue, unsigned tx_queue,
	agent_port_changed changed, void *context, struct agent_port **ret)
{
	struct agent_port *p = calloc(1, sizeof(*p));

	if (!p)
		return -ENOMEM;
	pthread_mutex_init(&p->lock, NULL);
	p->device = d;
	p->rx_queue = rx_queue;
	p->tx_queue = tx_queue;
	p->changed = changed;
	p->context = context;
	p->fd = p->new_fd = -1;
	*ret = p;
	return 0;
}

void agent_port_free(struct agent_port *p)
{
	if (!p)
		return;
	cleanup_closep(&p->fd);
	cleanup_closep(&p->new_fd);
	pthread_mutex_destroy(&p->lock);
	free(p);
}

static void count(struct agent_port *p, uint64_t *counter, uint64_t n)
{
	pthread_mutex_lock(&p->lock);
	*counter += n;
	pthread_mutex_unlock(&p->lock);
}

void agent_port_attach(struct agent_port *p, int fd)
{
	pthread_mutex_lock(&p->lock);
	cleanup_closep(&p->new_fd);
	p->new_fd = fd;
	p->has_new = true;
	pthread_mutex_unlock(&p->lock);
}

/* The peer is gone: the guest is told, and what the peer did not take is dropped. */
static void detach(struct agent_port *p)
{
	if (p->fd < 0)
		return;
	cleanup_closep(&p->fd);
	p->fd = -1;
	if (p->held.popped) {
		count(p, &p->stats.dropped_bytes, p->held.readable_bytes - p->held_done_bytes);
		p->held_done_bytes = p->held.readable_bytes;
	}
	p->changed(p->context, false);
}

void agent_port_take(struct agent_port *p)
{
	int fd = -1;
	bool taken;

	pthread_mutex_lock(&p->lock);
	taken = p->has_new;
	if (taken)
		fd = TAKE_FD(p->new_fd);
	p->has_new = false;
	pthread_mutex_unlock(&p->lock);
	if (!taken)
		return;
	detach(p);
	p->fd = fd;
	if (fd >= 0)
		p->changed(p->context, true);
}

bool agent_port_attached(const struct agent_port *p)
{
	return p->fd >= 0;
}

/* Passes the held chain on; true when all of it is gone (or dropped) and the chain was pushed. */
static bool send_held(struct agent_port *p)
{
	while (p->held_done_bytes < p->held.readable_bytes) {
		size_t bytes;
		ssize_t sent;

		if (p->fd < 0) {
			count(p, &p->stats.dropped_bytes, p->held.readable_bytes);
			break;
		}
		bytes = virtq_chain_read(&p->held, p->held_done_bytes, p->copy, sizeof(p->copy));
		sent = send(p->fd, p->copy, bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (sent < 0 && errno == EAGAIN)
			return false;
		if (sent < 0) {
			detach(p);
			continue;
		}
		p->held_done_bytes += (uint64_t)sent;
		count(p, &p->stats.tx_bytes, (uint64_t)sent);
	}
	virtq_push(&p->device->queues[p->tx_queue], &p->held, 0);
	return true;
}

/* From the guest to the peer, until the socket is full or the queue empty. */
int agent_port_serve_tx(struct agent_port *p)
{
	struct virtq *q = &p->device->queues[p->tx_queue];
	int r = 0;

	for (unsigned n = 0; n < q->size && r == 0; n++) {
		if (!p->held.popped) {
			r = virtq_next(q, &p->held);
			if (r != 0)
				break;
			p->held_done_bytes = p->skip_bytes;
			p->skip_bytes = 0;
			if (p->held.n_writable > 0) {
				r = -EPROTO;
				virtq_push(q, &p->held, 0);
				break;
			}
		}
		if (!send_held(p))
			r = VIRTQ_EMPTY; /* of room: the socket says when there is some */
	}
	virtio_device_pushed(p->device, p->tx_queue);
	if (r < 0)
		return r;
	return r == VIRTQ_EMPTY ? 0 : VIRTIO_SERVE_AGAIN;
}

/* From the peer to the guest: only as much as there are buffers for. */
int agent_port_serve_rx(struct agent_port *p, bool guest_open)
{
	struct virtq *q = &p->device->queues[p->rx_queue];
	int r = 0;

	p->rx_empty = false;
	for (unsigned n = 0; n < q->size && guest_open && p->fd >= 0; n++) {
		ssize_t got;

		/*
		 * Look whether there is something before a buffer is taken: a popped chain must be
		 * pushed.
		 */
		got = recv(p->fd, p->copy, 1, MSG_PEEK | MSG_DONTWAIT);
		if (got < 0 && errno == EAGAIN)
			break;
		if (got <= 0) {
			detach(p);
			break;
		}
		r = virtq_next(q, &p->chain);
		if (r != 0) {
			p->rx_empty = r == VIRTQ_EMPTY;
			break;
		}
		if (p->chain.n_readable > 0 || p->chain.writable_bytes == 0) {
			virtq_push(q, &p->chain, 0);
			r = -EPROTO;
			break;
		}
		got = recv(p->fd, p->copy, u64_min(sizeof(p->copy), p->chain.writable_bytes),
			MSG_DONTWAIT);
		if (got < 0)
			got = 0;
		virtq_chain_write(&p->chain, 0, p->copy, (size_t)got);
		virtq_push(q, &p->chain, (uint32_t)got);
		count(p, &p->stats.rx_bytes, (uint64_t)got);
	}
	virtio_device_pushed(p->device, p->rx_queue);
	return r < 0 ? r : 0;
}

void agent_port_watch(const struct agent_port *p, bool guest_open, struct pollfd *ret)
{
	ret->fd = p->fd;
	ret->events = 0;
	if (p->held.popped)
		ret->events |= POLLOUT;
	if (guest_open && p->fd >= 0 && !p->rx_empty)
		ret->events |= POLLIN;
	if (ret->events == 0)
		ret->fd = -1; /* a hang-up is seen when somebody wants to use it */
}

void agent_port_stopped(struct agent_port *p)
{
	p->chain.popped = false;
	p->held.popped = false;
	p->rx_empty = false;
	p->skip_bytes = 0;
}

/* What of a message was passed on already is not sent again when it is popped again. */
uint64_t agent_port_take_back(struct agent_port *p)
{
	if (p->held.popped) {
		virtq_unpop(&p->device->queues[p->tx_queue], &p->held);
		p->skip_bytes = p->held_done_bytes;
	}
	return p->skip_bytes;
}

void agent_port_skip(struct agent_port *p, uint64_t bytes)
{
	p->skip_bytes = bytes;
}

void agent_port_stats_read(struct agent_port *p, struct agent_port_stats *ret)
{
	pthread_mutex_lock(&p->lock);
	*ret = p->stats;
	pthread_mutex_unlock(&p->lock);
}
