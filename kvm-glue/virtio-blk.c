/*
 * virtio-blk (virtio 1.2, 5.2) over a file or a block device (disk.h).
 *
 * DOC: requests, guest memory and the busy rule
 * Data goes between the disk and guest memory without a copy of ours: the kernel gets the guest's
 * buffers. With `direct` it pins those pages, and the hardware writes to them whatever their page
 * tables say: a page that was frozen, found equal to another and replaced meanwhile would lose what
 * was read. So every buffer is marked busy before the kernel hears of it, and done after the kernel
 * has said that it is complete (guest-ram.h): in between nobody freezes, replaces or discards it,
 * and done counts as a write. Marking waits for a freeze that is going on in that chunk; after that
 * the page is what it is, and pinning it for writing breaks a copy on write first. Transfers
 * through the page cache fault like any thread, so they would not need the rule; it is kept for
 * all, since a transfer may change from one way to the other (disk.c). The kernel is given
 * addresses with each request: buffers are never registered with the ring, which would pin them for
 * good.
 *
 * DOC: what is on the disk when
 * With FLUSH a completed write may be in a cache of the host, and a flush (fdatasync) makes those
 * that were completed before it durable. A driver without FLUSH, or that switched the cache off
 * (CONFIG_WCE), has each write done with RWF_DSYNC. Direct I/O changes nothing in that: the disk
 * has a cache too.
 *
 * DOC: reset
 * A reset waits for all requests under way: afterwards nobody writes to the guest's memory any more.
 * Their answers are dropped, with the queues they came from. A device that waits for its reset
 * since the guest broke a rule keeps what is under way until then.
 *
 * Must never: complete a chain twice or not at all.
 */
#include "kvm-glue/virtio-blk.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "kvm-glue/disk.h"
#include "kvm-glue/virtio-device.h"
#include "kvm-glue/virtio-pci.h"
#include "memd/base/overflow.h"

#define F_SIZE_MAX     (UINT64_C(1) << 1)
#define F_SEG_MAX      (UINT64_C(1) << 2)
#define F_RO	       (UINT64_C(1) << 5)
#define F_BLK_SIZE     (UINT64_C(1) << 6)
#define F_FLUSH	       (UINT64_C(1) << 9)
#define F_CONFIG_WCE   (UINT64_C(1) << 11)
#define F_MQ	       (UINT64_C(1) << 12)
#define F_DISCARD      (UINT64_C(1) << 13)
#define F_WRITE_ZEROES (UINT64_C(1) << 14)

#define REQUEST_BYTES_MAX ((uint64_t)VIRTIO_BLK_SEGMENTS_MAX * VIRTIO_BLK_SEGMENT_BYTES)

enum {
	QUEUE_SIZE = 128,
	REQUESTS = 128, /* under way at once, of all queues */
};

enum request_type {
	TYPE_IN = 0,
	TYPE_OUT = 1,
	TYPE_FLUSH = 4,
	TYPE_GET_ID = 8,
	TYPE_DISCARD = 11,
	TYPE_WRITE_ZEROES = 13,
};

enum request_status {
	STATUS_OK = 0,
	STATUS_IOERR = 1,
	STATUS_UNSUPP = 2,
};

/* 5.2.6 */
struct request_header {
	uint32_t type;
	uint32_t reserved;
	uint64_t sector;
};
struct request_segment {
	uint64_t sector;
	uint32_t n_sectors;
	uint32_t flags;
};
#define SEGMENT_UNMAP 1u

/* 5.2.4, little endian and naturally aligned. */
struct blk_config {
	uint64_t capacity;
	uint32_t size_max;
	uint32_t seg_max;
	uint32_t geometry;
	uint32_t blk_size;
	uint64_t topology;
	uint8_t writeback;
	uint8_t unused0;
	uint16_t num_queues;
	uint32_t max_discard_sectors;
	uint32_t max_discard_seg;
	uint32_t discard_sector_alignment;
	uint32_t max_write_zeroes_sectors;
	uint32_t max_write_zeroes_seg;
	uint8_t write_zeroes_may_unmap;
	uint8_t unused1[3];
};
_Static_assert(sizeof(struct blk_config) == 64 && offsetof(struct blk_config, writeback) == 32,
	"as virtio 1.2, 5.2.4 has it");

