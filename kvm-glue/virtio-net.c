/*
 * virtio-net (virtio 1.2, 5.1): frames (virtio-frames.h) between the guest's queues and a network
 * backend. Several pairs: the driver says how many it uses (5.1.6.5.5), the backend spreads its
 * frames over those. One thread serves them all.
 */
#include "kvm-glue/virtio-net.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>

#include "kvm-glue/net-backend.h"
#include "kvm-glue/virtio-device.h"
#include "kvm-glue/virtio-frames.h"
#include "kvm-glue/virtio-pci.h"

enum {
	QUEUE_SIZE = 256,
	HEADER_NUM_BUFFERS = 10, /* offset of that field */
	STATUS_LINK_UP = 1,

	/* 5.1.6.5 */
	CONTROL_MQ = 4,
	CONTROL_MQ_PAIRS = 0,
	CONTROL_OK = 0,
	CONTROL_ERR = 1,
};
_Static_assert(2 * NET_PAIRS_MAX + 1 <= VIRTIO_QUEUES_MAX, "all pairs and the control queue fit");

/* 5.1.4 */
struct net_config {
	uint8_t mac[NET_MAC_BYTES];
	uint16_t status;
	uint16_t max_virtqueue_pairs;
	uint16_t mtu;
};
_Static_assert(sizeof(struct net_config) == 12, "as virtio 1.2, 5.1.4 has it");

struct virtio_net {
	struct virtio_device device; /* first */
	struct virtio_class class; /* with the queues and features of this one */
	struct virtio_pci *pci;
	struct net_backend *backend;
	int epoll_fd; /* of all pairs: one descriptor to watch */

	/* under run_lock */
	unsigned n_active; /* pairs that the driver uses */
	struct virtq_chain chain; /* the one at work, of the control queue */
	struct frames *pairs[NET_PAIRS_MAX];
	uint32_t interest[NET_PAIRS_MAX]; /* epoll events that are asked for now */
};

static struct virtio_net *of_device(struct virtio_device *d)
{
	return (struct virtio_net *)d;
}

/* What of the pair's descriptor is waited for. */
static void show_interest(struct virtio_net *n, unsigned i)
{
	struct epoll_event event = {.data.u32 = i};
	short wanted = n->device.running ? frames_interest(n->pairs[i]) : 0;

	if ((wanted & POLLIN) && i < n->n_active)
		event.events |= EPOLLIN;
	if (wanted & POLLOUT)
		event.events |= EPOLLOUT;
	if (event.events == n->interest[i])
		return;
	n->interest[i] = event.events;
	epoll_ctl(n->epoll_fd, EPOLL_CTL_MOD, n->backend->fds[i], &event);
}

/* --- frames */

static int send_frame(struct virtio_device *d, unsigned pair, const uint8_t *frame, size_t bytes)
{
	struct net_backend *b = of_device(d)->backend;

	return b->ops->send(b, pair, frame, bytes);
}

static ssize_t receive_frame(struct virtio_device *d, unsigned pair, uint8_t *ret, size_t max)
{
	struct net_backend *b = of_device(d)->backend;

	return pair < of_device(d)->n_active ? b->ops->receive(b, pair, ret, max) : -EAGAIN;
}

static bool merges(struct virtio_device *d)
{
	return d->features & VIRTIO_NET_F_MRG_RXBUF;
}

/* 5.1.6.4 */
static void merged(uint8_t *frame, unsigned n_chains)
{
	const uint16_t num_buffers = (uint16_t)n_chains;

	memcpy(frame + HEADER_NUM_BUFFERS, &num_buffers, sizeof(num_buffers));
}

static const struct frames_ops frames_ops = {
	.send = send_frame,
	.receive = receive_frame,
	.merges = merges,
	.merged = merged,
	.header_bytes = NET_HEADER_BYTES,
};

/* --- control */

static unsigned control_queue(const struct virtio_net *n)
{
	return n->device.features & VIRTIO_NET_F_MQ ? 2 * n->backend->n_pairs : 2;
}

