/*
 * Guests of one trust group with a memd-pool: equal pages are kept once, zero pages dropped, and
 * whatever the guests do to their pages meanwhile, they read what they wrote.
 */
#include <inttypes.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <cmocka.h>

#include "memd/base/clock.h"
#include "memd/base/fd.h"
#include "memd/base/units.h"
#include "tests/guest/service-run.h"
#include "tests/guest/guest-check.h"
#include "tests/guest/zram.h"

#define GUESTS 2

/* Two guests and their pool. */
struct group {
	struct service_run pool;
	struct vmm_run *guests[GUESTS];
};

static void group_done(struct group *g)
{
	for (unsigned i = 0; i < GUESTS; i++)
		vmm_run_free(g->guests[i]);
	service_run_done(&g->pool);
}

static void set_scan(struct vmm_run *v, enum vmm_scan_mode mode)
{
	struct vmm_set_scan scan = {
		.mode = mode, .max_cpu_bp = 7000, .target_time_us = 500 * US_PER_MS};

	assert_int_equal(vmm_run_request(v, VMM_SET_SCAN, &scan, sizeof(scan)), 0);
}

static void attach(struct group *g, struct vmm_run *v)
{
	_cleanup_close_ int fd = service_run_connect(&g->pool);

	assert_true(fd >= 0);
	assert_int_equal(vmm_run_attach_pool(v, fd), 0);
}

static void group_start(struct group *g, const char *cmdline)
{
	static const char *const no_arguments[] = {NULL};

	assert_int_equal(service_run_init(&g->pool), 0);
	assert_int_equal(service_run_start(&g->pool, "dedup/memd-pool", no_arguments), 0);
	for (unsigned i = 0; i < GUESTS; i++) {
		char own[256];
		struct vmm_run_options o = {
			.cmdline = own, .memory_bytes = 128 * MIB, .n_vcpus = 1 + i};

		(void)snprintf(own, sizeof(own), "seed=%u %s", 10 + i, cmdline);
		assert_int_equal(vmm_run_start(&o, &g->guests[i]), 0);
		attach(g, g->guests[i]);
		set_scan(g->guests[i], VMM_SCAN_SHARE);
	}
}

static bool wait_shared(struct vmm_run *v, uint64_t shared_pages, uint64_t zero_pages)
{
	uint64_t deadline = clock_monotonic_us() + WAIT_MS * US_PER_MS;
	struct vmm_stats stats;

	do {
		clock_sleep_us(50 * US_PER_MS);
		if (vmm_run_get_stats(v, &stats) < 0)
			return false;
		if (stats.shared_pages >= shared_pages && stats.hole_zero_pages >= zero_pages)
			return true;
	} while (clock_monotonic_us() < deadline);
	(void)printf("# shared %" PRIu64 " zero %" PRIu64 " passes %" PRIu64 "\n",
		stats.shared_pages, stats.hole_zero_pages, stats.scan_passes);
	return false;
}

static void assert_nothing_corrupt(struct group *g)
{
	for (unsigned i = 0; i < GUESTS; i++) {
		uint64_t verified = vmm_run_value(g->guests[i], "verified", 0);

		/* once more around what is hot: so what was shared before was looked at since */
		assert_true(vmm_run_wait_value(
			g->guests[i], "verified", verified + PAGES(48), WAIT_MS));
		assert_int_equal(vmm_run_value(g->guests[i], "corrupt", 1), 0);
	}
}

static void equal_pages_of_two_guests_are_kept_once(void **state)
{
	_cleanup_(group_done) struct group g = {0};
	uint64_t anonymous_bytes = 0, private_pages = 0;

	group_start(&g, "common_mib=48 unique_mib=16 zero_mib=16 report_ms=100");
	for (unsigned i = 0; i < GUESTS; i++)
		assert_true(wait_shared(g.guests[i], PAGES(48) * 95 / 100, PAGES(16) * 95 / 100));
	for (unsigned i = 0; i < GUESTS; i++) {
		struct vmm_stats stats;

		assert_int_equal(vmm_run_get_stats(g.guests[i], &stats), 0);
		private_pages += stats.private_pages;
		anonymous_bytes += vmm_run_anonymous_bytes(g.guests[i]);
	}
	/* of 2 x 80 MiB that were written 2 x 16 must stay; the processes themselves are small */
	assert_true(private_pages < GUESTS * PAGES(24));
	assert_true(anonymous_bytes < GUESTS * 24 * MIB);
	assert_nothing_corrupt(&g);
}

static bool wait_broken(struct vmm_run *v, uint64_t pages)
{
	uint64_t deadline = clock_monotonic_us() + WAIT_MS * US_PER_MS;
	struct vmm_stats stats;

	do {
		clock_sleep_us(50 * US_PER_MS);
		if (vmm_run_get_stats(v, &stats) < 0)
			return false;
		if (stats.scan_pages_broken >= pages)
			return true;
	} while (clock_monotonic_us() < deadline);
	return false;
}

static void guests_read_what_they_wrote_while_pages_are_shared_and_broken(void **state)
{
	_cleanup_(group_done) struct group g = {0};

	group_start(&g, "common_mib=32 unique_mib=16 zero_mib=16 rewrite_per_s=2000 "
			"rewrite_common_per_s=2000 rewrite_zero_per_s=2000 report_ms=100");
	for (unsigned i = 0; i < GUESTS; i++)
		assert_true(wait_broken(g.guests[i], 1000));
	assert_nothing_corrupt(&g);
}