struct request {
	struct virtq_chain chain;
	unsigned queue;
	uint32_t type;
	struct disk_transfer transfer;
};

struct virtio_blk {
	struct virtio_device device; /* first */
	struct virtio_class class; /* with the number of queues and the features of this one */
	struct virtio_pci *pci;
	struct disk *disk;
	_Atomic uint8_t writeback; /* as the driver switched it */

	/* under run_lock */
	struct request *requests; /* REQUESTS of them; only those in use have memory */
	uint8_t free_list[REQUESTS]; /* the last ones are taken first */
	unsigned n_free;
	bool starved; /* chains wait for a free request */
};
_Static_assert(REQUESTS <= UINT8_MAX + 1, "free_list holds their numbers");
_Static_assert(DISK_IOV_MAX >= VIRTQ_SIZE_MAX, "a chain's buffers fit");

static struct virtio_blk *of_device(struct virtio_device *d)
{
	return (struct virtio_blk *)d;
}

static unsigned number_of(const struct virtio_blk *b, const struct request *rq)
{
	return (unsigned)(rq - b->requests);
}

/* --- guest memory of a request */

/* The buffers that the kernel is given, and whether it writes them. */
static const struct virtq_buffer *data_buffers(const struct request *rq, unsigned *ret_n)
{
	const struct virtq_chain *c = &rq->chain;

	*ret_n = rq->type == TYPE_IN ? c->n_writable : rq->type == TYPE_OUT ? c->n_readable : 0;
	return rq->type == TYPE_IN ? c->buffers + c->n_readable : c->buffers;
}

static void mark_done(struct virtio_blk *b, const struct request *rq, unsigned n)
{
	unsigned all;
	const struct virtq_buffer *list = data_buffers(rq, &all);

	for (unsigned i = 0; i < n && i < all; i++)
		guest_ram_done(b->device.machine->ram, list[i].gpa, list[i].bytes);
}

static int mark_busy(struct virtio_blk *b, const struct request *rq)
{
	unsigned n;
	const struct virtq_buffer *list = data_buffers(rq, &n);

	for (unsigned i = 0; i < n; i++) {
		int r = guest_ram_busy(b->device.machine->ram, list[i].gpa, list[i].bytes);

		if (r < 0) {
			mark_done(b, rq, i);
			return r;
		}
	}
	return 0;
}

/* The data of the buffers from `skip` on, `bytes` of it, is what the transfer moves. */
static void gather(struct request *rq, uint64_t skip, uint64_t bytes)
{
	struct disk_transfer *t = &rq->transfer;
	unsigned n;
	const struct virtq_buffer *list = data_buffers(rq, &n);

	t->bytes = bytes;
	t->n_iov = 0;
	for (unsigned i = 0; i < n && bytes > 0; i++) {
		uint64_t part = u64_min(u64_sub_or_zero(list[i].bytes, skip), bytes);

		if (part > 0)
			t->iov[t->n_iov++] = (struct iovec){list[i].host + skip, part};
		skip = u64_sub_or_zero(skip, list[i].bytes);
		bytes -= part;
	}
}

static bool write_through(const struct virtio_blk *b)
{
	if (b->device.features & F_CONFIG_WCE)
		return !atomic_load(&b->writeback);
	return !(b->device.features & F_FLUSH);
}

/* --- completion */

static void request_free(struct virtio_blk *b, struct request *rq)
{
	b->free_list[b->n_free++] = (uint8_t)number_of(b, rq);
}

/* Hands the chain back with its status, the last writable byte (5.2.6). */
static void finish(struct virtio_blk *b, struct request *rq, enum request_status status)
{
	struct virtq_chain *c = &rq->chain;
	uint8_t byte = (uint8_t)status;

	virtq_chain_write(c, c->writable_bytes - 1, &byte, 1);
	virtq_push(
		&b->device.queues[rq->queue], c, (uint32_t)u64_min(c->writable_bytes, UINT32_MAX));
	request_free(b, rq);
}

