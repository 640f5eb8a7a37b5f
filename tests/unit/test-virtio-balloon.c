/* virtio-balloon; balloon-clauses.md says which clause of the specification each test is for. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "fake-driver.h"
#include "wait-until.h"
#include "kvm-glue/virtio-balloon.h"
#include "kvm-glue/virtio-device.h"
#include "kvm-glue/virtio-pci.h"
#include "memd/base/clock.h"

enum {
	SLOT = 1,
	INFLATE = 0,
	DEFLATE = 1,
	STATS = 2,
	REPORTING = 4,
	N_QUEUES = 5,

	F_STATS_VQ = 1 << 1,
	F_DEFLATE_ON_OOM = 1 << 2,
	F_FREE_PAGE_HINT = 1 << 3,
	F_PAGE_POISON = 1 << 4,
	F_PAGE_REPORTING = 1 << 5,

	CONFIG_ACTUAL = 4,
	CONFIG_POISON = 12,

	/* pages that tests give away: behind the buffers */
	PFN = 0x400,
	HIGH_PFN = MACHINE_HIGH_RAM_BASE / PAGE_BYTES,
};
#define NO_POISON (UINT64_MAX & ~(uint64_t)F_PAGE_POISON)

static struct fake_machine *f;
static struct pci_bus *bus;
static struct virtio_balloon *balloon;
static struct fake_driver driver;

static int setup(void **state)
{
	log_set_max_level(LOG_LEVEL_ERROR);
	f = fake_machine_new();
	if (pci_bus_new(&f->machine, &bus) < 0 ||
		virtio_balloon_new(&f->machine, bus, SLOT, &balloon) < 0)
		return -1;
	fake_driver_init(&driver, f, SLOT);
	return 0;
}

static int teardown(void **state)
{
	virtio_balloon_free(balloon);
	pci_bus_free(bus);
	fake_machine_free(f);
	return 0;
}

static struct virtio_balloon_stats stats(void)
{
	struct virtio_balloon_stats s;

	virtio_balloon_stats_read(balloon, &s);
	return s;
}

/*
 * Sends an array of PFNs to a queue, waits for it, and returns the ranges that were (un)discarded
 * for it.
 */
static unsigned send_pfns(unsigned q, const uint32_t *pfns, unsigned n, struct fake_discard ret[8])
{
	struct fake_buffer buffer = {FAKE_BUFFERS_GPA, n * 4, false};

	fake_discards_clear(f);
	if (n > 0)
		memcpy(fake_ram(f, FAKE_BUFFERS_GPA, n * 4), pfns, n * 4);
	assert_int_equal(fake_request(&driver, q, &buffer, 1), 0);
	return fake_discards(f, ret, 8);
}

static void assert_range(const struct fake_discard *d, uint64_t page, uint64_t n, int why)
{
	assert_int_equal(d->page, page);
	assert_int_equal(d->n_pages, n);
	assert_int_equal(d->why, why);
}

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
	assert_int_equal(stats().target_pages, FAKE_PAGES);
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
	assert_int_equal(stats().claimed_pages, 0x1004);
	assert_int_equal(stats().actual_pages, 0); /* a claim */
}

static void inflates_scattered_pages_as_ranges(void **state)
{
	static const uint32_t pfns[] = {PFN + 2, PFN + 1, PFN + 9, PFN, PFN + 8, PFN + 20};
	struct fake_discard d[8];

	fake_driver_start(&driver, UINT64_MAX, N_QUEUES);
	memset(fake_ram(f, (uint64_t)PFN << 12, 4096), 0xab, 4096);
	assert_int_equal(send_pfns(INFLATE, pfns, ARRAY_SIZE(pfns), d), 3);
	assert_range(&d[0], PFN, 3, HOLE_BALLOON);
	assert_range(&d[1], PFN + 8, 2, HOLE_BALLOON);
	assert_range(&d[2], PFN + 20, 1, HOLE_BALLOON);
	assert_int_equal(*(uint8_t *)fake_ram(f, (uint64_t)PFN << 12, 1), 0);
	assert_int_equal(stats().actual_pages, 6);
	assert_int_equal(stats().discard_ranges, 3);
	assert_int_equal(stats().ignored_pages, 0);
}