static void guests_go_on_when_the_pool_is_killed(void **state)
{
	_cleanup_(group_done) struct group g = {0};

	group_start(&g, "common_mib=48 unique_mib=16 rewrite_common_per_s=500 report_ms=100");
	for (unsigned i = 0; i < GUESTS; i++)
		assert_true(wait_shared(g.guests[i], PAGES(48) / 2, 0));
	assert_int_equal(kill(g.pool.pid, SIGKILL), 0);
	assert_true(service_run_reap(&g.pool, 0));
	assert_nothing_corrupt(&g);
}

static void a_guest_goes_on_when_the_other_is_killed(void **state)
{
	_cleanup_(group_done) struct group g = {0};

	group_start(&g, "common_mib=48 unique_mib=16 rewrite_common_per_s=500 report_ms=100");
	for (unsigned i = 0; i < GUESTS; i++)
		assert_true(wait_shared(g.guests[i], PAGES(48) / 2, 0));
	vmm_run_free(g.guests[0]);
	/* a newcomer finds the pages of the one that died in the pool, or brings its own */
	{
		struct vmm_run_options o = {.cmdline = "seed=10 common_mib=48 report_ms=100",
			.memory_bytes = 128 * MIB,
			.n_vcpus = 1};

		g.guests[0] = NULL;
		assert_int_equal(vmm_run_start(&o, &g.guests[0]), 0);
	}
	attach(&g, g.guests[0]);
	set_scan(g.guests[0], VMM_SCAN_SHARE);
	assert_true(wait_shared(g.guests[0], PAGES(48) / 2, 0));
	assert_nothing_corrupt(&g);
}

/* One piece of the guest's RAM to swap, as memd does it. Without a swap device it does nothing. */
static void page_out_some(const struct vmm_run *v, unsigned turn)
{
	_cleanup_close_ int pidfd = fd_pidfd_open(vmm_run_pid(v));
	const struct vmm_range *range = &vmm_run_hello(v)->ranges[0];
	uint64_t n_chunks = range->bytes / CHUNK_BYTES;

	for (unsigned i = 0; i < 4; i++)
		(void)fd_process_madvise(pidfd,
			range->hva + (turn * 4 + i) % n_chunks * CHUNK_BYTES, CHUNK_BYTES,
			MADV_PAGEOUT);
}

/* A turn of everything that takes memory from a guest. Ends with the guest: requests then fail. */
static bool harass(struct vmm_run *v, unsigned turn)
{
	page_out_some(v, turn);
	if (turn % 8 == 3 && vmm_run_set_balloon(v, turn % 16 == 3 ? PAGES(40) : PAGES(4)) < 0)
		return false;
	if (turn % 32 == 5)
		set_scan(v, VMM_SCAN_ZERO_ONLY);
	if (turn % 32 == 13)
		set_scan(v, VMM_SCAN_SHARE);
	if (turn % 16 == 9 && vmm_run_request(v, VMM_PAUSE, NULL, 0) < 0)
		return false;
	clock_sleep_us(10 * US_PER_MS);
	return turn % 16 != 9 || vmm_run_request(v, VMM_RESUME, NULL, 0) == 0;
}

/* Whether all of it took memory from the guest; swap only where there is some. */
static bool everything_happened(struct vmm_run *v, bool has_swap, bool *swapped)
{
	struct vmm_stats s;

	assert_int_equal(vmm_run_get_stats(v, &s), 0);
	*swapped |= s.swapped_pages > 0 || !has_swap;
	return *swapped && s.scan_pages_mapped > 0 && s.scan_pages_broken > 0 &&
	       s.freed_zero_pages > 0 && s.balloon_discard_calls > 0 &&
	       vmm_run_value(v, "reported", 0) > 0 && vmm_run_value(v, "returned", 0) > 0;
}

static void guests_read_what_they_wrote_while_everything_happens(void **state)
{
	_cleanup_(zram_swap_done) struct zram_swap swap = ZRAM_SWAP_NONE;
	_cleanup_(group_done) struct group g = {0};
	uint64_t start_us = clock_monotonic_us(), elapsed_us;
	bool swapped[GUESTS] = {0}, happened;
	unsigned turn = 0;

	if (zram_swap_init(&swap, 512 * MIB) < 0)
		(void)printf("# without swap: no zram device to be had\n");
	group_start(&g,
		"common_mib=24 unique_mib=24 zero_mib=8 scratch_mib=24 scratch_s=0 "
		"scratch_rounds=1000000 hot_mib=8 rewrite_per_s=3000 rewrite_common_per_s=1000 "
		"rewrite_zero_per_s=500 sweep_pages_per_s=20000 report_ms=100");
	do {
		happened = true;
		for (unsigned i = 0; i < GUESTS; i++) {
			assert_true(harass(g.guests[i], turn));
			happened &= everything_happened(g.guests[i], swap.number >= 0, &swapped[i]);
		}
		turn++;
		elapsed_us = clock_monotonic_us() - start_us;
	} while (elapsed_us < 12 * US_PER_S || (!happened && elapsed_us < WAIT_MS * US_PER_MS));
	assert_true(happened);
	assert_nothing_corrupt(&g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(equal_pages_of_two_guests_are_kept_once),
		cmocka_unit_test(guests_read_what_they_wrote_while_pages_are_shared_and_broken),
		cmocka_unit_test(guests_go_on_when_the_pool_is_killed),
		cmocka_unit_test(a_guest_goes_on_when_the_other_is_killed),
		cmocka_unit_test(guests_read_what_they_wrote_while_everything_happens),
	};

	if (!guests_can_run())
		return 0;
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
