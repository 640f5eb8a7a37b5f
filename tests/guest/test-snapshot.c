/*
 * Snapshots: a guest goes on after one as if nothing had been, a restored one goes on where it was,
 * and clones share its RAM until they write, each writing for itself. The guest verifies all it
 * wrote, before and after.
 */
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <cmocka.h>

#include "memd/base/clock.h"
#include "memd/base/fd.h"
#include "memd/base/template-file.h"
#include "memd/base/units.h"
#include "tests/guest/guest-check.h"

#define MEMORY_MIB 64
#define DATA_MIB   (8 + 24 + 8)
#define N_CLONES   2

static char directory[] = "/tmp/memd-test-XXXXXX";

/* A guest with memory of all kinds, which it rewrites and verifies all the time. */
static struct vmm_run *start(unsigned n_vcpus)
{
	struct vmm_run_options o = {
		.cmdline = "seed=3 common_mib=8 unique_mib=24 zero_mib=8 hot_mib=4 "
			   "rewrite_per_s=500 rewrite_common_per_s=100 rewrite_zero_per_s=100 "
			   "verify_per_s=40000 report_ms=100",
		.memory_bytes = MEMORY_MIB * MIB,
		.n_vcpus = n_vcpus,
	};
	struct vmm_run *v = start_guest(&o);

	assert_guest(v, vmm_run_wait_text(v, "phase=run", WAIT_MS));
	return v;
}

static struct vmm_run *restore(int template_fd)
{
	struct vmm_run_options o = {.snapshot = directory, .template_fd = template_fd};

	return start_guest(&o);
}

/* The guest verifies all of its memory once more, and all of it is right. */
static void assert_verifies_all(struct vmm_run *v)
{
	uint64_t before;

	assert_guest(v, vmm_run_wait_text(v, "verified=", WAIT_MS));
	before = vmm_run_value(v, "verified", 0);
	assert_guest(v, vmm_run_wait_value(
				v, "verified", before + 2 * DATA_MIB * MIB / PAGE_BYTES, WAIT_MS));
	assert_guest(v, vmm_run_value(v, "corrupt", 1) == 0);
}

static int open_template(void)
{
	char path[PATH_MAX];
	_cleanup_close_ int fd = -1, memfd = -1;
	struct error e = {0};

	(void)snprintf(path, sizeof(path), "%s/ram", directory);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(template_file_load(fd, MEMORY_MIB * MIB, &memfd, &e), 0);
	return fcntl(memfd, F_DUPFD, 16); /* not close-on-exec */
}

static void goes_on_and_is_restored_with(unsigned n_vcpus)
{
	_cleanup_(vmm_run_freep) struct vmm_run *v = start(n_vcpus), *copy = NULL;

	assert_int_equal(vmm_run_snapshot(v, directory), 0);
	assert_int_equal(get_stats(v).state, VMM_STATE_RUNNING);
	assert_verifies_all(v);
	copy = restore(0);
	assert_int_equal(vmm_run_hello(copy)->n_vcpus, n_vcpus);
	assert_int_equal(vmm_run_hello(copy)->ram_bytes, MEMORY_MIB * MIB);
	assert_verifies_all(copy);
	assert_int_equal(get_stats(copy).balloon_ready, 1);
	/* its devices work: the driver answers the balloon */
	assert_int_equal(vmm_run_set_balloon(copy, 1024), 0);
	assert_guest(copy, vmm_run_wait_value(copy, "balloon", 1024, WAIT_MS));
	assert_verifies_all(v);
}

static void a_guest_goes_on_and_is_restored(void **state)
{
	goes_on_and_is_restored_with(1);
}

static void a_guest_of_4_vcpus_goes_on_and_is_restored(void **state)
{
	goes_on_and_is_restored_with(4);
}

