/* Split virtqueues: what is taken from a ring, what is refused, what is written back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "fake-machine.h"
#include "kvm-glue/virtq.h"
#include "memd/base/overflow.h"

enum {
	SIZE = 8,
	DESC = 0x1000,
	AVAIL = 0x2000,
	USED = 0x3000,
	DATA = 0x10000,
	TABLE = 0x4000, /* indirect */

	NEXT = 1,
	WRITE = 2,
	INDIRECT = 4,
};

static struct fake_machine *f;
static struct virtq q;
static struct virtq_chain chain;

static int setup(void **state)
{
	f = fake_machine_new();
	chain = (struct virtq_chain){0};
	return virtq_init(
		&q, f->machine.ram, SIZE, GPA(DESC), GPA(AVAIL), GPA(USED), VIRTQ_INDIRECT);
}

static int teardown(void **state)
{
	fake_machine_free(f);
	return 0;
}

static void put_desc(
	uint64_t table, unsigned i, uint64_t gpa, uint32_t bytes, uint16_t flags, uint16_t next)
{
	struct {
		uint64_t gpa;
		uint32_t bytes;
		uint16_t flags, next;
	} d = {gpa, bytes, flags, next};

	memcpy(fake_ram(f, table + i * 16, 16), &d, 16);
}

static uint16_t *ring16(uint64_t gpa, unsigned i)
{
	return (uint16_t *)fake_ram(f, gpa, 2048) + i;
}

/* Makes head available. */
static void offer(uint16_t head)
{
	uint16_t idx = *ring16(AVAIL, 1);

	*ring16(AVAIL, 2 + idx % SIZE) = head;
	*ring16(AVAIL, 1) = (uint16_t)(idx + 1);
}

static void takes_a_chain_in_order(void **state)
{
	put_desc(DESC, 3, DATA, 100, NEXT, 1);
	put_desc(DESC, 1, DATA + 0x1000, 50, NEXT, 6);
	put_desc(DESC, 6, DATA + 0x2000, 30, WRITE, 0);
	offer(3);
	assert_int_equal(virtq_pop(&q, &chain), 0);
	assert_int_equal(chain.head, 3);
	assert_int_equal(chain.n_readable, 2);
	assert_int_equal(chain.n_writable, 1);
	assert_int_equal(chain.readable_bytes, 150);
	assert_int_equal(chain.writable_bytes, 30);
	assert_int_equal(chain.buffers[2].gpa.v, DATA + 0x2000);
	assert_ptr_equal(chain.buffers[2].host, fake_ram(f, DATA + 0x2000, 30));
	virtq_push(&q, &chain, 7);
	assert_int_equal(*ring16(USED, 1), 1);
	assert_int_equal(*ring16(USED, 2), 3); /* id */
	assert_int_equal(*ring16(USED, 4), 7); /* bytes */
	assert_int_equal(virtq_pop(&q, &chain), VIRTQ_EMPTY);
}

static void leaves_out_empty_buffers(void **state)
{
	put_desc(DESC, 0, DATA, 0, NEXT, 1);
	put_desc(DESC, 1, 0x7000000000000000, 0, NEXT, 2);
	put_desc(DESC, 2, DATA, 1, 0, 0);
	offer(0);
	assert_int_equal(virtq_pop(&q, &chain), 0);
	assert_int_equal(chain.n_readable, 1);
	virtq_push(&q, &chain, 0);
}

/* n descriptors in a row; the last without NEXT. */
static void put_row(uint64_t table, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		put_desc(table, i, DATA + 0x100 * i, 16, i + 1 < n ? NEXT : 0, (uint16_t)(i + 1));
}

static void takes_chains_up_to_the_queue_size(void **state)
{
	put_row(DESC, SIZE);
	offer(0);
	assert_int_equal(virtq_pop(&q, &chain), 0);
	assert_int_equal(chain.n_readable, SIZE);
	virtq_push(&q, &chain, 0);
}

static void refuses_a_cyclic_chain(void **state)
{
	put_row(DESC, SIZE);
	put_desc(DESC, SIZE - 1, DATA, 16, NEXT, 0);
	offer(0);
	assert_int_equal(virtq_pop(&q, &chain), -EPROTO);
	assert_false(chain.popped);
}

static void refuses_a_head_outside_of_the_table(void **state)
{
	put_row(DESC, SIZE);
	offer(SIZE);
	assert_int_equal(virtq_pop(&q, &chain), -EPROTO);
}

