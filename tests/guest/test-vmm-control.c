/*
 * The control socket of memd-vmm: who is served, what is refused, what a guest that cannot go on looks like; and the sandbox around
 * it all. Pause, quit and kill are in test-guest-under-vmm.c.
 */
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <cmocka.h>

#include "memd/base/clock.h"
#include "memd/base/fd.h"
#include "memd/base/ipc.h"
#include "memd/base/units.h"
#include "memd/base/vmm-proto.h"
#include "tests/guest/payload.h"
#include "tests/guest/vmm-run.h"

#define WAIT_MS	  30000
#define RAM_BYTES (16 * MIB)
#define RAM_PAGES (RAM_BYTES / PAGE_BYTES)

static char directory[] = "/tmp/memd-test-XXXXXX";
static char payload_path[64], stray_path[64];

static const uint8_t waits_for_ever[] = {0xf4, 0xeb, 0xfd}; /* hlt; jmp back */
static const uint8_t faults[] = {0x0f, 0x0b}; /* ud2 without an IDT */

static struct vmm_run *start(const uint8_t *code, size_t bytes)
{
	struct vmm_run_options o = {
		.kernel = payload_path,
		.memory_bytes = RAM_BYTES,
		.n_vcpus = 2,
	};
	const char *why = vmm_run_unusable();
	struct vmm_run *v = NULL;

	if (why) {
		print_message("# %s\n", why);
		skip();
	}
	assert_int_equal(payload_write(payload_path, code, bytes), 0);
	assert_int_equal(vmm_run_start(&o, &v), 0);
	return v;
}

static struct vmm_stats get_stats(struct vmm_run *v)
{
	struct vmm_stats stats;

	assert_int_equal(vmm_run_get_stats(v, &stats), 0);
	return stats;
}

static void wait_for_state(struct vmm_run *v, enum vmm_state state)
{
	uint64_t deadline = clock_monotonic_us() + WAIT_MS * US_PER_MS;

	while (get_stats(v).state != state && clock_monotonic_us() < deadline)
		clock_sleep_us(10 * US_PER_MS);
	assert_int_equal(get_stats(v).state, state);
}

static void hello_describes_the_guest(void **state)
{
	_cleanup_(vmm_run_freep) struct vmm_run *v = start(waits_for_ever, sizeof(waits_for_ever));
	const struct vmm_hello *hello = vmm_run_hello(v);

	assert_int_equal(hello->proto_version, VMM_PROTO_VERSION);
	assert_int_equal(hello->state, VMM_STATE_RUNNING);
	assert_int_equal(hello->n_vcpus, 2);
	assert_int_equal(hello->ram_bytes, RAM_BYTES);
	assert_int_equal(hello->n_ranges, 1);
	assert_int_equal(hello->ranges[0].gpa, 0);
	assert_int_equal(hello->ranges[0].bytes, RAM_BYTES);
	assert_string_equal(hello->name, "test");
	assert_string_equal(hello->program_version, MEMD_VERSION);
}

static void statistics_add_up(void **state)
{
	_cleanup_(vmm_run_freep) struct vmm_run *v = start(waits_for_ever, sizeof(waits_for_ever));
	struct vmm_stats s = get_stats(v);

	assert_int_equal(s.ram_pages, RAM_PAGES);
	assert_int_equal(s.private_pages + s.shared_pages + s.swapped_pages +
				 s.hole_untouched_pages + s.hole_zero_pages + s.hole_balloon_pages +
				 s.hole_reported_pages,
		RAM_PAGES);
	assert_int_equal(s.balloon_ready, 0);
	assert_int_equal(s.guest_free_bytes, UINT64_MAX);
}

static void a_newer_connection_replaces_the_older(void **state)
{
	_cleanup_(vmm_run_freep) struct vmm_run *v = start(waits_for_ever, sizeof(waits_for_ever));
	_cleanup_(ipc_message_freep) struct ipc_message *m = ipc_message_new();
	_cleanup_close_ int fd = ipc_connect(vmm_run_socket_path(v));
	struct vmm_stats stats;

	assert_true(fd >= 0);
	assert_int_equal(ipc_recv(fd, m), 0);
	assert_int_equal(m->header.type, VMM_HELLO);
	assert_int_equal(vmm_run_get_stats(v, &stats), -EPIPE);
	assert_int_equal(ipc_send(fd, VMM_GET_STATS, 7, NULL, 0, NULL, 0), 0);
	assert_int_equal(ipc_recv(fd, m), 0);
	assert_int_equal(m->header.type, VMM_STATS);
	assert_int_equal(m->header.seq, 7);
}