static void use_pairs(struct virtio_net *n, unsigned n_pairs)
{
	n->n_active = n_pairs;
	n->backend->ops->set_pairs(n->backend, n_pairs);
	for (unsigned i = 0; i < n->backend->n_pairs; i++)
		show_interest(n, i);
}

static uint8_t control(struct virtio_net *n, const struct virtq_chain *c)
{
	struct {
		uint8_t class, command;
		uint16_t pairs;
	} m;

	if (virtq_chain_read(c, 0, &m, sizeof(m)) < sizeof(m) || m.class != CONTROL_MQ ||
		m.command != CONTROL_MQ_PAIRS || !(n->device.features & VIRTIO_NET_F_MQ))
		return CONTROL_ERR;
	if (m.pairs == 0 || m.pairs > n->backend->n_pairs)
		return CONTROL_ERR;
	use_pairs(n, m.pairs);
	return CONTROL_OK;
}

static int serve_control(struct virtio_net *n, unsigned queue)
{
	struct virtq *q = &n->device.queues[queue];
	int r = 0;

	for (unsigned done = 0; done < q->size && r == 0; done++) {
		uint8_t answer = CONTROL_ERR;
		size_t written = 0;

		r = virtq_next(q, &n->chain);
		if (r != 0)
			break;
		if (n->chain.n_readable == 0 || n->chain.writable_bytes == 0) {
			r = -EPROTO;
		} else {
			answer = control(n, &n->chain);
			written = virtq_chain_write(&n->chain, 0, &answer, sizeof(answer));
		}
		virtq_push(q, &n->chain, (uint32_t)written);
	}
	virtio_device_pushed(&n->device, queue);
	if (r < 0)
		return r;
	return r == VIRTQ_EMPTY ? 0 : VIRTIO_SERVE_AGAIN;
}

/* --- the class */

static int net_serve(struct virtio_device *d, unsigned queue)
{
	struct virtio_net *n = of_device(d);
	unsigned pair = queue / 2;
	int r;

	if ((d->features & VIRTIO_NET_F_CTRL_VQ) && queue == control_queue(n))
		return serve_control(n, queue);
	if (pair >= n->backend->n_pairs)
		return 0;
	r = queue % 2 ? frames_serve_to_host(n->pairs[pair])
		      : frames_serve_to_guest(n->pairs[pair]);
	show_interest(n, pair);
	return r;
}

static int net_woken(struct virtio_device *d)
{
	struct virtio_net *n = of_device(d);
	int result = 0;

	for (unsigned i = 0; i < n->backend->n_pairs; i++) {
		int r = frames_woken(n->pairs[i]);

		if (r < 0)
			return r;
		if (r > 0)
			result = r;
		show_interest(n, i);
	}
	return result;
}

static void net_watch(struct virtio_device *d, struct pollfd *ret)
{
	*ret = (struct pollfd){.fd = of_device(d)->epoll_fd, .events = POLLIN};
}

static void net_started(struct virtio_device *d)
{
	struct virtio_net *n = of_device(d);

	n->backend->ops->set_offloads(n->backend, d->features);
	use_pairs(n, 1);
}

static void net_stopped(struct virtio_device *d)
{
	struct virtio_net *n = of_device(d);

	for (unsigned i = 0; i < n->backend->n_pairs; i++) {
		frames_reset(n->pairs[i]);
		show_interest(n, i);
	}
	n->n_active = 0;
}

static void net_config_read(struct virtio_device *d, uint32_t offset, uint8_t *data, unsigned size)
{
	const struct virtio_net *n = of_device(d);
	struct net_config config = {
		.status = STATUS_LINK_UP,
		.max_virtqueue_pairs = (uint16_t)n->backend->n_pairs,
	};

	memcpy(config.mac, n->backend->mac, sizeof(config.mac));
	memcpy(data, (const uint8_t *)&config + offset, size);
}

