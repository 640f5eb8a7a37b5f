/*
 * virtio-vsock (virtio 1.2, 5.10): packets go through, as frames (virtio-frames.h), to memd-vsock,
 * which keeps the connections (vsock-relay.h). Here only the addresses are checked: what the guest
 * sends comes from its CID and goes to the host.
 *
 * Must never: know what a connection is.
 */
#include "kvm-glue/virtio-vsock.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "kvm-glue/helper.h"
#include "kvm-glue/virtio-frames.h"
#include "kvm-glue/virtio-pci.h"
#include "kvm-glue/vsock-relay.h"
#include "memd/base/ipc.h"
#include "memd/base/units.h"

enum {
	QUEUE_RX = 0,
	QUEUE_TX = 1,
	QUEUE_EVENT = 2, /* transport resets, for guests that move: there are none */
	N_QUEUES = 3,
	QUEUE_SIZE = 128,
	CID_MIN = 3,
};

struct virtio_vsock {
	struct virtio_device device; /* first */
	struct virtio_pci *pci;
	uint64_t guest_cid;
	int fd;
	struct frames *frames;
	bool reset_due; /* the relay has still to hear that connections are gone; under run_lock */
};

static struct virtio_vsock *of_device(struct virtio_device *d)
{
	return (struct virtio_vsock *)d;
}

/* Tells the relay that the connections of the driver before are nobody's. False: not yet. */
static bool reset_relay(struct virtio_vsock *v)
{
	const struct vsock_header h = {.op = VSOCK_OP_RESET_ALL};

	if (v->reset_due)
		v->reset_due = send(v->fd, &h, sizeof(h), MSG_DONTWAIT | MSG_NOSIGNAL) < 0 &&
			       errno == EAGAIN;
	return !v->reset_due;
}

