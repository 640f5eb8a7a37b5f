/*
 * virtio-rng (virtio 1.2, 5.4): one queue, whose buffers are filled from getrandom(2). The bytes
 * are the host kernel's own generator's, which cannot be drained, so there is nothing to ration but
 * time: a buffer is filled up to VIRTIO_RNG_REQUEST_MAX_BYTES.
 *
 * Must never: hand out bytes twice, or fewer random ones than it says.
 */
#include "kvm-glue/virtio-rng.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/syscall.h>

#include "kvm-glue/virtio-device.h"
#include "kvm-glue/virtio-pci.h"
#include "memd/base/overflow.h"

enum {
	QUEUE_SIZE = 16,
	COPY_BYTES = 256, /* what getrandom(2) always gives whole, once the kernel is seeded */
};

struct virtio_rng {
	struct virtio_device device; /* first */
	struct virtio_pci *pci;
	struct virtq_chain chain;
};

/* Fills the chain as far as is allowed; returns how far. */
static uint32_t fill(struct virtq_chain *c)
{
	uint8_t bytes[COPY_BYTES];
	uint64_t end = u64_min(c->writable_bytes, VIRTIO_RNG_REQUEST_MAX_BYTES), at;

	for (at = 0; at < end;) {
		ssize_t got = getrandom(bytes, u64_min(sizeof(bytes), end - at), 0);

		if (got <= 0)
			break;
		virtq_chain_write(c, at, bytes, (size_t)got);
		at += (uint64_t)got;
	}
	explicit_bzero(bytes, sizeof(bytes));
	return (uint32_t)at;
}

static int rng_serve(struct virtio_device *d, unsigned queue)
{
	struct virtio_rng *rng = (struct virtio_rng *)d;
	struct virtq *q = &d->queues[queue];
	int r = 0;

	for (unsigned n = 0; n < q->size && r == 0; n++) {
		uint32_t written;

		r = virtq_next(q, &rng->chain);
		if (r != 0)
			break;
		/* 5.4.6.1: the driver gives buffers to be written only */
		if (rng->chain.n_readable > 0 || rng->chain.writable_bytes == 0)
			r = -EPROTO;
		written = r == 0 ? fill(&rng->chain) : 0;
		virtq_push(q, &rng->chain, written);
	}
	virtio_device_pushed(d, queue);
	if (r < 0)
		return r;
	return r == VIRTQ_EMPTY ? 0 : VIRTIO_SERVE_AGAIN;
}

static void rng_started(struct virtio_device *d)
{
}

static void rng_stopped(struct virtio_device *d)
{
}

static const struct virtio_class rng_class = {
	.name = "virtio-rng",
	.id = 4,
	.pci_class_code = 0x100000, /* encryption controller: closest there is */
	.n_queues = 1,
	.queue_size = QUEUE_SIZE,
	.started = rng_started,
	.stopped = rng_stopped,
	.serve = rng_serve,
};

static int rng_open(const char *spec, void **ret, struct error *e)
{
	struct virtio_rng *rng = calloc(1, sizeof(*rng));

	if (!rng)
		return error_set(e, -ENOMEM, "out of memory");
	*ret = rng;
	return 0;
}

static int rng_plug(void *device, struct machine *m, struct pci_bus *pci, unsigned slot)
{
	struct virtio_rng *rng = device;
	int r;

	r = virtio_device_init(&rng->device, &rng_class, m);
	if (r == 0)
		r = virtio_pci_new(m, pci, slot, &rng->device, &rng->pci);
	return r < 0 ? r : virtio_device_run(&rng->device);
}

static void rng_free(void *device)
{
	struct virtio_rng *rng = device;

	if (!rng)
		return;
	virtio_device_halt(&rng->device);
	virtio_pci_free(rng->pci);
	virtio_device_done(&rng->device);
	free(rng);
}

static uint64_t rng_needs_reset(void *device)
{
	return atomic_load(&((struct virtio_rng *)device)->device.needs_reset_count);
}

static const int rng_calls[] = {SYS_getrandom, -1};

const struct device_kind virtio_rng_kind = {
	.option = "rng",
	.open = rng_open,
	.plug = rng_plug,
	.free = rng_free,
	.needs_reset = rng_needs_reset,
	.calls = rng_calls,
};