static void refuses_nonsense_and_goes_on(void **state)
{
	_cleanup_(vmm_run_freep) struct vmm_run *v = start(waits_for_ever, sizeof(waits_for_ever));
	struct vmm_set_balloon balloon = {.target_pages = RAM_PAGES};
	struct vmm_set_scan scan = {.mode = VMM_SCAN_SHARE, .max_cpu_bp = 10000};

	assert_int_equal(vmm_run_request(v, VMM_SET_BALLOON, &balloon, sizeof(balloon)), 0);
	balloon.target_pages++;
	assert_int_equal(vmm_run_request(v, VMM_SET_BALLOON, &balloon, sizeof(balloon)), -ERANGE);
	assert_int_equal(get_stats(v).balloon_target_pages, RAM_PAGES);
	assert_int_equal(
		vmm_run_request(v, VMM_SET_BALLOON, &balloon, sizeof(balloon) - 1), -EPROTO);
	assert_int_equal(vmm_run_request(v, VMM_SET_SCAN, &scan, sizeof(scan)), 0);
	scan.max_cpu_bp++;
	assert_int_equal(vmm_run_request(v, VMM_SET_SCAN, &scan, sizeof(scan)), -ERANGE);
	scan.max_cpu_bp = 1;
	scan.mode = 3;
	assert_int_equal(vmm_run_request(v, VMM_SET_SCAN, &scan, sizeof(scan)), -EINVAL);
	assert_int_equal(vmm_run_request(v, VMM_SET_SCAN, NULL, 0), -EPROTO);
	assert_int_equal(vmm_run_request(v, VMM_ATTACH_POOL, NULL, 0), -EPROTO);
	assert_int_equal(vmm_run_request(v, (enum vmm_message_type)0, NULL, 0), -EOPNOTSUPP);
	assert_int_equal(vmm_run_request(v, VMM_HELLO, NULL, 0), -EOPNOTSUPP);
	assert_int_equal(get_stats(v).state, VMM_STATE_RUNNING);
}

static void broken_framing_ends_the_connection_not_the_guest(void **state)
{
	_cleanup_(vmm_run_freep) struct vmm_run *v = start(waits_for_ever, sizeof(waits_for_ever));
	_cleanup_(ipc_message_freep) struct ipc_message *m = ipc_message_new();
	static const char *const garbage[] = {"x", "garbage that is longer than a header is"};

	for (size_t i = 0; i < ARRAY_SIZE(garbage); i++) {
		_cleanup_close_ int fd = ipc_connect(vmm_run_socket_path(v));

		assert_true(fd >= 0);
		assert_int_equal(ipc_recv(fd, m), 0);
		assert_true(send(fd, garbage[i], strlen(garbage[i]), MSG_NOSIGNAL) > 0);
		assert_int_equal(ipc_recv(fd, m), IPC_CLOSED);
	}
	{
		_cleanup_close_ int fd = ipc_connect(vmm_run_socket_path(v));

		assert_int_equal(ipc_recv(fd, m), 0);
		assert_int_equal(m->header.type, VMM_HELLO);
	}
}

static void pausing_twice_and_resuming_twice_is_harmless(void **state)
{
	_cleanup_(vmm_run_freep) struct vmm_run *v = start(waits_for_ever, sizeof(waits_for_ever));

	assert_int_equal(vmm_run_request(v, VMM_RESUME, NULL, 0), 0);
	assert_int_equal(vmm_run_request(v, VMM_PAUSE, NULL, 0), 0);
	assert_int_equal(vmm_run_request(v, VMM_PAUSE, NULL, 0), 0);
	assert_int_equal(get_stats(v).state, VMM_STATE_PAUSED);
	assert_int_equal(vmm_run_last_event(v)->state, VMM_STATE_PAUSED);
	assert_int_equal(vmm_run_request(v, VMM_RESUME, NULL, 0), 0);
	assert_int_equal(vmm_run_request(v, VMM_RESUME, NULL, 0), 0);
	assert_int_equal(get_stats(v).state, VMM_STATE_RUNNING);
}

static void the_power_button_of_a_deaf_guest_says_so(void **state)
{
	_cleanup_(vmm_run_freep) struct vmm_run *v = start(waits_for_ever, sizeof(waits_for_ever));

	assert_int_equal(vmm_run_request(v, VMM_POWER_BUTTON, NULL, 0), -EAGAIN);
}

static void a_failed_guest_stays_to_be_looked_at_until_quit(void **state)
{
	_cleanup_(vmm_run_freep) struct vmm_run *v = start(faults, sizeof(faults));
	int status = -1;

	wait_for_state(v, VMM_STATE_FAILED);
	assert_int_equal(vmm_run_last_event(v)->state, VMM_STATE_FAILED);
	assert_non_null(strstr(vmm_run_last_event(v)->reason, "triple fault at RIP 0x"));
	assert_true(get_stats(v).private_pages > 0);
	assert_int_equal(vmm_run_request(v, VMM_PAUSE, NULL, 0), -EINVAL);
	assert_int_equal(vmm_run_request(v, VMM_RESUME, NULL, 0), -EINVAL);
	assert_int_equal(get_stats(v).state, VMM_STATE_FAILED);
	assert_int_equal(vmm_run_request(v, VMM_QUIT, NULL, 0), 0);
	assert_int_equal(vmm_run_wait_exit(v, WAIT_MS, &status), 0);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 2);
}

