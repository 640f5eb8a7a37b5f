/*
 * virtio-balloon: pages given and taken, its configuration, what breaks it. balloon-clauses.md says
 * which clause of the specification each test is for.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "fake-balloon.h"
#include "memd/base/clock.h"

static void offers_what_it_can_do(void **state)
{
	fake_driver_negotiate(&driver, UINT64_MAX);
	assert_int_equal(driver.features & 0xffffff,
		F_STATS_VQ | F_DEFLATE_ON_OOM | F_FREE_PAGE_HINT | F_PAGE_POISON |
			F_PAGE_REPORTING);
}

static void tells_the_target_and_that_it_changed(void **state)
{
	virtio_balloon_set_target(balloon, 10);
	assert_int_equal(fake_mmio_read(f, driver.device, 4), 10);
	fake_driver_start(&driver, UINT64_MAX, N_QUEUES);
	assert_int_equal(fake_vector_take(&driver, 0), 0);
	virtio_balloon_set_target(balloon, 300);
	assert_int_equal(fake_vector_take(&driver, 0), 1);
	assert_int_equal(fake_mmio_read(f, driver.device, 4), 300);
	virtio_balloon_set_target(balloon, 300);
	assert_int_equal(fake_vector_take(&driver, 0), 0); /* nothing changed */
	virtio_balloon_set_target(balloon, UINT64_MAX);
	assert_int_equal(fake_mmio_read(f, driver.device, 4), FAKE_PAGES);
	assert_int_equal(fake_balloon_stats().target_pages, FAKE_PAGES);
}

static void the_driver_writes_actual_and_poison_only(void **state)
{
	virtio_balloon_set_target(balloon, 5);
	for (unsigned i = 0; i < 16; i += 4)
		fake_mmio_write(f, driver.device + i, 4, 0x1000 + i);
	assert_int_equal(fake_mmio_read(f, driver.device, 4), 5);
	assert_int_equal(fake_mmio_read(f, driver.device + CONFIG_ACTUAL, 4), 0x1004);
	assert_int_equal(fake_mmio_read(f, driver.device + 8, 4), 0);
	assert_int_equal(fake_mmio_read(f, driver.device + CONFIG_POISON, 4), 0x100c);
	assert_int_equal(fake_balloon_stats().claimed_pages, 0x1004);
	assert_int_equal(fake_balloon_stats().actual_pages, 0); /* a claim */
}

static void inflates_scattered_pages_as_ranges(void **state)
{
	static const uint32_t pfns[] = {PFN + 2, PFN + 1, PFN + 9, PFN, PFN + 8, PFN + 20};
	struct fake_discard d[8];

	fake_driver_start(&driver, UINT64_MAX, N_QUEUES);
	memset(fake_ram(f, (uint64_t)PFN << 12, 4096), 0xab, 4096);
	assert_int_equal(fake_balloon_send(INFLATE, pfns, ARRAY_SIZE(pfns), d), 3);
	assert_range(&d[0], PFN, 3, HOLE_BALLOON);
	assert_range(&d[1], PFN + 8, 2, HOLE_BALLOON);
	assert_range(&d[2], PFN + 20, 1, HOLE_BALLOON);
	assert_int_equal(*(uint8_t *)fake_ram(f, (uint64_t)PFN << 12, 1), 0);
	assert_int_equal(fake_balloon_stats().actual_pages, 6);
	assert_int_equal(fake_balloon_stats().discard_ranges, 3);
	assert_int_equal(fake_balloon_stats().ignored_pages, 0);
}

static void inflates_high_memory_by_its_page_number(void **state)
{
	static const uint32_t pfns[] = {HIGH_PFN + 1, HIGH_PFN};
	struct fake_discard d[8];

	fake_driver_start(&driver, UINT64_MAX, N_QUEUES);
	assert_int_equal(fake_balloon_send(INFLATE, pfns, 2, d), 1);
	assert_range(&d[0], FAKE_LOW_PAGES, 2, HOLE_BALLOON);
}

