/*
 * Split virtqueues (virtio 1.2, 2.7): the only code that reads rings. Everything in them is the
 * guest's and may change at any time: each field is loaded once, checked, and used from the local
 * copy.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dedup/guest-ram.h"

#define VIRTQ_SIZE_MAX 256

struct virtq_buffer {
	gpa_t gpa;
	uint32_t bytes; /* not 0 */
	uint8_t *host; /* lies in one range of RAM */
};

/*
 * A chain taken from the queue: first what the device reads, then what it writes. At most as many
 * buffers as the queue has descriptors. Buffers of no bytes are left out.
 */
struct virtq_chain {
	bool popped; /* and not yet pushed */
	uint16_t head;
	unsigned n_readable;
	unsigned n_writable;
	uint64_t readable_bytes;
	uint64_t writable_bytes;
	struct virtq_buffer buffers[VIRTQ_SIZE_MAX];
};

struct virtq {
	const struct guest_ram *ram;
	uint16_t size; /* 0: not in use */
	bool event_idx;
	bool indirect;
	bool unwritten; /* set by the device: it writes to no buffer, they only name memory */
	gpa_t used_gpa; /* of our ring, for guest_ram_wrote */
	uint16_t next_avail; /* of the driver's ring, that we look at next */
	uint16_t next_used; /* of our ring, that we fill next */
	uint16_t signalled; /* next_used when the driver was last considered for an interrupt */
	const uint8_t *desc; /* {le64 gpa, le32 bytes, le16 flags, le16 next}[size] */
	uint16_t *avail; /* flags, idx, ring[size], used_event */
	uint16_t *used; /* flags, idx, {id, len}[size], avail_event */
};

enum virtq_flags {
	VIRTQ_EVENT_IDX = 1 << 0,
	VIRTQ_INDIRECT = 1 << 1,
};

/*
 * size: a power of two up to VIRTQ_SIZE_MAX (-EINVAL). Addresses aligned as virtio 1.2, 2.7 wants
 * (-EINVAL) and all of each part in one range of RAM (-EFAULT). Touches no guest memory. *q
 * untouched on failure.
 */
int virtq_init(struct virtq *q, const struct guest_ram *ram, uint16_t size, gpa_t desc, gpa_t avail,
	gpa_t used, unsigned flags);
/* Where both sides stand in the rings: what a snapshot keeps of a queue beside its place. */
struct virtq_position {
	uint16_t next_avail;
	uint16_t next_used;
	uint16_t signalled;
	uint16_t reserved;
};
struct virtq_position virtq_position(const struct virtq *q);
void virtq_set_position(struct virtq *q, struct virtq_position p);
/* Not in use any more. */
void virtq_done(struct virtq *q);

#define VIRTQ_EMPTY 1
/*
 * Takes the next chain. 0, VIRTQ_EMPTY (also when the queue is not in use), or -EPROTO: the ring or
 * the chain breaks the specification (index too far ahead, head or next out of range, longer than
 * the queue or cyclic, readable after writable, nested or malformed indirect table, buffer outside
 * of RAM); nothing was taken then and the device needs a reset. What is writable counts as written
 * (guest_ram_wrote) from here on, but for a queue that is `unwritten`.
 */
int virtq_pop(struct virtq *q, struct virtq_chain *ret);
/* The same; with VIRTQ_EMPTY the driver was asked to notify of the next chain. */
int virtq_next(struct virtq *q, struct virtq_chain *ret);
/*
 * Takes the last pop back, as if it had not been: the chain is popped again when the queue is next
 * looked at. Nothing else was popped from the queue since.
 */
void virtq_unpop(struct virtq *q, struct virtq_chain *c);
/*
 * Gives a popped chain back, the device having written `written` bytes from the start of its
 * writable part.
 */
void virtq_push(struct virtq *q, struct virtq_chain *c, uint32_t written);
/*
 * The same in two steps, for several chains that the driver must find at once: fills the next
 * entries of the used ring, then shows all of them.
 */
void virtq_fill(struct virtq *q, struct virtq_chain *c, uint32_t written);
void virtq_publish(struct virtq *q);
/* Whether what was pushed since the last call deserves an interrupt (virtio 1.2, 2.7.7.2). */
bool virtq_needs_interrupt(struct virtq *q);
/*
 * Asks to be notified of the next chain; true when one is there already: pop again. Called when the
 * queue was found empty.
 */
bool virtq_rearm(struct virtq *q);

/* Copies from the readable part at offset; returns bytes copied, fewer when it ends. */
size_t virtq_chain_read(const struct virtq_chain *c, uint64_t offset, void *ret, size_t bytes);
/* Copies to the writable part at offset; returns bytes copied, fewer when it ends. */
size_t virtq_chain_write(
	const struct virtq_chain *c, uint64_t offset, const void *data, size_t bytes);