/* The disk is done with it, or has only begun (DISK_STARTED). */
static void after(struct virtio_blk *b, struct request *rq, int result)
{
	if (result == DISK_STARTED)
		return;
	mark_done(b, rq, UINT_MAX);
	finish(b, rq, result < 0 ? STATUS_IOERR : STATUS_OK);
}

/* --- requests as they come */

static bool in_capacity(const struct virtio_blk *b, uint64_t sector, uint64_t bytes)
{
	uint64_t offset;

	if (u64_mul_overflows(sector, DISK_SECTOR_BYTES, &offset))
		return false;
	return bytes == 0 ? offset <= b->disk->capacity_bytes
			  : u64_range_within(offset, bytes, 0, b->disk->capacity_bytes);
}

#define ISSUE 1
/* A transfer of all data of the chain: ISSUE, or 0 and its status. */
static int prepare_transfer(
	struct virtio_blk *b, struct request *rq, uint64_t sector, enum request_status *ret_status)
{
	bool in = rq->type == TYPE_IN;
	uint64_t bytes = in ? rq->chain.writable_bytes - 1
			    : rq->chain.readable_bytes - sizeof(struct request_header);

	if (bytes % DISK_SECTOR_BYTES != 0 || bytes > REQUEST_BYTES_MAX ||
		!in_capacity(b, sector, bytes) || (!in && b->disk->read_only)) {
		*ret_status = STATUS_IOERR;
		return 0;
	}
	if (bytes == 0)
		return 0;
	rq->transfer.operation = in ? DISK_READ : DISK_WRITE;
	rq->transfer.durable = write_through(b);
	rq->transfer.offset = sector * DISK_SECTOR_BYTES;
	gather(rq, in ? 0 : sizeof(struct request_header), bytes);
	return ISSUE;
}

/* Discard and write zeroes, of one segment: ISSUE, or 0 and the status. */
static int prepare_zeroes(struct virtio_blk *b, struct request *rq, enum request_status *ret_status)
{
	const bool discard = rq->type == TYPE_DISCARD;
	struct request_segment segment;

	*ret_status = STATUS_UNSUPP;
	if (!(b->device.features & (discard ? F_DISCARD : F_WRITE_ZEROES)))
		return 0;
	*ret_status = STATUS_IOERR;
	if (rq->chain.readable_bytes != sizeof(struct request_header) + sizeof(segment))
		return 0;
	virtq_chain_read(&rq->chain, sizeof(struct request_header), &segment, sizeof(segment));
	if (segment.flags & ~(discard ? 0u : SEGMENT_UNMAP)) {
		*ret_status = STATUS_UNSUPP; /* 5.2.6.2 */
		return 0;
	}
	rq->transfer.bytes = (uint64_t)segment.n_sectors * DISK_SECTOR_BYTES;
	if (segment.n_sectors > VIRTIO_BLK_ZEROES_SECTORS ||
		!in_capacity(b, segment.sector, rq->transfer.bytes))
		return 0;
	*ret_status = STATUS_OK;
	if (rq->transfer.bytes == 0)
		return 0;
	rq->transfer.operation = discard			 ? DISK_DISCARD
				 : segment.flags & SEGMENT_UNMAP ? DISK_ZERO_UNMAP
								 : DISK_ZERO;
	rq->transfer.durable = write_through(b);
	rq->transfer.offset = segment.sector * DISK_SECTOR_BYTES;
	return ISSUE;
}

static void give_id(const struct virtio_blk *b, struct virtq_chain *c)
{
	virtq_chain_write(c, 0, b->disk->serial, u64_min(DISK_SERIAL_BYTES, c->writable_bytes - 1));
}