static void inflates_a_large_request(void **state)
{
	static uint32_t pfns[1500];
	struct fake_discard d[8];

	for (unsigned i = 0; i < ARRAY_SIZE(pfns); i++)
		pfns[i] = (uint32_t)(FAKE_LOW_PAGES - 1 - i);
	fake_driver_start(&driver, UINT64_MAX, N_QUEUES);
	assert_int_equal(fake_balloon_send(INFLATE, pfns, ARRAY_SIZE(pfns), d), 2); /* in pieces of 1024 */
	assert_int_equal(d[0].n_pages + d[1].n_pages, ARRAY_SIZE(pfns));
	assert_int_equal(fake_balloon_stats().actual_pages, ARRAY_SIZE(pfns));
}

static void counts_a_page_once_however_often_it_is_given(void **state)
{
	static const uint32_t twice[] = {PFN, PFN, PFN + 1};
	struct fake_discard d[8];

	fake_driver_start(&driver, UINT64_MAX, N_QUEUES);
	assert_int_equal(fake_balloon_send(INFLATE, twice, 3, d), 1);
	assert_int_equal(fake_balloon_stats().actual_pages, 2);
	assert_int_equal(fake_balloon_stats().ignored_pages, 1);
	assert_int_equal(
		fake_balloon_send(INFLATE, twice, 3, d), 1); /* discarded again: it may hold memory */
	assert_range(&d[0], PFN, 2, HOLE_BALLOON);
	assert_int_equal(fake_balloon_stats().actual_pages, 2);
	assert_int_equal(fake_balloon_stats().ignored_pages, 4);
}

static void ignores_pages_that_are_not_ram(void **state)
{
	static const uint32_t pfns[] = {
		FAKE_LOW_PAGES, 0xc0000, UINT32_MAX, HIGH_PFN + FAKE_HIGH_BYTES / PAGE_BYTES, PFN};
	struct fake_discard d[8];

	fake_driver_start(&driver, UINT64_MAX, N_QUEUES);
	assert_int_equal(fake_balloon_send(INFLATE, pfns, ARRAY_SIZE(pfns), d), 1);
	assert_range(&d[0], PFN, 1, HOLE_BALLOON);
	assert_int_equal(fake_balloon_stats().ignored_pages, 4);
	assert_int_equal(fake_balloon_stats().actual_pages, 1);
	assert_int_equal(fake_balloon_send(DEFLATE, pfns, ARRAY_SIZE(pfns), d), 1);
	assert_int_equal(fake_balloon_stats().actual_pages, 0);
	assert_int_equal(fake_driver_status(&driver), 15);
}

static void deflates_only_what_it_holds(void **state)
{
	static const uint32_t given[] = {PFN, PFN + 1, PFN + 2, PFN + 3};
	static const uint32_t taken[] = {PFN + 1, PFN + 2, PFN + 7, PFN + 2};
	struct fake_discard d[8];

	fake_driver_start(&driver, UINT64_MAX, N_QUEUES);
	fake_balloon_send(INFLATE, given, 4, d);
	assert_int_equal(fake_balloon_send(DEFLATE, taken, 4, d), 1);
	assert_range(&d[0], PFN + 1, 2, -1);
	assert_int_equal(fake_balloon_stats().actual_pages, 2);
	assert_int_equal(fake_balloon_stats().deflated_pages, 2);
	assert_int_equal(fake_balloon_stats().ignored_pages, 2);
	assert_int_equal(fake_balloon_send(DEFLATE, given, 4, d), 2);
	assert_int_equal(fake_balloon_stats().actual_pages, 0);
	assert_int_equal(fake_balloon_send(INFLATE, given, 4, d), 1); /* and again */
	assert_int_equal(fake_balloon_stats().actual_pages, 4);
}

static void deflating_does_not_touch_the_pages(void **state)
{
	static const uint32_t pfns[] = {PFN};
	struct fake_discard d[8];

	fake_driver_start(&driver, UINT64_MAX, N_QUEUES);
	fake_balloon_send(INFLATE, pfns, 1, d);
	memset(fake_ram(f, (uint64_t)PFN << 12, 4096), 0xcd,
		4096); /* reused before the device was told */
	fake_balloon_send(DEFLATE, pfns, 1, d);
	assert_int_equal(*(uint8_t *)fake_ram(f, ((uint64_t)PFN << 12) + 4095, 1), 0xcd);
}