static void inflates_high_memory_by_its_page_number(void **state)
{
	static const uint32_t pfns[] = {HIGH_PFN + 1, HIGH_PFN};
	struct fake_discard d[8];

	fake_driver_start(&driver, UINT64_MAX, N_QUEUES);
	assert_int_equal(send_pfns(INFLATE, pfns, 2, d), 1);
	assert_range(&d[0], FAKE_LOW_PAGES, 2, HOLE_BALLOON);
}

static void inflates_a_large_request(void **state)
{
	static uint32_t pfns[1500];
	struct fake_discard d[8];

	for (unsigned i = 0; i < ARRAY_SIZE(pfns); i++)
		pfns[i] = (uint32_t)(FAKE_LOW_PAGES - 1 - i);
	fake_driver_start(&driver, UINT64_MAX, N_QUEUES);
	assert_int_equal(send_pfns(INFLATE, pfns, ARRAY_SIZE(pfns), d), 2); /* in pieces of 1024 */
	assert_int_equal(d[0].n_pages + d[1].n_pages, ARRAY_SIZE(pfns));
	assert_int_equal(stats().actual_pages, ARRAY_SIZE(pfns));
}

static void counts_a_page_once_however_often_it_is_given(void **state)
{
	static const uint32_t twice[] = {PFN, PFN, PFN + 1};
	struct fake_discard d[8];

	fake_driver_start(&driver, UINT64_MAX, N_QUEUES);
	assert_int_equal(send_pfns(INFLATE, twice, 3, d), 1);
	assert_int_equal(stats().actual_pages, 2);
	assert_int_equal(stats().ignored_pages, 1);
	assert_int_equal(
		send_pfns(INFLATE, twice, 3, d), 1); /* discarded again: it may hold memory */
	assert_range(&d[0], PFN, 2, HOLE_BALLOON);
	assert_int_equal(stats().actual_pages, 2);
	assert_int_equal(stats().ignored_pages, 4);
}

static void ignores_pages_that_are_not_ram(void **state)
{
	static const uint32_t pfns[] = {
		FAKE_LOW_PAGES, 0xc0000, UINT32_MAX, HIGH_PFN + FAKE_HIGH_BYTES / PAGE_BYTES, PFN};
	struct fake_discard d[8];

	fake_driver_start(&driver, UINT64_MAX, N_QUEUES);
	assert_int_equal(send_pfns(INFLATE, pfns, ARRAY_SIZE(pfns), d), 1);
	assert_range(&d[0], PFN, 1, HOLE_BALLOON);
	assert_int_equal(stats().ignored_pages, 4);
	assert_int_equal(stats().actual_pages, 1);
	assert_int_equal(send_pfns(DEFLATE, pfns, ARRAY_SIZE(pfns), d), 1);
	assert_int_equal(stats().actual_pages, 0);
	assert_int_equal(fake_driver_status(&driver), 15);
}

static void deflates_only_what_it_holds(void **state)
{
	static const uint32_t given[] = {PFN, PFN + 1, PFN + 2, PFN + 3};
	static const uint32_t taken[] = {PFN + 1, PFN + 2, PFN + 7, PFN + 2};
	struct fake_discard d[8];

	fake_driver_start(&driver, UINT64_MAX, N_QUEUES);
	send_pfns(INFLATE, given, 4, d);
	assert_int_equal(send_pfns(DEFLATE, taken, 4, d), 1);
	assert_range(&d[0], PFN + 1, 2, -1);
	assert_int_equal(stats().actual_pages, 2);
	assert_int_equal(stats().deflated_pages, 2);
	assert_int_equal(stats().ignored_pages, 2);
	assert_int_equal(send_pfns(DEFLATE, given, 4, d), 2);
	assert_int_equal(stats().actual_pages, 0);
	assert_int_equal(send_pfns(INFLATE, given, 4, d), 1); /* and again */
	assert_int_equal(stats().actual_pages, 4);
}

static void deflating_does_not_touch_the_pages(void **state)
{
	static const uint32_t pfns[] = {PFN};
	struct fake_discard d[8];

	fake_driver_start(&driver, UINT64_MAX, N_QUEUES);
	send_pfns(INFLATE, pfns, 1, d);
	memset(fake_ram(f, (uint64_t)PFN << 12, 4096), 0xcd,
		4096); /* reused before the device was told */
	send_pfns(DEFLATE, pfns, 1, d);
	assert_int_equal(*(uint8_t *)fake_ram(f, ((uint64_t)PFN << 12) + 4095, 1), 0xcd);
}

