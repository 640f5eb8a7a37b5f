/*
 * Free page hinting of the balloon device: what is said when, and what counts as a hint. What is
 * then dropped is test-hinted.c's; balloon-clauses.md says which clause each test is for.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

#include "fake-balloon.h"
#include "wait-until.h"

enum {
	STOP = 0,
	DONE = 1,
};
#define BLOCK_GPA UINT64_C(0x400000)

static struct balloon_hints_stats stats(void)
{
	return fake_balloon_stats().hints;
}

static uint32_t command(void)
{
	return (uint32_t)fake_mmio_read(f, driver.device + CONFIG_COMMAND, 4);
}

static void send_command(uint32_t id)
{
	struct fake_buffer buffer = {FAKE_BUFFERS_GPA, 4, false};

	memcpy(fake_ram(f, FAKE_BUFFERS_GPA, 4), &id, 4);
	assert_int_equal(fake_request(&driver, HINTS, &buffer, 1), 0);
}

static void hint(uint64_t gpa, uint32_t bytes)
{
	struct fake_buffer buffer = {gpa, bytes, true};

	assert_int_equal(fake_request(&driver, HINTS, &buffer, 1), 0);
}

/* Asks, and answers as the driver does; returns the identifier. */
static uint32_t ask(void)
{
	uint32_t id;

	assert_int_equal(virtio_balloon_request_hints(balloon), 0);
	WAIT_UNTIL(command() >= 2);
	id = command();
	send_command(id);
	fake_discards_clear(f);
	return id;
}

static uint32_t begin(uint64_t features)
{
	fake_driver_start(&driver, features, N_QUEUES);
	return ask();
}

static void asks_with_an_identifier_and_an_interrupt(void **state)
{
	unsigned interrupts = 0;

	fake_driver_start(&driver, UINT64_MAX, N_QUEUES);
	assert_int_equal(command(), STOP);
	fake_vector_take(&driver, 0);
	assert_int_equal(virtio_balloon_request_hints(balloon), 0);
	WAIT_UNTIL(command() >= 2);
	WAIT_UNTIL(interrupts += fake_vector_take(&driver, 0));
	assert_int_equal(interrupts, 1);
	assert_true(atomic_load(&f->log_on)); /* before the guest could know */
}

static void refuses_to_ask_who_cannot_answer(void **state)
{
	assert_int_equal(virtio_balloon_request_hints(balloon), -ENOTCONN);
	fake_driver_start(&driver, UINT64_MAX & ~(uint64_t)F_FREE_PAGE_HINT, N_QUEUES - 1);
	assert_int_equal(virtio_balloon_request_hints(balloon), -EOPNOTSUPP);
}

static void does_not_ask_without_the_log(void **state)
{
	f->no_log = true;
	fake_driver_start(&driver, UINT64_MAX, N_QUEUES);
	assert_int_equal(virtio_balloon_request_hints(balloon), 0);
	clock_sleep_us(5000);
	assert_int_equal(command(), STOP);
	f->no_log = false;
	assert_int_equal(virtio_balloon_request_hints(balloon), 0);
	WAIT_UNTIL(command() >= 2);
}

static void drops_whole_pages_of_hinted_blocks(void **state)
{
	struct fake_discard d[8];

	begin(NO_POISON);
	hint(BLOCK_GPA, 0x200000);
	hint(BLOCK_GPA + 0x200800, 0x1800);
	hint(BLOCK_GPA + 0x300001, 0xffe); /* no whole page */
	hint(MACHINE_HIGH_RAM_BASE, 4096);
	assert_int_equal(fake_discards(f, d, 8), 3);
	assert_int_equal(d[0].page, 0x400);
	assert_int_equal(d[0].n_pages, 0x200);
	assert_int_equal(d[0].why, HOLE_HINTED);
	assert_int_equal(d[1].page, 0x601);
	assert_int_equal(d[1].n_pages, 1);
	assert_int_equal(d[2].page, FAKE_LOW_PAGES);
	assert_int_equal(stats().named_pages, 0x202);
	assert_int_equal(stats().dropped_pages, 0x202);
	assert_false(atomic_load(&f->wrote[0x400])); /* only named, not written */
}

static void ends_with_done_when_the_driver_stops(void **state)
{
	uint32_t id = begin(NO_POISON);

	hint(BLOCK_GPA, 4096);
	assert_int_equal(stats().runs, 0);
	fake_vector_take(&driver, 0);
	send_command(STOP);
	assert_int_equal(command(), DONE);
	assert_int_equal(fake_vector_take(&driver, 0), 1);
	assert_false(atomic_load(&f->log_on));
	assert_int_equal(stats().runs, 1);
	assert_int_equal(stats().runs_cut, 0);
	/* what comes after that is no hint any more, not even under the old identifier */
	send_command(id);
	fake_discards_clear(f);
	hint(BLOCK_GPA, 4096);
	assert_int_equal(fake_discards(f, NULL, 0), 0);
}

static void ignores_hints_under_another_identifier(void **state)
{
	uint32_t id = begin(NO_POISON);

	send_command(id + 1);
	hint(BLOCK_GPA, 4096);
	assert_int_equal(fake_discards(f, NULL, 0), 0);
	send_command(STOP); /* of that other one */
	assert_int_equal(command(), id);
	send_command(id);
	hint(BLOCK_GPA, 4096);
	assert_int_equal(fake_discards(f, NULL, 0), 1);
	assert_int_equal(stats().named_pages, 1);
}