static void takes_the_last_head_of_the_table(void **state)
{
	put_desc(DESC, SIZE - 1, DATA, 16, 0, 0);
	offer(SIZE - 1);
	assert_int_equal(virtq_pop(&q, &chain), 0);
	virtq_push(&q, &chain, 0);
}

static void refuses_a_next_outside_of_the_table(void **state)
{
	put_desc(DESC, 0, DATA, 16, NEXT, SIZE);
	offer(0);
	assert_int_equal(virtq_pop(&q, &chain), -EPROTO);
}

static void refuses_readable_after_writable(void **state)
{
	put_desc(DESC, 0, DATA, 16, NEXT | WRITE, 1);
	put_desc(DESC, 1, DATA, 16, 0, 0);
	offer(0);
	assert_int_equal(virtq_pop(&q, &chain), -EPROTO);
}

static void refuses_buffers_outside_of_ram(void **state)
{
	static const struct {
		uint64_t gpa;
		uint32_t bytes;
	} bad[] = {
		{FAKE_LOW_BYTES, 1},
		{FAKE_LOW_BYTES - 1, 2},
		{UINT64_MAX, 1},
		{UINT64_MAX, 2},
		{UINT64_MAX - 4095, 4096},
		{0, UINT32_MAX},
		{MACHINE_HIGH_RAM_BASE - 1, 2},
		{MACHINE_HIGH_RAM_BASE + FAKE_HIGH_BYTES - 1, 2},
		{MACHINE_PCI_MMIO_BASE, 16},
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		put_desc(DESC, 0, bad[i].gpa, bad[i].bytes, 0, 0);
		if (i == 0)
			offer(0);
		assert_int_equal(virtq_pop(&q, &chain), -EPROTO);
	}
	put_desc(DESC, 0, FAKE_LOW_BYTES - 1, 1, 0, 0);
	assert_int_equal(virtq_pop(&q, &chain), 0);
	virtq_push(&q, &chain, 0);
}

static void refuses_an_index_too_far_ahead(void **state)
{
	put_row(DESC, 1);
	*ring16(AVAIL, 1) = SIZE + 1;
	assert_int_equal(virtq_pop(&q, &chain), -EPROTO);
	*ring16(AVAIL, 1) = SIZE;
	for (unsigned i = 0; i < SIZE; i++) {
		assert_int_equal(virtq_pop(&q, &chain), 0);
		virtq_push(&q, &chain, 0);
	}
	assert_int_equal(virtq_pop(&q, &chain), VIRTQ_EMPTY);
}

static void takes_an_indirect_table(void **state)
{
	put_row(TABLE + 4, SIZE); /* an odd place is allowed */
	put_desc(DESC, 2, TABLE + 4, SIZE * 16, INDIRECT | WRITE, 0);
	offer(2);
	assert_int_equal(virtq_pop(&q, &chain), 0);
	assert_int_equal(chain.n_readable, SIZE);
	assert_int_equal(chain.head, 2);
	virtq_push(&q, &chain, 0);
}

static void takes_an_indirect_table_after_a_direct_buffer(void **state)
{
	put_desc(DESC, 0, DATA, 16, NEXT, 1);
	put_desc(DESC, 1, TABLE, 16, INDIRECT, 0);
	put_desc(TABLE, 0, DATA, 16, WRITE, 0);
	offer(0);
	assert_int_equal(virtq_pop(&q, &chain), 0);
	assert_int_equal(chain.n_readable, 1);
	assert_int_equal(chain.n_writable, 1);
	virtq_push(&q, &chain, 0);
}

static void refuses_indirect_chains_longer_than_the_queue(void **state)
{
	put_row(TABLE, SIZE);
	put_desc(DESC, 0, DATA, 16, NEXT, 1);
	put_desc(DESC, 1, TABLE, SIZE * 16, INDIRECT, 0);
	offer(0);
	assert_int_equal(virtq_pop(&q, &chain), -EPROTO); /* 1 + SIZE */
	put_row(TABLE, SIZE - 1);
	assert_int_equal(virtq_pop(&q, &chain), 0); /* 1 + SIZE - 1 */
	virtq_push(&q, &chain, 0);
}