static void an_empty_request_is_acknowledged(void **state)
{
	struct fake_discard d[8];

	fake_driver_start(&driver, UINT64_MAX, N_QUEUES);
	assert_int_equal(send_pfns(INFLATE, (uint32_t[]){0}, 0, d), 0);
	assert_int_equal(fake_driver_status(&driver), 15);
}

/* Sends one buffer to a queue of a fresh device, which then needs a reset. */
static void assert_breaks(unsigned q, struct fake_buffer buffer)
{
	uint64_t before = stats().needs_reset;

	fake_driver_start(&driver, NO_POISON, N_QUEUES);
	fake_discards_clear(f);
	fake_add(&driver, q, &buffer, 1);
	fake_kick(&driver, q);
	assert_true(fake_wait_status(&driver, VIRTIO_STATUS_NEEDS_RESET));
	assert_int_equal(stats().needs_reset, before + 1);
	assert_false(stats().ready);
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
	assert_true(stats().ready);
}

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
	assert_int_equal(stats().reported_pages, 0x202);
	assert_int_equal(stats().actual_pages, 0);
}

static void a_reported_page_is_not_in_the_balloon(void **state)
{
	static const uint32_t pfns[] = {0x400, 0x401};
	struct fake_buffer buffer = {0x401000, 0x1000, true};
	struct fake_discard d[8];

	fake_driver_start(&driver, NO_POISON, N_QUEUES);
	send_pfns(INFLATE, pfns, 2, d);
	fake_request(&driver, REPORTING, &buffer, 1);
	assert_int_equal(stats().actual_pages, 1);
	send_pfns(DEFLATE, pfns, 2, d);
	assert_int_equal(stats().actual_pages, 0);
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
	assert_int_equal(stats().poison_reports, 0x200);
	assert_int_equal(stats().reported_pages, 0);
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
	assert_int_equal(send_pfns(INFLATE, pfns, 1, d), 1);
}

static void put_stat(unsigned i, uint16_t tag, uint64_t value)
{
	uint8_t *at = fake_ram(f, FAKE_BUFFERS_GPA + 10 * i, 10);

	memcpy(at, &tag, 2);
	memcpy(at + 2, &value, 8);
}

/* Waits until the device has read statistics with that much free. */
static bool wait_free(uint64_t bytes)
{
	return COMES_TRUE(stats().claims.free_bytes == bytes);
}

static void reads_statistics_in_any_order_and_skips_unknown_ones(void **state)
{
	static const uint16_t tags[] = {7, 4, 0xffff, 0, 9, 5, 6, 1, 3, 2, 8, 42};
	struct fake_buffer buffer = {
		FAKE_BUFFERS_GPA, 10 * ARRAY_SIZE(tags) + 3, false}; /* and a tail */
	struct virtio_balloon_claims c;

	fake_driver_start(&driver, UINT64_MAX, N_QUEUES);
	for (unsigned i = 0; i < ARRAY_SIZE(tags); i++)
		put_stat(i, tags[i], 1000 + tags[i]);
	fake_add(&driver, STATS, &buffer, 1);
	fake_kick(&driver, STATS);
	assert_true(wait_free(1004));
	c = stats().claims;
	assert_int_equal(c.swap_in_bytes, 1000);
	assert_int_equal(c.swap_out_bytes, 1001);
	assert_int_equal(c.major_faults, 1002);
	assert_int_equal(c.minor_faults, 1003);
	assert_int_equal(c.total_bytes, 1005);
	assert_int_equal(c.available_bytes, 1006);
	assert_int_equal(c.disk_caches_bytes, 1007);
	assert_true(c.time_us > 0);
}

static void statistics_that_are_not_given_are_unknown(void **state)
{
	struct fake_buffer buffer = {FAKE_BUFFERS_GPA, 10, false};

	assert_true(stats().claims.free_bytes == UINT64_MAX);
	assert_int_equal(stats().claims.time_us, 0);
	fake_driver_start(&driver, UINT64_MAX, N_QUEUES);
	put_stat(0, 4, 1);
	fake_add(&driver, STATS, &buffer, 1);
	fake_kick(&driver, STATS);
	assert_true(wait_free(1));
	assert_true(stats().claims.total_bytes == UINT64_MAX);
}

