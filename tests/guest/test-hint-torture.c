/*
 * Free page hinting against a guest that does not wait: three vCPUs write hinted blocks again at
 * once and verify every word, while the host drops what it was hinted, the scanner drops and shares
 * pages of the same chunks, and all RAM is paged out to a zram of our own. The second test runs
 * memd-vmm with a dirty log that says nothing (no-log.c): then the guest must see wrong words, or
 * the first one proves nothing. MEMD_TORTURE_PAGES sets how many pages are to be verified.
 */
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
#include "memd/base/units.h"
#include "tests/guest/guest-check.h"
#include "tests/guest/pageout-run.h"
#include "tests/guest/sanitizer.h"
#include "tests/guest/service-run.h"
#include "tests/guest/zram.h"

#define N_VCPUS	     3
#define MEMORY_BYTES (192 * MIB)
#define VERIFIED     200000
#define DROPPED	     5000
#define WRITTEN	     5000
#define WORKLOAD                                                                                   \
	"seed=3 report_ms=250 hint_mib=96 hint_block_kib=256 hint_reuse_pct=50 hint_run_ms=100 "   \
	"unique_mib=4 zero_mib=4 rewrite_per_s=1000 rewrite_zero_per_s=1000 verify_per_s=5000 "    \
	"reporting=0"

struct torture {
	struct vmm_run *guest;
	struct zram_swap swap;
	struct pageout_run pageout;
};

static int setup(void **state)
{
	struct torture *t = calloc(1, sizeof(*t));

	*state = t;
	t->swap = ZRAM_SWAP_NONE;
	return 0;
}

static int teardown(void **state)
{
	struct torture *t = *state;

	pageout_run_done(&t->pageout);
	vmm_run_free(t->guest);
	zram_swap_done(&t->swap);
	free(t);
	return 0;
}

static void start(struct torture *t)
{
	const struct vmm_set_scan scan = {.mode = VMM_SCAN_ZERO_ONLY, .max_cpu_bp = 2000};
	const struct vmm_run_options o = {
		.cmdline = WORKLOAD, .memory_bytes = MEMORY_BYTES, .n_vcpus = N_VCPUS};

	assert_int_equal(vmm_run_start(&o, &t->guest), 0);
	assert_int_equal(vmm_run_request(t->guest, VMM_SET_SCAN, &scan, sizeof(scan)), 0);
	assert_true(vmm_run_wait_text(t->guest, "phase=run", WAIT_MS));
}

static uint64_t pages_to_verify(void)
{
	const char *text = getenv("MEMD_TORTURE_PAGES");

	return text ? strtoull(text, NULL, 10) : VERIFIED;
}

/* So that "nothing was corrupt" means something. */
static bool did_enough(struct torture *t)
{
	struct vmm_stats s = get_stats(t->guest);

	return vmm_run_value(t->guest, "verified", 0) >= pages_to_verify() &&
	       s.hint_dropped_pages >= DROPPED && s.hint_written_pages >= WRITTEN &&
	       s.hint_runs >= 10;
}

/* Asks for hints all the time, until enough was done or a word was wrong. */
static void torture(struct torture *t, bool (*enough)(struct torture *t))
{
	uint64_t end_us = clock_monotonic_us() + WAIT_MS * US_PER_MS;
	struct vmm_stats s;

	while (clock_monotonic_us() < end_us && !vmm_run_value(t->guest, "corrupt", 0) &&
		!enough(t)) {
		int r = vmm_run_request(t->guest, VMM_ASK_HINTS, NULL, 0);

		assert_int_equal(r, 0);
		clock_sleep_us(20 * US_PER_MS);
	}
	s = get_stats(t->guest);
	printf("# verified %" PRIu64 " corrupt %" PRIu64 "; runs %" PRIu64 " hinted %" PRIu64
	       " dropped %" PRIu64 " written since %" PRIu64 " unsettled %" PRIu64
	       " swapped now %" PRIu64 ", %" PRIu64 " ms a run\n",
		vmm_run_value(t->guest, "verified", 0), vmm_run_value(t->guest, "corrupt", 0),
		s.hint_runs, s.hint_named_pages, s.hint_dropped_pages, s.hint_written_pages,
		s.hint_unsettled_pages, s.swapped_pages,
		s.hint_runs ? s.hint_wall_us / US_PER_MS / s.hint_runs : 0);
}

static void a_guest_that_reuses_hinted_blocks_at_once_loses_no_word(void **state)
{
	struct torture *t = *state;
	int r;

	r = zram_swap_init(&t->swap, 512 * MIB);
	if (r < 0)
		printf("# without page-out: no zram for swap here (%s)\n", strerror(-r));
	start(t);
	if (r == 0)
		assert_int_equal(pageout_run_start(&t->pageout, t->guest, 30 * US_PER_MS), 0);
	torture(t, did_enough);
	assert_int_equal(vmm_run_value(t->guest, "corrupt", 1), 0);
	assert_true(did_enough(t));
}

static bool never(struct torture *t)
{
	return false;
}

/* The same with no-log.c in the way: what is left of it without the dirty log. */
static void it_loses_words_without_the_log(void **state)
{
	struct torture *t = *state;
	char path[PATH_MAX];

	if (left_out_with_a_sanitizer(NO_PRELOAD))
		return;
	assert_int_equal(service_run_build_path("tests/guest/libno-log.so", path, sizeof(path)), 0);
	setenv("LD_PRELOAD", path, 1);
	start(t);
	unsetenv("LD_PRELOAD");
	torture(t, never);
	assert_true(vmm_run_value(t->guest, "corrupt", 0) > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			a_guest_that_reuses_hinted_blocks_at_once_loses_no_word, setup, teardown),
		cmocka_unit_test_setup_teardown(it_loses_words_without_the_log, setup, teardown),
	};

	if (!guests_can_run())
		return 0;
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("hint-torture", tests, NULL, NULL);
}