/* Nothing in it is the driver's to write (5.1.4.1). */
static void net_config_write(
	struct virtio_device *d, uint32_t offset, const uint8_t *data, unsigned size)
{
}

static const struct virtio_class net_class = {
	.name = "virtio-net",
	.id = 1,
	.pci_class_code = 0x020000, /* Ethernet controller */
	.queue_size = QUEUE_SIZE,
	.features = VIRTIO_NET_F_MAC | VIRTIO_NET_F_STATUS | VIRTIO_NET_F_MRG_RXBUF,
	.config_bytes = sizeof(struct net_config),
	.config_read = net_config_read,
	.config_write = net_config_write,
	.started = net_started,
	.stopped = net_stopped,
	.serve = net_serve,
	.woken = net_woken,
	.watch = net_watch,
};

static void net_free(void *device)
{
	struct virtio_net *n = device;

	if (!n)
		return;
	virtio_device_halt(&n->device);
	virtio_pci_free(n->pci);
	virtio_device_done(&n->device);
	net_backend_free(n->backend);
	cleanup_closep(&n->epoll_fd);
	for (unsigned i = 0; i < NET_PAIRS_MAX; i++)
		frames_free(n->pairs[i]);
	free(n);
}

static void cleanup_net(struct virtio_net **n)
{
	net_free(*n);
}

static int watch_backend(struct virtio_net *n)
{
	n->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (n->epoll_fd < 0)
		return -errno;
	for (unsigned i = 0; i < n->backend->n_pairs; i++) {
		struct epoll_event event = {.data.u32 = i};

		if (epoll_ctl(n->epoll_fd, EPOLL_CTL_ADD, n->backend->fds[i], &event) < 0)
			return -errno;
	}
	return 0;
}

int virtio_net_new(struct net_backend *backend, void **ret, struct error *e)
{
	_cleanup_(cleanup_net) struct virtio_net *n = calloc(1, sizeof(*n));
	int r;

	if (!n) {
		net_backend_free(backend);
		return error_set(e, -ENOMEM, "out of memory");
	}
	n->epoll_fd = -1;
	n->backend = backend;
	for (unsigned i = 0; i < backend->n_pairs; i++)
		if (frames_new(&n->device, &frames_ops, i, 2 * i, 2 * i + 1, &n->pairs[i]) < 0)
			return error_set(e, -ENOMEM, "out of memory");
	r = watch_backend(n);
	if (r < 0)
		return error_set(e, r, "epoll: %s", strerror(-r));
	n->class = net_class;
	n->class.features |= backend->ops->offloads;
	n->class.n_queues = 2;
	if (backend->n_pairs > 1) {
		n->class.features |= VIRTIO_NET_F_CTRL_VQ | VIRTIO_NET_F_MQ;
		n->class.n_queues = 2 * backend->n_pairs + 1;
	}
	*ret = TAKE_PTR(n);
	return 0;
}

static int net_open(const char *spec, void **ret, struct error *e)
{
	struct net_backend *backend;
	int r = net_backend_open(spec, &backend, e);

	return r < 0 ? r : virtio_net_new(backend, ret, e);
}

static int net_plug(void *device, struct machine *m, struct pci_bus *pci, unsigned slot)
{
	struct virtio_net *n = device;
	int r = virtio_device_init(&n->device, &n->class, m);

	if (r == 0)
		r = virtio_pci_new(m, pci, slot, &n->device, &n->pci);
	return r < 0 ? r : virtio_device_run(&n->device);
}

static uint64_t net_needs_reset(void *device)
{
	return atomic_load(&((struct virtio_net *)device)->device.needs_reset_count);
}

static const int net_calls[] = {SYS_epoll_ctl, -1};

const struct device_kind virtio_net_kind = {
	.option = "net",
	.open = net_open,
	.plug = net_plug,
	.free = net_free,
	.needs_reset = net_needs_reset,
	.calls = net_calls,
};