static void ignores_hints_before_the_identifier(void **state)
{
	fake_driver_start(&driver, NO_POISON, N_QUEUES);
	hint(BLOCK_GPA, 4096);
	assert_int_equal(virtio_balloon_request_hints(balloon), 0);
	WAIT_UNTIL(command() >= 2);
	hint(BLOCK_GPA, 4096);
	assert_int_equal(fake_discards(f, NULL, 0), 0);
}

static void uses_a_new_identifier_each_time(void **state)
{
	uint32_t first = begin(NO_POISON), second;

	assert_int_equal(virtio_balloon_request_hints(balloon), 0); /* under way: nothing new */
	send_command(STOP);
	assert_int_equal(virtio_balloon_request_hints(balloon), 0);
	WAIT_UNTIL(command() >= 2);
	second = command();
	assert_int_not_equal(first, second);
	assert_int_equal(stats().runs, 1);
}

static void takes_many_blocks_in_order_with_the_stop(void **state)
{
	struct fake_buffer buffers[64], stop = {FAKE_BUFFERS_GPA, 4, false};
	uint32_t id = STOP;

	begin(NO_POISON);
	for (unsigned i = 0; i < ARRAY_SIZE(buffers); i++)
		buffers[i] = (struct fake_buffer){BLOCK_GPA + 0x1000 * i, 0x1000, true};
	memcpy(fake_ram(f, FAKE_BUFFERS_GPA, 4), &id, 4);
	fake_add(&driver, HINTS, buffers, ARRAY_SIZE(buffers));
	fake_add(&driver, HINTS, &stop, 1); /* all of it before the device looks */
	fake_kick(&driver, HINTS);
	assert_true(fake_wait_used(&driver, HINTS, &id, &id));
	assert_true(fake_wait_used(&driver, HINTS, &id, &id));
	assert_int_equal(stats().dropped_pages, ARRAY_SIZE(buffers));
	WAIT_UNTIL(command() == DONE);
}

static void ends_a_run_that_takes_too_long(void **state)
{
	begin(NO_POISON);
	WAIT_UNTIL(command() == DONE); /* after 5 s */
	assert_false(atomic_load(&f->log_on));
	assert_int_equal(stats().runs_cut, 1);
	hint(BLOCK_GPA, 4096);
	assert_int_equal(fake_discards(f, NULL, 0), 0);
	assert_int_equal(fake_driver_status(&driver), 15);
}

static void keeps_poisoned_pages(void **state)
{
	fake_driver_negotiate(&driver, UINT64_MAX);
	fake_mmio_write(f, driver.device + CONFIG_POISON, 4, 0xaaaaaaaa);
	for (unsigned q = 0; q < N_QUEUES; q++)
		fake_driver_queue(&driver, q, 0);
	fake_driver_ok(&driver);
	ask();
	hint(BLOCK_GPA, 0x2000);
	assert_int_equal(fake_discards(f, NULL, 0), 0);
	assert_int_equal(stats().kept_pages, 2);
}

static void forgets_a_run_at_reset(void **state)
{
	begin(NO_POISON);
	fake_driver_reset(&driver);
	assert_false(atomic_load(&f->log_on));
	assert_int_equal(command(), STOP);
	fake_driver_start(&driver, NO_POISON, N_QUEUES);
	fake_discards_clear(f);
	hint(BLOCK_GPA, 4096);
	assert_int_equal(fake_discards(f, NULL, 0), 0);
}

/* Each needs a reset, and ends the run with it. */
static void malformed_hints_need_a_reset(void **state)
{
	static const struct fake_buffer bad[] = {
		{FAKE_BUFFERS_GPA, 3, false},
		{FAKE_BUFFERS_GPA, 8, false},
		{FAKE_LOW_BYTES - 4096, 8192, true},
	};
	const struct fake_buffer both[] = {
		{FAKE_BUFFERS_GPA, 4, false},
		{BLOCK_GPA, 4096, true},
	};

	for (unsigned i = 0; i <= ARRAY_SIZE(bad); i++) {
		begin(NO_POISON);
		if (i < ARRAY_SIZE(bad))
			fake_add(&driver, HINTS, &bad[i], 1);
		else
			fake_add(&driver, HINTS, both, 2);
		fake_kick(&driver, HINTS);
		assert_true(fake_wait_status(&driver, VIRTIO_STATUS_NEEDS_RESET));
		assert_int_equal(fake_discards(f, NULL, 0), 0);
		fake_driver_reset(&driver);
		assert_false(atomic_load(&f->log_on));
	}
}

#define of_device(test)                                                                            \
	cmocka_unit_test_setup_teardown(test, fake_balloon_setup, fake_balloon_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		of_device(asks_with_an_identifier_and_an_interrupt),
		of_device(refuses_to_ask_who_cannot_answer),
		of_device(does_not_ask_without_the_log),
		of_device(drops_whole_pages_of_hinted_blocks),
		of_device(ends_with_done_when_the_driver_stops),
		of_device(ignores_hints_under_another_identifier),
		of_device(ignores_hints_before_the_identifier),
		of_device(uses_a_new_identifier_each_time),
		of_device(takes_many_blocks_in_order_with_the_stop),
		of_device(ends_a_run_that_takes_too_long),
		of_device(keeps_poisoned_pages),
		of_device(forgets_a_run_at_reset),
		of_device(malformed_hints_need_a_reset),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("balloon-hints", tests, NULL, NULL);
}