static void refuses_malformed_indirect_tables(void **state)
{
	static const struct {
		uint64_t gpa;
		uint32_t bytes;
		uint16_t flags;
	} bad[] = {
		{TABLE, 0, INDIRECT},
		{TABLE, 15, INDIRECT},
		{TABLE, 17, INDIRECT},
		{TABLE, (SIZE + 1) * 16, INDIRECT},
		{TABLE, UINT32_MAX - 15, INDIRECT},
		{TABLE, 16, INDIRECT | NEXT},
		{FAKE_LOW_BYTES - 8, 16, INDIRECT},
	};

	put_row(TABLE, 1);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		put_desc(DESC, 0, bad[i].gpa, bad[i].bytes, bad[i].flags, 0);
		if (i == 0)
			offer(0);
		assert_int_equal(virtq_pop(&q, &chain), -EPROTO);
	}
	put_desc(DESC, 0, TABLE, 16, INDIRECT, 0);
	put_desc(TABLE, 0, TABLE, 16, INDIRECT, 0); /* nested */
	assert_int_equal(virtq_pop(&q, &chain), -EPROTO);
	put_desc(TABLE, 0, DATA, 16, NEXT, 1); /* next outside of the table */
	assert_int_equal(virtq_pop(&q, &chain), -EPROTO);
}

static void refuses_indirect_that_was_not_negotiated(void **state)
{
	assert_int_equal(
		virtq_init(&q, f->machine.ram, SIZE, GPA(DESC), GPA(AVAIL), GPA(USED), 0), 0);
	put_row(TABLE, 1);
	put_desc(DESC, 0, TABLE, 16, INDIRECT, 0);
	offer(0);
	assert_int_equal(virtq_pop(&q, &chain), -EPROTO);
}

static void refuses_queues_that_cannot_be(void **state)
{
	static const struct {
		uint16_t size;
		uint64_t desc, avail, used;
		int result;
	} cases[] = {
		{0, DESC, AVAIL, USED, -EINVAL},
		{3, DESC, AVAIL, USED, -EINVAL},
		{VIRTQ_SIZE_MAX * 2, DESC, AVAIL, USED, -EINVAL},
		{VIRTQ_SIZE_MAX, DESC, 0x8000, 0x9000, 0},
		{1, DESC, AVAIL, USED, 0},
		{SIZE, DESC + 8, AVAIL, USED, -EINVAL},
		{SIZE, DESC, AVAIL + 1, USED, -EINVAL},
		{SIZE, DESC, AVAIL, USED + 2, -EINVAL},
		{SIZE, FAKE_LOW_BYTES - 16 * SIZE, AVAIL, USED, 0},
		{SIZE, FAKE_LOW_BYTES - 16 * SIZE + 16, AVAIL, USED, -EFAULT},
		{SIZE, DESC, FAKE_LOW_BYTES - (6 + 2 * SIZE), USED, 0},
		{SIZE, DESC, FAKE_LOW_BYTES - (6 + 2 * SIZE) + 2, USED, -EFAULT},
		{SIZE, DESC, AVAIL, FAKE_LOW_BYTES - (8 + 8 * SIZE), 0},
		{SIZE, DESC, AVAIL, FAKE_LOW_BYTES - (4 + 8 * SIZE), -EFAULT},
		{SIZE, UINT64_MAX - 15, AVAIL, USED, -EFAULT},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct virtq t = {.size = 77};

		assert_int_equal(virtq_init(&t, f->machine.ram, cases[i].size, GPA(cases[i].desc),
					 GPA(cases[i].avail), GPA(cases[i].used), 0),
			cases[i].result);
		assert_int_equal(t.size, cases[i].result == 0 ? cases[i].size : 77);
	}
}

static void copies_across_buffers(void **state)
{
	char got[16] = "";

	memcpy(fake_ram(f, DATA, 3), "abc", 3);
	memcpy(fake_ram(f, DATA + 0x1000, 4), "defg", 4);
	put_desc(DESC, 0, DATA, 3, NEXT, 1);
	put_desc(DESC, 1, DATA + 0x1000, 4, NEXT, 2);
	put_desc(DESC, 2, DATA + 0x2000, 2, NEXT | WRITE, 3);
	put_desc(DESC, 3, DATA + 0x3000, 2, WRITE, 0);
	offer(0);
	assert_int_equal(virtq_pop(&q, &chain), 0);
	assert_int_equal(virtq_chain_read(&chain, 2, got, 3), 3);
	assert_string_equal(got, "cde");
	assert_int_equal(virtq_chain_read(&chain, 5, got, 16), 2);
	assert_int_equal(virtq_chain_read(&chain, 7, got, 16), 0);
	assert_int_equal(virtq_chain_read(&chain, UINT64_MAX, got, 16), 0);
	assert_int_equal(virtq_chain_write(&chain, 1, "WXYZ", 4), 3);
	assert_memory_equal((char *)fake_ram(f, DATA + 0x2000, 2) + 1, "W", 1);
	assert_memory_equal(fake_ram(f, DATA + 0x3000, 2), "XY", 2);
	virtq_push(&q, &chain, 4);
}

