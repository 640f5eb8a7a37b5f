/*
 * Split virtqueues (virtio 1.2, 2.7).
 *
 * DOC: what is believed, and when
 * The rings lie in guest memory and the guest may change any byte at any time. So a field is loaded
 * once, by one atomic access, and what was loaded is checked and used; nothing is read twice. Three
 * things bound the work: the driver's index may be ahead of ours by at most the queue size; a
 * chain, with its indirect table, has at most as many descriptors as the queue (2.7.5.3.1), which
 * also ends every cycle; and each buffer lies in one range of RAM, length included. A chain that
 * fails a check is not taken: nothing is pushed for it, since the device needs a reset then and the
 * queue is given up.
 *
 * Must never: wait for the guest, or hand out a pointer without its length.
 */
#include "kvm-glue/virtq.h"

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <string.h>

#include "memd/base/overflow.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "rings are little endian, and so are we");

enum {
	DESC_F_NEXT = 1,
	DESC_F_WRITE = 2,
	DESC_F_INDIRECT = 4,

	AVAIL_F_NO_INTERRUPT = 1,

	/* Both rings begin alike: le16 flags, le16 idx, then the entries. */
	RING_FLAGS = 0,
	RING_IDX = 1,
	RING_ENTRIES = 2,
	USED_ENTRY_WORDS = 4, /* le32 id, le32 len in units of le16 */
};

struct virtq_desc {
	uint64_t gpa;
	uint32_t bytes;
	uint16_t flags;
	uint16_t next;
};

int virtq_init(struct virtq *q, const struct guest_ram *ram, uint16_t size, gpa_t desc, gpa_t avail,
	gpa_t used, unsigned flags)
{
	const uint8_t *desc_host;
	uint16_t *avail_host, *used_host;

	if (size == 0 || size > VIRTQ_SIZE_MAX || (size & (size - 1)) != 0)
		return -EINVAL;
	if (desc.v % 16 != 0 || avail.v % 2 != 0 || used.v % 4 != 0)
		return -EINVAL;
	/* Six bytes more than the entries: flags, index, and the event index behind them. */
	desc_host = guest_ram_ptr(ram, desc, sizeof(struct virtq_desc) * (uint64_t)size);
	avail_host = guest_ram_ptr(ram, avail, 6 + 2 * (uint64_t)size);
	used_host = guest_ram_ptr(ram, used, 6 + 8 * (uint64_t)size);
	if (!desc_host || !avail_host || !used_host)
		return -EFAULT;
	*q = (struct virtq){
		.ram = ram,
		.size = size,
		.event_idx = (flags & VIRTQ_EVENT_IDX) != 0,
		.indirect = (flags & VIRTQ_INDIRECT) != 0,
		.desc = desc_host,
		.avail = avail_host,
		.used = used_host,
		.used_gpa = used,
	};
	return 0;
}

void virtq_done(struct virtq *q)
{
	*q = (struct virtq){0};
}

static uint16_t load16(const uint16_t *p)
{
	return __atomic_load_n(p, __ATOMIC_RELAXED);
}

static void store16(uint16_t *p, uint16_t v)
{
	__atomic_store_n(p, v, __ATOMIC_RELAXED);
}

/*
 * An indirect table may lie at any address, so this is a copy; the fence keeps the compiler from
 * reading there again.
 */
static struct virtq_desc load_desc(const uint8_t *table, unsigned i)
{
	struct virtq_desc d;

	memcpy(&d, table + i * sizeof(d), sizeof(d));
	atomic_signal_fence(memory_order_seq_cst);
	return d;
}

/* Where the walk along a chain stands: in the queue's table, or in an indirect one. */
struct walk {
	const uint8_t *table;
	uint16_t entries;
	unsigned seen; /* descriptors of the chain so far, the one that names an indirect table not
			  counted */
	bool in_indirect;
};