static void an_empty_request_is_acknowledged(void **state)
{
	struct fake_discard d[8];

	fake_driver_start(&driver, UINT64_MAX, N_QUEUES);
	assert_int_equal(fake_balloon_send(INFLATE, (uint32_t[]){0}, 0, d), 0);
	assert_int_equal(fake_driver_status(&driver), 15);
}

/* Sends one buffer to a queue of a fresh device, which then needs a reset. */
static void assert_breaks(unsigned q, struct fake_buffer buffer)
{
	uint64_t before = fake_balloon_stats().needs_reset;

	fake_driver_start(&driver, NO_POISON, N_QUEUES);
	fake_discards_clear(f);
	fake_add(&driver, q, &buffer, 1);
	fake_kick(&driver, q);
	assert_true(fake_wait_status(&driver, VIRTIO_STATUS_NEEDS_RESET));
	assert_int_equal(fake_balloon_stats().needs_reset, before + 1);
	assert_false(fake_balloon_stats().ready);
	assert_int_equal(fake_discards(f, NULL, 0), 0);
}

static void malformed_requests_need_a_reset(void **state)
{
	assert_breaks(INFLATE, (struct fake_buffer){FAKE_BUFFERS_GPA, 4, true});
	assert_breaks(DEFLATE, (struct fake_buffer){FAKE_BUFFERS_GPA, 4, true});
	assert_breaks(INFLATE, (struct fake_buffer){FAKE_BUFFERS_GPA, 3, false});
	assert_breaks(INFLATE, (struct fake_buffer){FAKE_BUFFERS_GPA, 5, false});
	assert_breaks(INFLATE, (struct fake_buffer){FAKE_BUFFERS_GPA, FAKE_PAGES * 4 + 4, false});
	assert_breaks(INFLATE, (struct fake_buffer){FAKE_LOW_BYTES - 4, 8, false});
	assert_breaks(STATS, (struct fake_buffer){FAKE_BUFFERS_GPA, 10, true});
	assert_breaks(REPORTING, (struct fake_buffer){FAKE_BUFFERS_GPA, 4096, false});
	assert_breaks(REPORTING, (struct fake_buffer){FAKE_LOW_BYTES - 4096, 8192, true});
	fake_driver_start(&driver, UINT64_MAX, N_QUEUES);
	assert_true(fake_balloon_stats().ready);
}

static void queues_are_numbered_by_what_was_negotiated(void **state)
{
	struct fake_buffer report = {0x400000, 0x1000, true};
	struct fake_discard d[8];

	/* without statistics, reporting moves up to number 2 */
	fake_driver_start(&driver, VIRTIO_F_VERSION_1 | F_PAGE_REPORTING, 3);
	fake_discards_clear(f);
	fake_request(&driver, 2, &report, 1);
	assert_int_equal(fake_discards(f, d, 8), 1);
	assert_range(&d[0], 0x400, 1, HOLE_REPORTED);
	/* and what was not negotiated is nobody's */
	fake_driver_start(&driver, VIRTIO_F_VERSION_1, 3);
	fake_add(&driver, 2, &report, 1);
	fake_kick(&driver, 2);
	clock_sleep_us(2000);
	assert_false(fake_has_used(&driver, 2));
}

static void a_reset_empties_the_balloon(void **state)
{
	static const uint32_t pfns[] = {
		PFN, PFN + 1, PFN + 63, PFN + 64, PFN + 65, HIGH_PFN, HIGH_PFN + 511};
	struct fake_discard d[8];

	fake_driver_start(&driver, UINT64_MAX, N_QUEUES);
	virtio_balloon_set_target(balloon, 7);
	fake_balloon_send(INFLATE, pfns, ARRAY_SIZE(pfns), d);
	fake_mmio_write(f, driver.device + CONFIG_ACTUAL, 4, 7);
	assert_true(fake_balloon_stats().ready);
	fake_discards_clear(f);
	fake_driver_reset(&driver);
	assert_int_equal(fake_balloon_stats().actual_pages, 0);
	assert_int_equal(fake_balloon_stats().claimed_pages, 0);
	assert_int_equal(fake_balloon_stats().target_pages, 7); /* ours, not the driver's */
	assert_false(fake_balloon_stats().ready);
	assert_int_equal(fake_discards(f, d, 8), 4);
	assert_range(&d[0], PFN, 2, -1);
	assert_range(&d[1], PFN + 63, 3, -1);
	assert_range(&d[2], FAKE_LOW_PAGES, 1, -1);
	assert_range(&d[3], FAKE_LOW_PAGES + 511, 1, -1);
}

