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
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <cmocka.h>

#include "kvm-glue/sandbox.h"
#include "memd/base/clock.h"
#include "memd/base/fd.h"
#include "memd/base/ipc.h"
#include "memd/base/units.h"
#include "memd/base/vmm-proto.h"
#include "tests/guest/guest-check.h"
#include "tests/guest/payload.h"
#include "tests/guest/sanitizer.h"

#define RAM_BYTES (16 * MIB)
#define RAM_PAGES (RAM_BYTES / PAGE_BYTES)

static char directory[] = "/tmp/memd-test-XXXXXX";
static char payload_path[64], stray_path[64];

static const uint8_t waits_for_ever[] = {0xf4, 0xeb, 0xfd}; /* hlt; jmp back */
static const uint8_t faults[] = {0x0f, 0x0b}; /* ud2 without an IDT */

static struct vmm_run *start_with(const uint8_t *code, size_t bytes, const char *const *arguments)
{
	struct vmm_run_options o = {
		.arguments = arguments,
		.kernel = payload_path,
		.memory_bytes = RAM_BYTES,
		.n_vcpus = 2,
	};

	assert_int_equal(payload_write(payload_path, code, bytes), 0);
	return start_guest(&o);
}

static struct vmm_run *start(const uint8_t *code, size_t bytes)
{
	return start_with(code, bytes, NULL);
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

static void locked_memory_is_all_there_and_stays(void **state)
{
	static const char *const arguments[] = {"--memory-locked", NULL};
	_cleanup_(vmm_run_freep) struct vmm_run *v =
		start_with(waits_for_ever, sizeof(waits_for_ever), arguments);
	char path[PATH_MAX];

	(void)snprintf(path, sizeof(path), "/proc/%d/status", vmm_run_pid(v));
	assert_true(status_value(path, "VmLck:", 10) * KIB >= RAM_BYTES);
	assert_int_equal(get_stats(v).private_pages, RAM_PAGES);
}

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
		assert_int_equal(status_value(path, "Seccomp:", 10),
			SANDBOX_COMPLETE ? 2 : 0); /* a filter */
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

#define NO_ISOLATION "there is no sandbox with a sanitizer (sandbox.h)"

/* Only root can make namespaces and users everywhere. */
static struct vmm_run *start_isolated(void)
{
	if (left_out_with_a_sanitizer(NO_ISOLATION))
		return NULL;
	if (geteuid() != 0) {
		(void)printf("# left out: isolation wants root\n");
		return NULL;
	}
	return start(waits_for_ever, sizeof(waits_for_ever));
}

static void files_outside_are_not_there(void **state)
{
	_cleanup_(vmm_run_freep) struct vmm_run *v = start_isolated();
	_cleanup_closedir_ DIR *root = NULL;
	struct dirent *entry;
	char path[PATH_MAX];

	if (!v)
		return;
	(void)snprintf(path, sizeof(path), "/proc/%d/root/", vmm_run_pid(v));
	root = opendir(path);
	assert_non_null(root);
	while ((entry = readdir(root)))
		assert_true(entry->d_name[0] == '.'); /* nothing but itself */
	(void)snprintf(path, sizeof(path), "/proc/%d/root/x", vmm_run_pid(v));
	assert_int_equal(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600), -1);
	assert_int_equal(errno, EROFS);
	(void)snprintf(path, sizeof(path), "/proc/%d/mountinfo", vmm_run_pid(v));
	{
		_cleanup_free_ char *mounts = NULL;
		size_t size;

		assert_int_equal(fd_read_file_at(AT_FDCWD, path, 65536, &mounts, &size), 0);
		assert_ptr_equal(strchr(mounts, '\n'), mounts + size - 1); /* one */
	}
}

static void namespaces_are_its_own(void **state)
{
	static const char *const names[] = {"mnt", "net", "ipc", "uts"};
	_cleanup_(vmm_run_freep) struct vmm_run *v = start_isolated();
	char path[PATH_MAX], own[64] = {0}, its[64] = {0};

	if (!v)
		return;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		(void)snprintf(path, sizeof(path), "/proc/self/ns/%s", names[i]);
		assert_true(readlink(path, own, sizeof(own) - 1) > 0);
		(void)snprintf(path, sizeof(path), "/proc/%d/ns/%s", vmm_run_pid(v), names[i]);
		assert_true(readlink(path, its, sizeof(its) - 1) > 0);
		assert_string_not_equal(own, its);
	}
}