/* ISSUE, 0 with the status, or -EPROTO when the chain is no request at all. */
static int prepare(struct virtio_blk *b, struct request *rq, enum request_status *ret_status)
{
	struct request_header h;

	if (virtq_chain_read(&rq->chain, 0, &h, sizeof(h)) < sizeof(h) ||
		rq->chain.writable_bytes == 0)
		return -EPROTO;
	rq->type = h.type;
	*ret_status = STATUS_OK;
	switch (h.type) {
	case TYPE_IN:
	case TYPE_OUT:
		return prepare_transfer(b, rq, h.sector, ret_status);
	case TYPE_FLUSH:
		rq->transfer.operation = DISK_FLUSH;
		return ISSUE;
	case TYPE_DISCARD:
	case TYPE_WRITE_ZEROES:
		return prepare_zeroes(b, rq, ret_status);
	case TYPE_GET_ID:
		give_id(b, &rq->chain);
		return 0;
	default:
		*ret_status = STATUS_UNSUPP;
		return 0;
	}
}

/* Takes the chain that was popped into rq on its way. 0, -EPROTO. */
static int begin(struct virtio_blk *b, struct request *rq)
{
	enum request_status status;
	int r = prepare(b, rq, &status);

	if (r == ISSUE && mark_busy(b, rq) < 0) {
		r = 0;
		status = STATUS_IOERR;
	}
	if (r == ISSUE) {
		after(b, rq, disk_start(b->disk, &rq->transfer, number_of(b, rq)));
	} else if (r == 0) {
		finish(b, rq, status);
	} else {
		virtq_push(&b->device.queues[rq->queue], &rq->chain, 0);
		request_free(b, rq);
	}
	return r < 0 ? r : 0;
}

static int blk_serve(struct virtio_device *d, unsigned queue)
{
	struct virtio_blk *b = of_device(d);
	struct virtq *q = &d->queues[queue];
	bool submitted;
	int r = 0;

	for (unsigned n = 0; n < q->size && r == 0; n++) {
		struct request *rq;

		if (b->n_free == 0) {
			b->starved = true;
			r = VIRTQ_EMPTY;
			break;
		}
		rq = &b->requests[b->free_list[b->n_free - 1]];
		r = virtq_next(q, &rq->chain);
		if (r != 0)
			break;
		b->n_free--;
		rq->queue = queue;
		r = begin(b, rq);
	}
	submitted = disk_submit(b->disk);
	virtio_device_pushed(d, queue);
	if (r < 0)
		return r;
	return r == VIRTQ_EMPTY && submitted ? 0 : VIRTIO_SERVE_AGAIN;
}

/* Takes what the ring says is complete. In a device that does not run, nothing goes on. */
static void reap(struct virtio_blk *b)
{
	uint64_t number;
	int64_t result;

	while (disk_next(b->disk, &number, &result)) {
		struct request *rq = &b->requests[number];

		if (b->device.running) {
			after(b, rq, disk_continue(b->disk, &rq->transfer, number, result));
		} else {
			mark_done(b, rq, UINT_MAX);
			rq->chain.popped = false; /* the queue it came from is gone */
			request_free(b, rq);
		}
	}
}

static int blk_woken(struct virtio_device *d)
{
	struct virtio_blk *b = of_device(d);
	bool starved = b->starved;

	reap(b);
	for (unsigned q = 0; q < b->class.n_queues; q++)
		virtio_device_pushed(d, q);
	b->starved = false;
	return disk_submit(b->disk) && !starved ? 0 : VIRTIO_SERVE_AGAIN;
}

static void blk_watch(struct virtio_device *d, struct pollfd *ret)
{
	struct virtio_blk *b = of_device(d);

	if (b->n_free < REQUESTS)
		*ret = (struct pollfd){.fd = disk_fd(b->disk), .events = POLLIN};
}

/* Waits for all that the kernel was asked for. The device does not run. */
static void drain(struct virtio_blk *b)
{
	while (b->n_free < REQUESTS) {
		disk_wait(b->disk);
		reap(b);
	}
}

static void blk_started(struct virtio_device *d)
{
}

static void blk_stopped(struct virtio_device *d)
{
	struct virtio_blk *b = of_device(d);

	drain(b);
	b->starved = false;
	atomic_store(&b->writeback, 1);
}