/*
 * A machine that runs out of anything: nothing is left behind (the fake machine and the address
 * sanitizer look).
 */
static void fails_without_leaving_anything(void **state)
{
	struct fake_machine *poor = fake_machine_new();
	struct pci_bus *poor_bus = NULL;
	struct virtio_balloon *b = NULL;
	unsigned failures = 0;

	poor->fail_after = 0;
	assert_int_equal(pci_bus_new(&poor->machine, &poor_bus), -EEXIST);
	assert_null(poor_bus);
	assert_int_equal(pci_bus_new(&poor->machine, &poor_bus), 0);
	for (int calls = 0; !b; calls++) {
		poor->fail_after = calls;
		if (virtio_balloon_new(&poor->machine, poor_bus, BALLOON_SLOT, &b) < 0)
			failures++;
		else
			assert_non_null(b);
	}
	assert_int_equal(failures,
		1 + N_QUEUES + 1); /* the BAR, and a vector for each queue and the configuration */
	virtio_balloon_free(b);
	pci_bus_free(poor_bus);
	fake_machine_free(poor);
}

static void *control_thread(void *arg)
{
	for (unsigned i = 0; i < 500; i++) {
		virtio_balloon_set_target(balloon, i);
		virtio_balloon_request_claims(balloon);
		fake_balloon_stats();
	}
	return NULL;
}

/* For the thread sanitizer: the control thread and the guest at once. */
static void survives_the_control_thread(void **state)
{
	struct fake_buffer buffer = {FAKE_BUFFERS_GPA + 0x10000, 10, false};
	uint32_t pfns[4];
	struct fake_discard d[8];
	pthread_t thread;

	fake_driver_start(&driver, UINT64_MAX, N_QUEUES);
	assert_int_equal(pthread_create(&thread, NULL, control_thread, NULL), 0);
	for (unsigned i = 0; i < 200; i++) {
		for (unsigned j = 0; j < 4; j++)
			pfns[j] = PFN + (i * 7 + j * 3) % 100;
		fake_balloon_send(i % 3 ? INFLATE : DEFLATE, pfns, 4, d);
		if (fake_has_used(&driver, STATS) || i == 0) {
			if (i > 0)
				fake_wait_used(&driver, STATS, NULL, NULL);
			fake_add(&driver, STATS, &buffer, 1);
			fake_kick(&driver, STATS);
		}
		if (i % 50 == 49)
			fake_driver_start(&driver, UINT64_MAX, N_QUEUES);
	}
	pthread_join(thread, NULL);
	assert_int_equal(fake_balloon_stats().needs_reset, 0);
}

#define T(name) cmocka_unit_test_setup_teardown(name, fake_balloon_setup, fake_balloon_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(offers_what_it_can_do),
		T(tells_the_target_and_that_it_changed),
		T(the_driver_writes_actual_and_poison_only),
		T(inflates_scattered_pages_as_ranges),
		T(inflates_high_memory_by_its_page_number),
		T(inflates_a_large_request),
		T(counts_a_page_once_however_often_it_is_given),
		T(ignores_pages_that_are_not_ram),
		T(deflates_only_what_it_holds),
		T(deflating_does_not_touch_the_pages),
		T(an_empty_request_is_acknowledged),
		T(malformed_requests_need_a_reset),
		T(queues_are_numbered_by_what_was_negotiated),
		T(a_reset_empties_the_balloon),
		T(fails_without_leaving_anything),
		T(survives_the_control_thread),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