/* Follows a descriptor into its indirect table (2.7.5.3). -EPROTO. */
static int walk_enter_indirect(const struct virtq *q, struct walk *w, const struct virtq_desc *d)
{
	const uint8_t *table;

	if (!q->indirect || w->in_indirect || (d->flags & DESC_F_NEXT))
		return -EPROTO;
	if (d->bytes == 0 || d->bytes % sizeof(*d) != 0 || d->bytes / sizeof(*d) > q->size)
		return -EPROTO;
	table = guest_ram_ptr(q->ram, GPA(d->gpa), d->bytes);
	if (!table)
		return -EPROTO;
	w->table = table;
	w->entries = d->bytes / sizeof(*d);
	w->in_indirect = true;
	return 0;
}

/* Appends one descriptor's buffer. -EPROTO when it is not RAM or comes in the wrong order. */
static int chain_append(const struct virtq *q, struct virtq_chain *c, const struct virtq_desc *d)
{
	struct virtq_buffer *b = &c->buffers[c->n_readable + c->n_writable];
	bool writable = d->flags & DESC_F_WRITE;

	if (!writable && c->n_writable > 0)
		return -EPROTO;
	if (d->bytes == 0)
		return 0;
	b->host = guest_ram_ptr(q->ram, GPA(d->gpa), d->bytes);
	if (!b->host)
		return -EPROTO;
	b->gpa = GPA(d->gpa);
	b->bytes = d->bytes;
	if (writable) {
		c->n_writable++;
		c->writable_bytes += d->bytes;
	} else {
		c->n_readable++;
		c->readable_bytes += d->bytes;
	}
	return 0;
}

static int chain_walk(const struct virtq *q, struct virtq_chain *c)
{
	struct walk w = {.table = q->desc, .entries = q->size};
	uint16_t i = c->head;

	for (;;) {
		struct virtq_desc d;
		int r;

		if (i >= w.entries)
			return -EPROTO;
		d = load_desc(w.table, i);
		if (d.flags & DESC_F_INDIRECT) {
			r = walk_enter_indirect(q, &w, &d);
			if (r < 0)
				return r;
			i = 0;
			continue;
		}
		if (++w.seen > q->size)
			return -EPROTO;
		r = chain_append(q, c, &d);
		if (r < 0)
			return r;
		if (!(d.flags & DESC_F_NEXT))
			return 0;
		i = d.next;
	}
}

/* The driver's index, with everything that it published before it. */
static uint16_t load_avail_idx(const struct virtq *q)
{
	return __atomic_load_n(&q->avail[RING_IDX], __ATOMIC_ACQUIRE);
}

static void note_writes(const struct virtq *q, const struct virtq_chain *c)
{
	for (unsigned i = c->n_readable; i < c->n_readable + c->n_writable; i++)
		guest_ram_wrote(q->ram, c->buffers[i].gpa, c->buffers[i].bytes);
}

int virtq_pop(struct virtq *q, struct virtq_chain *ret)
{
	uint16_t ahead;
	int r;

	if (q->size == 0)
		return VIRTQ_EMPTY;
	ahead = (uint16_t)(load_avail_idx(q) - q->next_avail);
	if (ahead == 0)
		return VIRTQ_EMPTY;
	if (ahead > q->size)
		return -EPROTO;
	assert(!ret->popped);
	ret->head = load16(&q->avail[RING_ENTRIES + q->next_avail % q->size]);
	ret->n_readable = ret->n_writable = 0;
	ret->readable_bytes = ret->writable_bytes = 0;
	r = chain_walk(q, ret);
	if (r < 0)
		return r;
	q->next_avail++;
	ret->popped = true;
	if (!q->unwritten)
		note_writes(q, ret);
	return 0;
}

int virtq_next(struct virtq *q, struct virtq_chain *ret)
{
	int r = virtq_pop(q, ret);

	return r == VIRTQ_EMPTY && virtq_rearm(q) ? virtq_pop(q, ret) : r;
}

void virtq_unpop(struct virtq *q, struct virtq_chain *c)
{
	assert(c->popped && q->size != 0);
	c->popped = false;
	q->next_avail--;
}

struct virtq_position virtq_position(const struct virtq *q)
{
	return (struct virtq_position){
		.next_avail = q->next_avail, .next_used = q->next_used, .signalled = q->signalled};
}