static void keeps_the_statistics_buffer_until_it_wants_fresh_ones(void **state)
{
	struct fake_buffer buffer = {FAKE_BUFFERS_GPA, 10, false};
	uint32_t id;

	fake_driver_start(&driver, VIRTIO_F_VERSION_1 | F_STATS_VQ, N_QUEUES);
	put_stat(0, 4, 1);
	fake_add(&driver, STATS, &buffer, 1);
	fake_kick(&driver, STATS);
	assert_true(wait_free(1));
	assert_false(fake_has_used(&driver, STATS));
	for (unsigned round = 2; round < 5; round++) {
		virtio_balloon_request_claims(balloon);
		assert_true(fake_wait_used(&driver, STATS, &id, NULL));
		virtio_balloon_request_claims(balloon); /* while the driver works: harmless */
		put_stat(0, 4, round);
		fake_add(&driver, STATS, &buffer, 1);
		fake_kick(&driver, STATS);
		assert_true(wait_free(round));
	}
	fake_driver_reset(&driver);
	assert_true(fake_vector_take(&driver, STATS + 1) >= 3);
}

static void gives_the_older_of_two_statistics_buffers_back(void **state)
{
	struct fake_buffer buffer = {FAKE_BUFFERS_GPA, 10, false};
	uint16_t first, second;
	uint32_t id;

	fake_driver_start(&driver, UINT64_MAX, N_QUEUES);
	first = fake_add(&driver, STATS, &buffer, 1);
	second = fake_add(&driver, STATS, &buffer, 1);
	fake_kick(&driver, STATS);
	assert_true(fake_wait_used(&driver, STATS, &id, NULL));
	assert_int_equal(id, first);
	assert_false(fake_has_used(&driver, STATS));
	virtio_balloon_request_claims(balloon);
	assert_true(fake_wait_used(&driver, STATS, &id, NULL));
	assert_int_equal(id, second);
}

static void statistics_asked_before_the_driver_is_ready_are_harmless(void **state)
{
	struct fake_buffer buffer = {FAKE_BUFFERS_GPA, 10, false};

	virtio_balloon_request_claims(balloon);
	fake_driver_negotiate(&driver, UINT64_MAX);
	virtio_balloon_request_claims(balloon);
	for (unsigned q = 0; q < N_QUEUES; q++)
		fake_driver_queue(&driver, q, 0);
	fake_driver_ok(&driver);
	virtio_balloon_request_claims(balloon);
	put_stat(0, 4, 17);
	fake_add(&driver, STATS, &buffer, 1);
	fake_kick(&driver, STATS);
	assert_true(wait_free(17));
	assert_int_equal(fake_driver_status(&driver), 15);
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
	send_pfns(INFLATE, pfns, ARRAY_SIZE(pfns), d);
	fake_mmio_write(f, driver.device + CONFIG_ACTUAL, 4, 7);
	assert_true(stats().ready);
	fake_discards_clear(f);
	fake_driver_reset(&driver);
	assert_int_equal(stats().actual_pages, 0);
	assert_int_equal(stats().claimed_pages, 0);
	assert_int_equal(stats().target_pages, 7); /* ours, not the driver's */
	assert_false(stats().ready);
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
		if (virtio_balloon_new(&poor->machine, poor_bus, SLOT, &b) < 0)
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
		stats();
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
		send_pfns(i % 3 ? INFLATE : DEFLATE, pfns, 4, d);
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
	assert_int_equal(stats().needs_reset, 0);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

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
		T(reports_are_discarded_by_range),
		T(a_reported_page_is_not_in_the_balloon),
		T(poisoned_pages_keep_their_content_when_reported),
		T(pages_poisoned_with_zero_are_discarded),
		T(poison_counts_as_it_was_when_the_driver_started),
		T(poisoned_pages_may_be_inflated),
		T(reads_statistics_in_any_order_and_skips_unknown_ones),
		T(statistics_that_are_not_given_are_unknown),
		T(keeps_the_statistics_buffer_until_it_wants_fresh_ones),
		T(gives_the_older_of_two_statistics_buffers_back),
		T(statistics_asked_before_the_driver_is_ready_are_harmless),
		T(queues_are_numbered_by_what_was_negotiated),
		T(a_reset_empties_the_balloon),
		T(fails_without_leaving_anything),
		T(survives_the_control_thread),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
