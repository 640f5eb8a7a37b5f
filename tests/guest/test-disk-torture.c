/*
 * The busy rule (virtio-blk.c) with real vCPUs: a guest writes pages to its disk and reads them
 * back, past the page cache, into pages that its host wants to take away just then: zero pages,
 * which are dropped, and equal ones, which are mapped from the pool; all of its memory is paged out
 * to a zram of our own at the same time. Every word that was read is verified. Without the rule
 * (mark_busy of virtio-blk.c made to do nothing) reads were lost within seconds.
 * MEMD_TORTURE_BLOCKS sets how many blocks of 4 KiB are to be read.
 */
#include <fcntl.h>
#include <inttypes.h>
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
#include "tests/guest/service-run.h"
#include "tests/guest/zram.h"

#define MEMORY_BYTES (32 * MIB)
#define DISK_BYTES   (4 * MIB)
#define SWAP_BYTES   (128 * MIB)
#define BLOCKS	     100000

struct torture {
	char disk[64];
	struct service_run pool;
	struct vmm_run *guest;
	struct zram_swap swap;
	struct pageout_run pageout;
};

static int setup(void **state)
{
	struct torture *t = calloc(1, sizeof(*t));
	int fd;

	*state = t;
	t->swap = ZRAM_SWAP_NONE;
	snprintf(t->disk, sizeof(t->disk), "/var/tmp/memd-disk.XXXXXX");
	fd = mkstemp(t->disk);
	if (fd < 0 || posix_fallocate(fd, 0, DISK_BYTES) != 0)
		return -1;
	close(fd);
	return 0;
}

static int teardown(void **state)
{
	struct torture *t = *state;

	pageout_run_done(&t->pageout);
	vmm_run_free(t->guest);
	service_run_done(&t->pool);
	zram_swap_done(&t->swap);
	unlink(t->disk);
	free(t);
	return 0;
}

static void start(struct torture *t, const char *disk_options)
{
	static const char *const no_arguments[] = {NULL};
	const struct vmm_set_scan scan = {.mode = VMM_SCAN_SHARE, .max_cpu_bp = 10000};
	char disk[128];
	const char *const arguments[] = {"--disk", disk, NULL};
	const struct vmm_run_options o = {
		.cmdline = "seed=9 disk=1 report_ms=100 unique_mib=1 zero_mib=1",
		.memory_bytes = MEMORY_BYTES,
		.n_vcpus = 2,
		.arguments = arguments,
	};
	_cleanup_close_ int connection = -1;

	snprintf(disk, sizeof(disk), "%s%s", t->disk, disk_options);
	assert_int_equal(service_run_init(&t->pool), 0);
	assert_int_equal(service_run_start(&t->pool, "dedup/memd-pool", no_arguments), 0);
	assert_int_equal(vmm_run_start(&o, &t->guest), 0);
	connection = service_run_connect(&t->pool);
	assert_true(connection >= 0);
	assert_int_equal(vmm_run_attach_pool(t->guest, connection), 0);
	assert_int_equal(vmm_run_request(t->guest, VMM_SET_SCAN, &scan, sizeof(scan)), 0);
}

static uint64_t value(struct torture *t, const char *name)
{
	return vmm_run_value(t->guest, name, 0);
}

/* So that "nothing was corrupt" means something. */
static bool did_enough(struct torture *t, uint64_t blocks)
{
	struct vmm_stats s = get_stats(t->guest);

	return value(t, "disk_read") >= blocks && value(t, "disk_written") >= blocks / 10 &&
	       s.scan_pages_dropped >= 1000 && s.scan_pages_mapped >= 1000;
}

static void read_while_pages_are_exchanged(struct torture *t, const char *disk_options)
{
	const char *text = getenv("MEMD_TORTURE_BLOCKS");
	uint64_t blocks = text ? strtoull(text, NULL, 10) : BLOCKS, swapped = 0;
	uint64_t end_us = clock_monotonic_us() + WAIT_MS * US_PER_MS;
	struct vmm_stats s;
	int r;

	r = zram_swap_init(&t->swap, SWAP_BYTES);
	if (r < 0)
		printf("# without page-out: no zram for swap here (%s)\n", strerror(-r));
	start(t, disk_options);
	if (r == 0)
		assert_int_equal(pageout_run_start(&t->pageout, t->guest, 20 * US_PER_MS), 0);
	while (!did_enough(t, blocks) && clock_monotonic_us() < end_us && !value(t, "corrupt")) {
		clock_sleep_us(50 * US_PER_MS);
		swapped += get_stats(t->guest).swapped_pages;
	}
	s = get_stats(t->guest);
	printf("# read %" PRIu64 " blocks, wrote %" PRIu64 ", corrupt %" PRIu64 "; mapped %" PRIu64
	       " dropped %" PRIu64 " frozen %" PRIu64 " thawed %" PRIu64 "\n",
		value(t, "disk_read"), value(t, "disk_written"), value(t, "corrupt"),
		s.scan_pages_mapped, s.scan_pages_dropped, s.scan_pages_frozen,
		s.scan_pages_thawed);
	assert_int_equal(value(t, "corrupt"), 0);
	assert_int_equal(s.device_needs_reset, 0);
	assert_true(did_enough(t, blocks));
	if (t->pageout.started)
		assert_true(swapped > 0);
}

static void direct_reads_are_whole_while_pages_are_exchanged(void **state)
{
	read_while_pages_are_exchanged(*state, ",direct,queues=4");
}

static void reads_through_the_page_cache_are_whole_too(void **state)
{
	read_while_pages_are_exchanged(*state, ",queues=4");
}

#define T(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(direct_reads_are_whole_while_pages_are_exchanged),
		T(reads_through_the_page_cache_are_whole_too),
	};

	if (!guests_can_run())
		return 0;
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("disk-torture", tests, NULL, NULL);
}
