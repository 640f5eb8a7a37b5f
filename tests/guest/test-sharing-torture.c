/*
 * Sharing with real vCPUs: guests that write common, unique and zero pages and verify every word,
 * one memd-pool, scanners without any limit, and page-out of all guests' memory to a zram of our
 * own at the same time. The second test runs memd-vmm without the freeze (thaw-early.c): then a
 * guest must see wrong words, or the first one proves nothing. MEMD_TORTURE_PAGES sets how many
 * pages are to be verified.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <cmocka.h>

#include "memd/base/clock.h"
#include "memd/base/fd.h"
#include "memd/base/pool-proto.h"
#include "memd/base/units.h"
#include "tests/guest/guest-check.h"
#include "tests/guest/pageout-run.h"
#include "tests/guest/sanitizer.h"
#include "tests/guest/service-run.h"
#include "tests/guest/zram.h"

#define N_GUESTS     2
#define N_VCPUS	     2
#define MEMORY_BYTES (64 * MIB)
#define SWAP_BYTES   (512 * MIB)
#define VERIFIED     1000000

struct torture {
	struct service_run pool;
	struct vmm_run *guests[N_GUESTS];
	struct pageout_run pageouts[N_GUESTS];
	struct zram_swap swap;
};

static int setup(void **state)
{
	struct torture *t = calloc(1, sizeof(*t));

	*state = t;
	t->swap = ZRAM_SWAP_NONE;
	return 0;
}

static void stop_guest(struct torture *t, unsigned i)
{
	pageout_run_done(&t->pageouts[i]);
	vmm_run_free(t->guests[i]);
	t->guests[i] = NULL;
}

static int teardown(void **state)
{
	struct torture *t = *state;

	for (unsigned i = 0; i < N_GUESTS; i++)
		stop_guest(t, i);
	service_run_done(&t->pool);
	zram_swap_done(&t->swap);
	free(t);
	return 0;
}

/* mode: enum vmm_scan_mode */
static void start(struct torture *t, unsigned i, const char *workload, uint32_t mode)
{
	const struct vmm_set_scan scan = {.mode = mode, .max_cpu_bp = 10000};
	char cmdline[256];
	const struct vmm_run_options o = {
		.cmdline = cmdline, .memory_bytes = MEMORY_BYTES, .n_vcpus = N_VCPUS};
	_cleanup_close_ int connection = -1;

	snprintf(cmdline, sizeof(cmdline), "seed=%u report_ms=250 %s", i + 1, workload);
	assert_int_equal(vmm_run_start(&o, &t->guests[i]), 0);
	if (mode == VMM_SCAN_SHARE) {
		connection = service_run_connect(&t->pool);
		assert_true(connection >= 0);
		assert_int_equal(vmm_run_attach_pool(t->guests[i], connection), 0);
	}
	assert_int_equal(vmm_run_request(t->guests[i], VMM_SET_SCAN, &scan, sizeof(scan)), 0);
}

static void start_pool(struct torture *t)
{
	static const char *const no_arguments[] = {NULL};

	assert_int_equal(service_run_init(&t->pool), 0);
	assert_int_equal(service_run_start(&t->pool, "dedup/memd-pool", no_arguments), 0);
}

static uint64_t sum_on_consoles(struct torture *t, const char *name)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < N_GUESTS; i++)
		if (t->guests[i])
			sum += vmm_run_value(t->guests[i], name, 0);
	return sum;
}

static uint64_t pages_to_verify(void)
{
	const char *text = getenv("MEMD_TORTURE_PAGES");

	return text ? strtoull(text, NULL, 10) : VERIFIED;
}

/* So that "nothing was corrupt" means something: the figures of both guests must reach these. */
static bool did_enough(struct torture *t)
{
	if (sum_on_consoles(t, "verified") < pages_to_verify())
		return false;
	for (unsigned i = 0; i < N_GUESTS; i++) {
		struct vmm_stats s = get_stats(t->guests[i]);

		if (s.scan_pages_mapped < 5000 || s.scan_pages_dropped < 2000 ||
			s.scan_pages_broken < 1000)
			return false;
	}
	return true;
}