static void each_guest_has_a_user_of_its_own(void **state)
{
	_cleanup_(vmm_run_freep) struct vmm_run *a = start_isolated(), *b = start_isolated();
	const char *const names[] = {"Uid:", "Gid:"};
	char path[PATH_MAX];

	if (!a || !b)
		return;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		uint64_t ids[2];

		(void)snprintf(path, sizeof(path), "/proc/%d/status", vmm_run_pid(a));
		ids[0] = status_value(path, names[i], 10);
		(void)snprintf(path, sizeof(path), "/proc/%d/status", vmm_run_pid(b));
		ids[1] = status_value(path, names[i], 10);
		assert_in_range(ids[0], 0x70000000, 0x70ffffff);
		assert_in_range(ids[1], 0x70000000, 0x70ffffff);
		assert_int_not_equal(ids[0], ids[1]);
	}
}

/* Runs f in a child under that filter; its wait status. */
static int run_filtered(int (*load)(struct error *e), void (*f)(void))
{
	int status = -1;
	pid_t pid = fork();

	if (pid == 0) {
		struct error e = {0};

		if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || load(&e) < 0)
			_exit(2);
		f();
		_exit(0);
	}
	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static int load_process_filter(struct error *e)
{
	return sandbox_filter(NULL, e);
}

static const int few_calls[] = {SYS_exit_group, SYS_getpid, -1};

/* As a vCPU's thread: on top of the process's filter. */
static int load_both_filters(struct error *e)
{
	int r = sandbox_filter(NULL, e);

	return r < 0 ? r : sandbox_filter_thread(few_calls, NULL, e);
}

static void allowed(void)
{
	if (syscall(SYS_getpid) <= 0)
		_exit(3);
}

static void opens_a_file(void)
{
	if (open("/etc/passwd", O_RDONLY | O_CLOEXEC) != -1 || errno != EPERM)
		_exit(3);
}

static void executes(void)
{
	execl("/bin/true", "true", NULL);
}

static void makes_a_socket(void)
{
	(void)socket(AF_UNIX, SOCK_STREAM, 0);
}

static void traces(void)
{
	(void)ptrace(PTRACE_TRACEME, 0, NULL, NULL);
}

static void accepts(void)
{
	(void)accept4(-1, NULL, NULL, 0);
}

static bool was_killed(int status)
{
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS;
}

static void a_call_outside_of_the_list_kills_the_process(void **state)
{
	if (left_out_with_a_sanitizer(NO_ISOLATION))
		return;
	assert_int_equal(run_filtered(load_process_filter, allowed), 0);
	assert_int_equal(run_filtered(load_process_filter, accepts), 0);
	assert_int_equal(run_filtered(load_process_filter, opens_a_file), 0);
	assert_true(was_killed(run_filtered(load_process_filter, executes)));
	assert_true(was_killed(run_filtered(load_process_filter, makes_a_socket)));
	assert_true(was_killed(run_filtered(load_process_filter, traces)));
}

static void a_vcpu_thread_may_less_than_the_process(void **state)
{
	if (left_out_with_a_sanitizer(NO_ISOLATION))
		return;
	assert_int_equal(run_filtered(load_both_filters, allowed), 0);
	assert_true(was_killed(run_filtered(load_both_filters, accepts)));
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
		cmocka_unit_test(locked_memory_is_all_there_and_stays),
		cmocka_unit_test(every_thread_is_without_privileges),
		cmocka_unit_test(no_descriptor_is_inherited_by_accident),
		cmocka_unit_test(files_outside_are_not_there),
		cmocka_unit_test(namespaces_are_its_own),
		cmocka_unit_test(each_guest_has_a_user_of_its_own),
		cmocka_unit_test(a_call_outside_of_the_list_kills_the_process),
		cmocka_unit_test(a_vcpu_thread_may_less_than_the_process),
	};

	if (!guests_can_run())
		return 0;
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
