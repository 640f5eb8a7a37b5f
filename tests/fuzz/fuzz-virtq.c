/*
 * Rings of any content: the input is laid over descriptor table, rings and indirect tables of a
 * queue. Whatever is taken must keep to what virtq.h promises.
 *
 * Input: byte 0: log2 of the size; byte 1: flags; the rest: memory from RING_GPA.
 */
#include <stdlib.h>
#include <string.h>

#include "kvm-glue/virtq.h"
#include "memd/base/overflow.h"
#include "tests/unit/fake-machine.h"

enum {
	RING_GPA = 0x1000,
	AVAIL_GPA = RING_GPA + 0x400,
	USED_GPA = RING_GPA + 0x800,
	RING_BYTES = 0x2000,
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool holds)
{
	if (!holds)
		abort();
}

static void check_chain(struct fake_machine *f, const struct virtq *q, const struct virtq_chain *c)
{
	uint64_t readable = 0, writable = 0;

	check(c->popped && c->n_readable + c->n_writable <= q->size && c->head < q->size);
	for (unsigned i = 0; i < c->n_readable + c->n_writable; i++) {
		const struct virtq_buffer *b = &c->buffers[i];

		check(b->bytes > 0 && b->host == fake_ram(f, b->gpa.v, b->bytes));
		*(i < c->n_readable ? &readable : &writable) += b->bytes;
	}
	check(readable == c->readable_bytes && writable == c->writable_bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct fake_machine *f;
	static struct virtq_chain chain;
	uint8_t copy[64];
	struct virtq q;

	if (!f)
		f = fake_machine_new();
	if (size < 2)
		return 0;
	memset(fake_ram(f, RING_GPA, RING_BYTES), 0, RING_BYTES);
	memcpy(fake_ram(f, RING_GPA, RING_BYTES), data + 2, u64_min(size - 2, RING_BYTES));
	if (virtq_init(&q, f->machine.ram, (uint16_t)(1 << (data[0] & 15)), GPA(RING_GPA),
		    GPA(AVAIL_GPA), GPA(USED_GPA), data[1]) < 0)
		return 0;
	for (unsigned i = 0; i < VIRTQ_SIZE_MAX && virtq_pop(&q, &chain) == 0; i++) {
		check_chain(f, &q, &chain);
		check(virtq_chain_read(&chain, i, copy, sizeof(copy)) <= sizeof(copy));
		check(virtq_chain_write(&chain, i, copy, sizeof(copy)) <= sizeof(copy));
		virtq_push(&q, &chain, i);
		virtq_needs_interrupt(&q);
	}
	virtq_rearm(&q);
	return 0;
}