static int send_packet(struct virtio_device *d, unsigned pair, const uint8_t *packet, size_t bytes)
{
	struct virtio_vsock *v = of_device(d);
	struct vsock_header h;

	if (!reset_relay(v))
		return -EAGAIN;
	memcpy(&h, packet, sizeof(h));
	if (h.src_cid != v->guest_cid || h.dst_cid != VSOCK_HOST_CID || h.op == VSOCK_OP_RESET_ALL)
		return -EINVAL;
	return send(v->fd, packet, bytes, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

static ssize_t receive_packet(struct virtio_device *d, unsigned pair, uint8_t *ret, size_t max)
{
	ssize_t n = recv(of_device(d)->fd, ret, max, MSG_DONTWAIT);

	return n <= 0 ? -EAGAIN : n; /* also when the relay is gone: nothing comes any more */
}

static const struct frames_ops frames_ops = {
	.send = send_packet,
	.receive = receive_packet,
	.header_bytes = VSOCK_HEADER_BYTES,
};

static int vsock_serve(struct virtio_device *d, unsigned queue)
{
	switch (queue) {
	case QUEUE_RX:
		return frames_serve_to_guest(of_device(d)->frames);
	case QUEUE_TX:
		return frames_serve_to_host(of_device(d)->frames);
	default:
		return 0;
	}
}

static int vsock_woken(struct virtio_device *d)
{
	reset_relay(of_device(d));
	return frames_woken(of_device(d)->frames);
}

static void vsock_watch(struct virtio_device *d, struct pollfd *ret)
{
	const struct virtio_vsock *v = of_device(d);
	short events = (short)(frames_interest(v->frames) | (v->reset_due ? POLLOUT : 0));

	*ret = (struct pollfd){.fd = events ? v->fd : -1, .events = events};
}

static void vsock_started(struct virtio_device *d)
{
	of_device(d)->reset_due = true;
	reset_relay(of_device(d));
}

static void vsock_stopped(struct virtio_device *d)
{
	frames_reset(of_device(d)->frames);
}

static void vsock_config_read(
	struct virtio_device *d, uint32_t offset, uint8_t *data, unsigned size)
{
	memcpy(data, (const uint8_t *)&of_device(d)->guest_cid + offset, size);
}

/* The number is not the driver's to choose (5.10.4). */
static void vsock_config_write(
	struct virtio_device *d, uint32_t offset, const uint8_t *data, unsigned size)
{
}

static const struct virtio_class vsock_class = {
	.name = "virtio-vsock",
	.id = 19,
	.pci_class_code = 0x078000, /* communication controller, other */
	.n_queues = N_QUEUES,
	.queue_size = QUEUE_SIZE,
	.config_bytes = sizeof(uint64_t),
	.config_read = vsock_config_read,
	.config_write = vsock_config_write,
	.started = vsock_started,
	.stopped = vsock_stopped,
	.serve = vsock_serve,
	.woken = vsock_woken,
	.watch = vsock_watch,
};

static void vsock_free(void *device)
{
	struct virtio_vsock *v = device;

	if (!v)
		return;
	virtio_device_halt(&v->device);
	virtio_pci_free(v->pci);
	virtio_device_done(&v->device);
	cleanup_closep(&v->fd);
	frames_free(v->frames);
	free(v);
}

int virtio_vsock_new(uint64_t guest_cid, int packet_fd, void **ret, struct error *e)
{
	_cleanup_close_ int fd = packet_fd;
	struct virtio_vsock *v = calloc(1, sizeof(*v));

	if (!v || frames_new(&v->device, &frames_ops, 0, QUEUE_RX, QUEUE_TX, &v->frames) < 0) {
		free(v);
		return error_set(e, -ENOMEM, "out of memory");
	}
	v->guest_cid = guest_cid;
	v->fd = TAKE_FD(fd);
	*ret = v;
	return 0;
}

/* "CID,PATH" */
static int vsock_open(const char *spec, void **ret, struct error *e)
{
	char cid_text[12], *argv[] = {NULL, cid_text, NULL, NULL};
	const char *path = strchr(spec, ',');
	_cleanup_close_ int listen_fd = -1;
	uint64_t cid;
	int fd, r;

	r = device_spec_first(spec, cid_text, sizeof(cid_text), e);
	if (r == 0)
		r = units_parse_u64(cid_text, UINT32_MAX - 1, &cid, e);
	if (r == 0 && cid < CID_MIN)
		r = error_set(e, -ERANGE, "the first CID that is a guest's is %d", CID_MIN);
	if (r < 0)
		return r;
	if (!path || path[1] != '/' || strlen(path + 1) > VIRTIO_VSOCK_PATH_MAX)
		return error_set(e, -EINVAL,
			"CID,PATH: the absolute path of a socket, at most %d bytes",
			VIRTIO_VSOCK_PATH_MAX);
	argv[2] = (char *)(uintptr_t)(path + 1); /* not written to */
	listen_fd = ipc_listen_stream(path + 1, 0600);
	if (listen_fd < 0)
		return error_set(e, listen_fd, "socket %s: %s", path + 1, strerror(-listen_fd));
	r = helper_start(VSOCK_PROGRAM, argv, listen_fd, &fd, e);
	return r < 0 ? r : virtio_vsock_new(cid, fd, ret, e);
}

static int vsock_plug(void *device, struct machine *m, struct pci_bus *pci, unsigned slot)
{
	struct virtio_vsock *v = device;
	int r = virtio_device_init(&v->device, &vsock_class, m);

	if (r == 0)
		r = virtio_pci_new(m, pci, slot, &v->device, &v->pci);
	return r < 0 ? r : virtio_device_run(&v->device);
}

static uint64_t vsock_needs_reset(void *device)
{
	return atomic_load(&((struct virtio_vsock *)device)->device.needs_reset_count);
}

static const int vsock_calls[] = {-1};

const struct device_kind virtio_vsock_kind = {
	.option = "vsock",
	.open = vsock_open,
	.plug = vsock_plug,
	.free = vsock_free,
	.needs_reset = vsock_needs_reset,
	.calls = vsock_calls,
};