void virtq_set_position(struct virtq *q, struct virtq_position p)
{
	q->next_avail = p.next_avail;
	q->next_used = p.next_used;
	q->signalled = p.signalled;
}

/* Before anything is stored in our ring. */
static void note_used_write(const struct virtq *q)
{
	guest_ram_wrote(q->ram, q->used_gpa,
		RING_ENTRIES * sizeof(uint16_t) +
			USED_ENTRY_WORDS * sizeof(uint16_t) * (uint64_t)q->size +
			sizeof(uint16_t));
}

void virtq_fill(struct virtq *q, struct virtq_chain *c, uint32_t written)
{
	uint16_t *entry;

	assert(c->popped && q->size != 0);
	c->popped = false;
	if (written > 0)
		note_writes(q, c); /* again: it may have waited for long */
	note_used_write(q);
	entry = &q->used[RING_ENTRIES + USED_ENTRY_WORDS * (q->next_used % q->size)];
	__atomic_store_n((uint32_t *)(void *)entry, c->head, __ATOMIC_RELAXED);
	__atomic_store_n((uint32_t *)(void *)(entry + 2), written, __ATOMIC_RELAXED);
	q->next_used++;
}

void virtq_publish(struct virtq *q)
{
	__atomic_store_n(&q->used[RING_IDX], q->next_used, __ATOMIC_RELEASE);
}

void virtq_push(struct virtq *q, struct virtq_chain *c, uint32_t written)
{
	virtq_fill(q, c, written);
	virtq_publish(q);
}

bool virtq_needs_interrupt(struct virtq *q)
{
	uint16_t since, event;

	if (q->size == 0)
		return false;
	since = (uint16_t)(q->next_used - q->signalled);
	if (since == 0)
		return false;
	q->signalled = q->next_used;
	/*
	 * Our index must be visible before we look whether the driver sleeps; it does the same the
	 * other way round.
	 */
	atomic_thread_fence(memory_order_seq_cst);
	if (!q->event_idx)
		return !(load16(&q->avail[RING_FLAGS]) & AVAIL_F_NO_INTERRUPT);
	/*
	 * 2.7.7.2: interrupt when the entry that used_event names is among those pushed since the
	 * last look.
	 */
	event = load16(&q->avail[RING_ENTRIES + q->size]);
	return (uint16_t)(q->next_used - event - 1) < since;
}

bool virtq_rearm(struct virtq *q)
{
	if (q->size == 0)
		return false;
	/* Without the event index the driver always notifies: we never set the flag against it. */
	if (q->event_idx) {
		note_used_write(q);
		store16(&q->used[RING_ENTRIES + USED_ENTRY_WORDS * q->size], q->next_avail);
	}
	atomic_thread_fence(memory_order_seq_cst);
	return load_avail_idx(q) != q->next_avail;
}

/*
 * Calls for the part of [offset, offset + bytes) that each buffer of list holds, in order. Shared
 * by read and write: to is NULL for one, from for the other.
 */
static size_t copy(const struct virtq_buffer *list, unsigned n, uint64_t offset, uint8_t *to,
	const uint8_t *from, size_t bytes)
{
	size_t copied = 0;

	for (unsigned i = 0; i < n && copied < bytes; i++) {
		size_t part;

		if (offset >= list[i].bytes) {
			offset -= list[i].bytes;
			continue;
		}
		part = u64_min(list[i].bytes - offset, bytes - copied);
		if (to)
			memcpy(to + copied, list[i].host + offset, part);
		else
			memcpy(list[i].host + offset, from + copied, part);
		copied += part;
		offset = 0;
	}
	return copied;
}

size_t virtq_chain_read(const struct virtq_chain *c, uint64_t offset, void *ret, size_t bytes)
{
	return copy(c->buffers, c->n_readable, offset, ret, NULL, bytes);
}

size_t virtq_chain_write(
	const struct virtq_chain *c, uint64_t offset, const void *data, size_t bytes)
{
	return copy(c->buffers + c->n_readable, c->n_writable, offset, NULL, data, bytes);
}