static void clones_share_the_template_and_write_for_themselves(void **state)
{
	_cleanup_(vmm_run_freep) struct vmm_run *v = start(2);
	struct vmm_run *clones[N_CLONES] = {0};
	_cleanup_close_ int template_fd = -1;
	struct vmm_set_scan scan = {
		.mode = VMM_SCAN_SHARE, .max_cpu_bp = 5000, .target_time_us = US_PER_S};

	assert_int_equal(vmm_run_request(v, VMM_PAUSE, NULL, 0), 0);
	assert_int_equal(vmm_run_snapshot(v, directory), 0);
	assert_int_equal(get_stats(v).state, VMM_STATE_PAUSED); /* as it was before */
	template_fd = open_template();
	for (unsigned i = 0; i < N_CLONES; i++) {
		clones[i] = restore(template_fd);
		assert_int_equal(vmm_run_request(clones[i], VMM_SET_SCAN, &scan, sizeof(scan)), 0);
	}
	for (unsigned i = 0; i < N_CLONES; i++) {
		struct vmm_stats s;

		assert_verifies_all(clones[i]);
		s = get_stats(clones[i]);
		/* what nobody rewrites is still the template's */
		assert_true(s.template_pages > 16 * MIB / PAGE_BYTES);
	}
	assert_int_equal(vmm_run_request(v, VMM_RESUME, NULL, 0), 0);
	assert_verifies_all(v);
	for (unsigned i = 0; i < N_CLONES; i++)
		vmm_run_free(clones[i]);
}

static void what_is_no_snapshot_is_refused(void **state)
{
	_cleanup_(vmm_run_freep) struct vmm_run *v = start(1), *copy = NULL;
	struct vmm_run_options o = {.snapshot = directory};
	char path[PATH_MAX];
	_cleanup_close_ int fd = -1;
	uint8_t byte;

	assert_true(vmm_run_start(&o, &copy) < 0); /* nothing there */
	assert_int_equal(vmm_run_request(v, VMM_SNAPSHOT, NULL, 0), -EPROTO);
	assert_int_equal(vmm_run_snapshot(v, directory), 0);
	(void)snprintf(path, sizeof(path), "%s/state", directory);
	fd = open(path, O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(pread(fd, &byte, 1, 4000), 1);
	byte ^= 1;
	assert_int_equal(pwrite(fd, &byte, 1, 4000), 1);
	assert_true(vmm_run_start(&o, &copy) < 0); /* a bit changed */
	byte ^= 1;
	assert_int_equal(pwrite(fd, &byte, 1, 4000), 1);
	(void)snprintf(path, sizeof(path), "%s/ram", directory);
	assert_int_equal(truncate(path, (MEMORY_MIB - 1) * MIB), 0);
	assert_true(vmm_run_start(&o, &copy) < 0); /* cut short */
	assert_int_equal(truncate(path, MEMORY_MIB * MIB), 0);
	copy = restore(0);
	assert_verifies_all(v);
}

/* Random numbers cannot be saved (nor disks and networks yet): better no snapshot than half of one. */
static void a_device_that_cannot_be_saved_refuses_the_snapshot(void **state)
{
	static const char *const arguments[] = {"--rng", NULL};
	struct vmm_run_options o = {
		.cmdline = "seed=3 unique_mib=4 report_ms=100 verify_per_s=1000",
		.memory_bytes = MEMORY_MIB * MIB,
		.n_vcpus = 1,
		.arguments = arguments,
	};
	_cleanup_(vmm_run_freep) struct vmm_run *v = NULL;
	uint64_t before;

	assert_int_equal(vmm_run_start(&o, &v), 0);
	assert_guest(v, vmm_run_wait_text(v, "phase=run", WAIT_MS));
	assert_int_equal(vmm_run_snapshot(v, directory), -EOPNOTSUPP);
	assert_int_equal(get_stats(v).state, VMM_STATE_RUNNING);
	before = vmm_run_value(v, "verified", 0);
	assert_guest(v, vmm_run_wait_value(v, "verified", before + 1000, WAIT_MS));
}

static int empty_directory(void **state)
{
	char path[PATH_MAX];

	(void)snprintf(path, sizeof(path), "%s/state", directory);
	unlink(path);
	(void)snprintf(path, sizeof(path), "%s/ram", directory);
	unlink(path);
	return 0;
}

static int make_directory(void **state)
{
	return mkdtemp(directory) ? 0 : -1;
}

static int remove_directory(void **state)
{
	empty_directory(NULL);
	return rmdir(directory);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(a_guest_goes_on_and_is_restored, empty_directory),
		cmocka_unit_test_teardown(
			a_guest_of_4_vcpus_goes_on_and_is_restored, empty_directory),
		cmocka_unit_test_teardown(
			clones_share_the_template_and_write_for_themselves, empty_directory),
		cmocka_unit_test_teardown(what_is_no_snapshot_is_refused, empty_directory),
		cmocka_unit_test_teardown(
			a_device_that_cannot_be_saved_refuses_the_snapshot, empty_directory),
	};

	if (!guests_can_run())
		return 0;
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
