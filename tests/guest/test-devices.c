/*
 * The devices that options ask for, with a real guest on them: whatever a hostile one does to them
 * harms nobody but itself. Waits are for events, with bounds that only a hung machine reaches.
 */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "memd/base/units.h"
#include "tests/guest/guest-check.h"

static struct vmm_run *start(unsigned n_vcpus, const char *const *arguments, const char *cmdline)
{
	const struct vmm_run_options o = {
		.cmdline = cmdline,
		.memory_bytes = 64 * MIB,
		.n_vcpus = n_vcpus,
		.arguments = arguments,
	};

	return start_guest(&o);
}

static void hostile(
	const char *target, const char *const *arguments, unsigned n_vcpus, unsigned seed)
{
	_cleanup_(vmm_run_freep) struct vmm_run *v = NULL;
	char cmdline[128];

	(void)snprintf(cmdline, sizeof(cmdline),
		"mode=hostile target=%s seed=%u rounds=150 then=work unique_mib=16 seconds=1",
		target, seed);
	v = start(n_vcpus, arguments, cmdline);
	assert_good_end(v);
	assert_guest(v, vmm_run_wait_text(v, "memd-guest: hostile", 0));
	assert_guest(v, vmm_run_value(v, "rounds", 0) > 0);
}

static void hostile_guest_never_harms_the_random_numbers(void **state)
{
	static const char *const arguments[] = {"--rng", NULL};

	hostile("rng", arguments, 2, 1);
}

static void hostile_guest_never_harms_the_network(void **state)
{
	static const char *const arguments[] = {"--net", "user", NULL};

	hostile("net", arguments, 1, 4);
	hostile("net", arguments, 2, 5);
}

static void hostile_guest_never_harms_the_sockets(void **state)
{
	char directory[] = "/tmp/memd-vsock.XXXXXX", vsock[64];
	const char *const arguments[] = {"--vsock", vsock, NULL};

	assert_non_null(mkdtemp(directory));
	(void)snprintf(vsock, sizeof(vsock), "3,%s/v", directory);
	hostile("vsock", arguments, 2, 6);
	assert_int_equal(unlink(strchr(vsock, '/')), 0);
	assert_int_equal(rmdir(directory), 0);
}

static char disk_path[64];

static void hostile_guest_never_harms_the_disk(void **state)
{
	char direct[96], cached[96];
	const char *const arguments[] = {"--disk", direct, NULL};
	const char *const other_arguments[] = {"--disk", cached, NULL};

	(void)snprintf(direct, sizeof(direct), "%s,direct,queues=2", disk_path);
	(void)snprintf(cached, sizeof(cached), "%s", disk_path);
	hostile("disk", arguments, 1, 2);
	hostile("disk", other_arguments, 2, 3);
}

static int make_disk(void **state)
{
	int fd;

	(void)snprintf(disk_path, sizeof(disk_path), "/var/tmp/memd-disk.XXXXXX");
	fd = mkstemp(disk_path);
	return fd < 0 || ftruncate(fd, MIB) < 0 ? -1 : close(fd);
}

static int remove_disk(void **state)
{
	return unlink(disk_path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hostile_guest_never_harms_the_random_numbers),
		cmocka_unit_test(hostile_guest_never_harms_the_network),
		cmocka_unit_test(hostile_guest_never_harms_the_sockets),
		cmocka_unit_test_setup_teardown(
			hostile_guest_never_harms_the_disk, make_disk, remove_disk),
	};

	if (!guests_can_run())
		return 0;
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