static void blk_config_read(struct virtio_device *d, uint32_t offset, uint8_t *data, unsigned size)
{
	struct virtio_blk *b = of_device(d);
	const struct blk_config config = {
		.capacity = b->disk->capacity_bytes / DISK_SECTOR_BYTES,
		.size_max = VIRTIO_BLK_SEGMENT_BYTES,
		.seg_max = VIRTIO_BLK_SEGMENTS_MAX,
		.blk_size = DISK_SECTOR_BYTES,
		.writeback = atomic_load(&b->writeback),
		.num_queues = (uint16_t)b->class.n_queues,
		.max_discard_sectors = VIRTIO_BLK_ZEROES_SECTORS,
		.max_discard_seg = 1,
		.discard_sector_alignment = PAGE_BYTES / DISK_SECTOR_BYTES,
		.max_write_zeroes_sectors = VIRTIO_BLK_ZEROES_SECTORS,
		.max_write_zeroes_seg = 1,
		.write_zeroes_may_unmap = 1,
	};

	memcpy(data, (const uint8_t *)&config + offset, size);
}

/* Only the switch of the cache can be written. */
static void blk_config_write(
	struct virtio_device *d, uint32_t offset, const uint8_t *data, unsigned size)
{
	const uint32_t at = offsetof(struct blk_config, writeback);

	if (offset <= at && at < offset + size)
		atomic_store(&of_device(d)->writeback, data[at - offset] & 1);
}

static const struct virtio_class blk_class = {
	.name = "virtio-blk",
	.id = 2,
	.pci_class_code = 0x018000, /* mass storage, other */
	.queue_size = QUEUE_SIZE,
	.features = F_SIZE_MAX | F_SEG_MAX | F_BLK_SIZE | F_FLUSH | F_CONFIG_WCE,
	.config_bytes = sizeof(struct blk_config),
	.config_read = blk_config_read,
	.config_write = blk_config_write,
	.started = blk_started,
	.stopped = blk_stopped,
	.serve = blk_serve,
	.woken = blk_woken,
	.watch = blk_watch,
};

static void blk_free(void *device)
{
	struct virtio_blk *b = device;

	if (!b)
		return;
	virtio_device_halt(&b->device);
	b->device.running = false;
	drain(b);
	virtio_pci_free(b->pci);
	virtio_device_done(&b->device);
	disk_free(b->disk);
	free(b->requests);
	free(b);
}

static int blk_open(const char *spec, void **ret, struct error *e)
{
	_cleanup_(disk_freep) struct disk *disk = NULL;
	struct virtio_blk *b;
	int r = disk_open(spec, &disk, e);

	if (r < 0)
		return r;
	b = calloc(1, sizeof(*b));
	if (b)
		b->requests = calloc(REQUESTS, sizeof(*b->requests));
	if (!b || !b->requests) {
		free(b);
		return error_set(e, -ENOMEM, "out of memory");
	}
	for (unsigned i = 0; i < REQUESTS; i++)
		b->free_list[b->n_free++] = (uint8_t)(REQUESTS - 1 - i);
	b->class = blk_class;
	b->class.n_queues = disk->n_queues;
	b->class.features |= disk->read_only ? F_RO : F_DISCARD | F_WRITE_ZEROES;
	b->class.features |= disk->n_queues > 1 ? F_MQ : 0;
	atomic_init(&b->writeback, 1);
	b->disk = TAKE_PTR(disk);
	*ret = b;
	return 0;
}

static int blk_plug(void *device, struct machine *m, struct pci_bus *pci, unsigned slot)
{
	struct virtio_blk *b = device;
	int r = disk_use_ring(b->disk, REQUESTS);

	if (r < 0)
		log_notice("disk %s: no io_uring here (%s): requests are done one after the other",
			b->disk->serial, strerror(-r));
	r = virtio_device_init(&b->device, &b->class, m);
	if (r == 0)
		r = virtio_pci_new(m, pci, slot, &b->device, &b->pci);
	return r < 0 ? r : virtio_device_run(&b->device);
}

static uint64_t blk_needs_reset(void *device)
{
	return atomic_load(&((struct virtio_blk *)device)->device.needs_reset_count);
}

const struct device_kind virtio_blk_kind = {
	.option = "disk",
	.open = blk_open,
	.plug = blk_plug,
	.free = blk_free,
	.needs_reset = blk_needs_reset,
	.calls = disk_calls,
};