/* Pops and pushes n chains. */
static void turn(unsigned n)
{
	put_row(DESC, 1);
	for (unsigned i = 0; i < n; i++) {
		offer(0);
		assert_int_equal(virtq_pop(&q, &chain), 0);
		virtq_push(&q, &chain, 0);
	}
}

static void interrupts_unless_told_not_to(void **state)
{
	assert_false(virtq_needs_interrupt(&q));
	turn(1);
	assert_true(virtq_needs_interrupt(&q));
	assert_false(virtq_needs_interrupt(&q));
	*ring16(AVAIL, 0) = 1;
	turn(1);
	assert_false(virtq_needs_interrupt(&q));
}

static void interrupts_when_the_event_index_is_passed(void **state)
{
	assert_int_equal(virtq_init(&q, f->machine.ram, SIZE, GPA(DESC), GPA(AVAIL), GPA(USED),
				 VIRTQ_EVENT_IDX),
		0);
	*ring16(AVAIL, 2 + SIZE) = 2; /* used_event: when the third is used */
	turn(2);
	assert_false(virtq_needs_interrupt(&q));
	turn(1);
	assert_true(virtq_needs_interrupt(&q));
	turn(1);
	assert_false(virtq_needs_interrupt(&q));
	*ring16(AVAIL, 2 + SIZE) = 5;
	turn(3);
	assert_true(virtq_needs_interrupt(&q)); /* passed within a batch */
}

static void interrupts_right_when_the_index_wraps(void **state)
{
	assert_int_equal(virtq_init(&q, f->machine.ram, SIZE, GPA(DESC), GPA(AVAIL), GPA(USED),
				 VIRTQ_EVENT_IDX),
		0);
	turn(0xffff);
	virtq_needs_interrupt(&q);
	*ring16(AVAIL, 2 + SIZE) = 0xffff;
	turn(1);
	assert_int_equal(*ring16(USED, 1), 0);
	assert_true(virtq_needs_interrupt(&q));
}

static void rearms_and_sees_what_came_meanwhile(void **state)
{
	assert_int_equal(virtq_init(&q, f->machine.ram, SIZE, GPA(DESC), GPA(AVAIL), GPA(USED),
				 VIRTQ_EVENT_IDX),
		0);
	turn(3);
	assert_false(virtq_rearm(&q));
	assert_int_equal(*ring16(USED, 2 + 4 * SIZE), 3); /* avail_event */
	offer(0);
	assert_true(virtq_rearm(&q));
}

static void an_unused_queue_is_empty(void **state)
{
	virtq_done(&q);
	assert_int_equal(virtq_pop(&q, &chain), VIRTQ_EMPTY);
	assert_false(virtq_needs_interrupt(&q));
	assert_false(virtq_rearm(&q));
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(takes_a_chain_in_order),
		T(leaves_out_empty_buffers),
		T(takes_chains_up_to_the_queue_size),
		T(refuses_a_cyclic_chain),
		T(refuses_a_head_outside_of_the_table),
		T(takes_the_last_head_of_the_table),
		T(refuses_a_next_outside_of_the_table),
		T(refuses_readable_after_writable),
		T(refuses_buffers_outside_of_ram),
		T(refuses_an_index_too_far_ahead),
		T(takes_an_indirect_table),
		T(takes_an_indirect_table_after_a_direct_buffer),
		T(refuses_indirect_chains_longer_than_the_queue),
		T(refuses_malformed_indirect_tables),
		T(refuses_indirect_that_was_not_negotiated),
		T(refuses_queues_that_cannot_be),
		T(copies_across_buffers),
		T(interrupts_unless_told_not_to),
		T(interrupts_when_the_event_index_is_passed),
		T(interrupts_right_when_the_index_wraps),
		T(rearms_and_sees_what_came_meanwhile),
		T(an_unused_queue_is_empty),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