static void a_guest_that_panics_says_so(void **state)
{
	/* mov dx, 0x505; in al, dx; mov al, 1; out dx, al; hlt; jmp back */
	static const uint8_t panics[] = {
		0x66, 0xba, 0x05, 0x05, 0xec, 0xb0, 0x01, 0xee, 0xf4, 0xeb, 0xfd};
	_cleanup_(vmm_run_freep) struct vmm_run *v = start(panics, sizeof(panics));

	wait_for_state(v, VMM_STATE_FAILED);
	assert_string_equal(vmm_run_last_event(v)->reason, "the guest's kernel panicked");
}

/* The number behind "name:" in a thread's status, read in that base. */
static uint64_t status_value(const char *path, const char *name, int base)
{
	_cleanup_free_ char *text = NULL;
	const char *line;
	size_t size;

	assert_int_equal(fd_read_file_at(AT_FDCWD, path, 65536, &text, &size), 0);
	line = strstr(text, name);
	assert_non_null(line);
	return strtoull(line + strlen(name), NULL, base);
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SECCOMP_MODE 0 /* see sandbox.c */
#else
#define SECCOMP_MODE 2
#endif

static void every_thread_is_without_privileges(void **state)
{
	_cleanup_(vmm_run_freep) struct vmm_run *v = start(waits_for_ever, sizeof(waits_for_ever));
	_cleanup_closedir_ DIR *tasks = NULL;
	struct dirent *entry;
	char path[PATH_MAX];
	unsigned n = 0;

	(void)snprintf(path, sizeof(path), "/proc/%d/task", vmm_run_pid(v));
	tasks = opendir(path);
	assert_non_null(tasks);
	while ((entry = readdir(tasks))) {
		_cleanup_free_ char *name = NULL;
		size_t size;

		if (entry->d_name[0] == '.')
			continue;
		(void)snprintf(path, sizeof(path), "/proc/%d/task/%.16s/comm", vmm_run_pid(v),
			entry->d_name);
		assert_int_equal(fd_read_file_at(AT_FDCWD, path, 64, &name, &size), 0);
		/* a thread of KVM itself, which shows among ours */
		if (strncmp(name, "kvm-", 4) == 0)
			continue;
		(void)snprintf(path, sizeof(path), "/proc/%d/task/%.16s/status", vmm_run_pid(v),
			entry->d_name);
		assert_int_equal(status_value(path, "CapEff:", 16), 0);
		assert_int_equal(status_value(path, "CapPrm:", 16), 0);
		assert_int_equal(status_value(path, "NoNewPrivs:", 10), 1);
		assert_int_equal(status_value(path, "Seccomp:", 10), SECCOMP_MODE);
		n++;
	}
	assert_true(n >= 5); /* main, two vCPUs, balloon, console */
}

static void no_descriptor_is_inherited_by_accident(void **state)
{
	_cleanup_close_ int stray = open(stray_path, O_RDWR | O_CREAT, 0600); /* no O_CLOEXEC */
	_cleanup_(vmm_run_freep) struct vmm_run *v = start(waits_for_ever, sizeof(waits_for_ever));
	_cleanup_closedir_ DIR *fds = NULL;
	struct dirent *entry;
	char path[PATH_MAX], target[PATH_MAX];
	unsigned n = 0;

	assert_true(stray >= 0);
	(void)snprintf(path, sizeof(path), "/proc/%d/fd", vmm_run_pid(v));
	fds = opendir(path);
	assert_non_null(fds);
	while ((entry = readdir(fds))) {
		ssize_t length = readlinkat(dirfd(fds), entry->d_name, target, sizeof(target) - 1);

		if (length < 0)
			continue;
		target[length] = '\0';
		assert_string_not_equal(target, stray_path);
		n++;
	}
	assert_true(n > 3);
}

static int make_directory(void **state)
{
	if (!mkdtemp(directory))
		return -1;
	(void)snprintf(payload_path, sizeof(payload_path), "%s/kernel", directory);
	(void)snprintf(stray_path, sizeof(stray_path), "%s/stray", directory);
	return 0;
}

static int remove_directory(void **state)
{
	unlink(payload_path);
	unlink(stray_path);
	return rmdir(directory);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hello_describes_the_guest),
		cmocka_unit_test(statistics_add_up),
		cmocka_unit_test(a_newer_connection_replaces_the_older),
		cmocka_unit_test(refuses_nonsense_and_goes_on),
		cmocka_unit_test(broken_framing_ends_the_connection_not_the_guest),
		cmocka_unit_test(pausing_twice_and_resuming_twice_is_harmless),
		cmocka_unit_test(the_power_button_of_a_deaf_guest_says_so),
		cmocka_unit_test(a_failed_guest_stays_to_be_looked_at_until_quit),
		cmocka_unit_test(a_guest_that_panics_says_so),
		cmocka_unit_test(every_thread_is_without_privileges),
		cmocka_unit_test(no_descriptor_is_inherited_by_accident),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