static void vcpus_see_nothing_while_pages_are_exchanged(void **state)
{
	struct torture *t = *state;
	uint64_t end_us = clock_monotonic_us() + WAIT_MS * US_PER_MS, swapped = 0;
	int r;

	r = zram_swap_init(&t->swap, SWAP_BYTES);
	if (r < 0)
		printf("# without page-out: no zram for swap here (%s)\n", strerror(-r));
	start_pool(t);
	for (unsigned i = 0; i < N_GUESTS; i++)
		start(t, i,
			"common_mib=16 unique_mib=8 zero_mib=8 hot_mib=4 rewrite_per_s=5000 "
			"rewrite_common_per_s=2000 rewrite_zero_per_s=2000 "
			"sweep_pages_per_s=1000000 verify_per_s=1000000",
			VMM_SCAN_SHARE);
	for (unsigned i = 0; i < N_GUESTS && r == 0; i++)
		assert_int_equal(
			pageout_run_start(&t->pageouts[i], t->guests[i], 30 * US_PER_MS), 0);
	while (!did_enough(t) && clock_monotonic_us() < end_us && !sum_on_consoles(t, "corrupt")) {
		clock_sleep_us(100 * US_PER_MS);
		for (unsigned i = 0; i < N_GUESTS; i++)
			swapped += get_stats(t->guests[i]).swapped_pages;
	}
	printf("# verified %" PRIu64 " corrupt %" PRIu64 " written %" PRIu64 "\n",
		sum_on_consoles(t, "verified"), sum_on_consoles(t, "corrupt"),
		sum_on_consoles(t, "written"));
	for (unsigned i = 0; i < N_GUESTS; i++) {
		struct vmm_stats s = get_stats(t->guests[i]);

		printf("# guest %u: mapped %" PRIu64 " dropped %" PRIu64 " broken %" PRIu64
		       " thawed %" PRIu64 " frozen %" PRIu64 " passes %" PRIu64 ", now %" PRIu64
		       " shared %" PRIu64 " swapped\n",
			i, s.scan_pages_mapped, s.scan_pages_dropped, s.scan_pages_broken,
			s.scan_pages_thawed, s.scan_pages_frozen, s.scan_passes, s.shared_pages,
			s.swapped_pages);
	}
	assert_int_equal(sum_on_consoles(t, "corrupt"), 0);
	assert_true(did_enough(t));
	if (t->pageouts[0].started)
		assert_true(swapped > 0);
}

/* The same with thaw-early.c in the way: what is left of the primitive without the freeze. */
static void vcpus_see_wrong_words_without_the_freeze(void **state)
{
	struct torture *t = *state;
	char path[PATH_MAX];
	uint64_t end_us, corrupt = 0;
	int status;

	if (left_out_with_a_sanitizer(NO_PRELOAD))
		return;
	assert_int_equal(
		service_run_build_path("tests/guest/libthaw-early.so", path, sizeof(path)), 0);
	setenv("LD_PRELOAD", path, 1);
	/*
	 * What is lost may be a word of the guest's own: then it ends before it can count, and
	 * another begins.
	 */
	end_us = clock_monotonic_us() + WAIT_MS * US_PER_MS;
	while (!corrupt && clock_monotonic_us() < end_us) {
		start(t, 0, "zero_mib=8 rewrite_zero_per_s=1000000 sweep_pages_per_s=1000000",
			VMM_SCAN_ZERO_ONLY);
		while (!(corrupt = sum_on_consoles(t, "corrupt")) &&
			vmm_run_wait_exit(t->guests[0], 100, &status) < 0 &&
			clock_monotonic_us() < end_us)
			;
		stop_guest(t, 0);
	}
	unsetenv("LD_PRELOAD");
	printf("# corrupt %" PRIu64 "\n", corrupt);
	assert_true(corrupt > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			vcpus_see_nothing_while_pages_are_exchanged, setup, teardown),
		cmocka_unit_test_setup_teardown(
			vcpus_see_wrong_words_without_the_freeze, setup, teardown),
	};

	if (!guests_can_run())
		return 0;
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("sharing-torture", tests, NULL, NULL);
}
