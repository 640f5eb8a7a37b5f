/*
 * Free page reporting, and pages that the guest poisons: balloon-clauses.md says which clause each
 * test is for.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

#include "fake-balloon.h"

static void reports_are_discarded_by_range(void **state)
{
	static const struct fake_buffer buffers[] = {
		{0x400000, 0x200000, true},
		{0x300800, 0x2000, true}, /* one whole page in it */
		{0x301010, 0xfe0, true}, /* none */
		{MACHINE_HIGH_RAM_BASE, 0x1000, true},
	};
	struct fake_discard d[8];

	fake_driver_start(&driver, NO_POISON, N_QUEUES);
	fake_discards_clear(f);
	assert_int_equal(fake_request(&driver, REPORTING, buffers, ARRAY_SIZE(buffers)), 0);
	assert_int_equal(fake_discards(f, d, 8), 3);
	assert_range(&d[0], 0x400, 0x200, HOLE_REPORTED);
	assert_range(&d[1], 0x301, 1, HOLE_REPORTED);
	assert_range(&d[2], FAKE_LOW_PAGES, 1, HOLE_REPORTED);
	assert_int_equal(fake_balloon_stats().reported_pages, 0x202);
	assert_int_equal(fake_balloon_stats().actual_pages, 0);
}

static void a_reported_page_is_not_in_the_balloon(void **state)
{
	static const uint32_t pfns[] = {0x400, 0x401};
	struct fake_buffer buffer = {0x401000, 0x1000, true};
	struct fake_discard d[8];

	fake_driver_start(&driver, NO_POISON, N_QUEUES);
	fake_balloon_send(INFLATE, pfns, 2, d);
	fake_request(&driver, REPORTING, &buffer, 1);
	assert_int_equal(fake_balloon_stats().actual_pages, 1);
	fake_balloon_send(DEFLATE, pfns, 2, d);
	assert_int_equal(fake_balloon_stats().actual_pages, 0);
}

/* Starts with PAGE_POISON and that value. */
static void start_poisoned(uint32_t value)
{
	assert_int_equal(fake_driver_negotiate(&driver, UINT64_MAX), 11);
	fake_mmio_write(f, driver.device + CONFIG_POISON, 4, value);
	for (unsigned q = 0; q < N_QUEUES; q++)
		fake_driver_queue(&driver, q, 0);
	fake_driver_ok(&driver);
	fake_discards_clear(f);
}

static void poisoned_pages_keep_their_content_when_reported(void **state)
{
	struct fake_buffer buffer = {0x400000, 0x200000, true};

	start_poisoned(0xaaaaaaaa);
	memset(fake_ram(f, 0x400000, 0x200000), 0xaa, 0x200000);
	fake_request(&driver, REPORTING, &buffer, 1);
	assert_int_equal(fake_discards(f, NULL, 0), 0);
	assert_int_equal(*(uint8_t *)fake_ram(f, 0x400000, 1), 0xaa);
	assert_int_equal(fake_balloon_stats().poison_reports, 0x200);
	assert_int_equal(fake_balloon_stats().reported_pages, 0);
}

static void pages_poisoned_with_zero_are_discarded(void **state)
{
	struct fake_buffer buffer = {0x400000, 0x200000, true};

	start_poisoned(0);
	fake_request(&driver, REPORTING, &buffer, 1);
	assert_int_equal(fake_discards(f, NULL, 0), 1);
}

static void poison_counts_as_it_was_when_the_driver_started(void **state)
{
	struct fake_buffer buffer = {0x400000, 0x1000, true};

	start_poisoned(0xaaaaaaaa);
	fake_mmio_write(f, driver.device + CONFIG_POISON, 4, 0);
	fake_request(&driver, REPORTING, &buffer, 1);
	assert_int_equal(fake_discards(f, NULL, 0), 0);
	/* and not at all without the feature */
	fake_driver_negotiate(&driver, NO_POISON);
	fake_mmio_write(f, driver.device + CONFIG_POISON, 4, 0xaaaaaaaa);
	for (unsigned q = 0; q < N_QUEUES; q++)
		fake_driver_queue(&driver, q, 0);
	fake_driver_ok(&driver);
	fake_discards_clear(f);
	fake_request(&driver, REPORTING, &buffer, 1);
	assert_int_equal(fake_discards(f, NULL, 0), 1);
}

static void poisoned_pages_may_be_inflated(void **state)
{
	static const uint32_t pfns[] = {PFN};
	struct fake_discard d[8];

	start_poisoned(0xaaaaaaaa);
	assert_int_equal(fake_balloon_send(INFLATE, pfns, 1, d), 1);
}

#define T(name) cmocka_unit_test_setup_teardown(name, fake_balloon_setup, fake_balloon_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(reports_are_discarded_by_range),
		T(a_reported_page_is_not_in_the_balloon),
		T(poisoned_pages_keep_their_content_when_reported),
		T(pages_poisoned_with_zero_are_discarded),
		T(poison_counts_as_it_was_when_the_driver_started),
		T(poisoned_pages_may_be_inflated),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
