/*
 * memd-vmm as a program: what it says when it cannot start (one line, which names the way out), and how it ends: exit status and
 * reason for guests that power off, reset, or cannot go on.
 */
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <cmocka.h>

#include "kvm-glue/host.h"
#include "memd/base/clock.h"
#include "memd/base/fd.h"
#include "memd/base/units.h"
#include "tests/guest/payload.h"
#include "tests/guest/service-run.h"
#include "tests/guest/vmm-run.h"

#define EXIT_TIMEOUT_MS 60000
#define ARGUMENTS_MAX	32
#define ERROR_FD	9
#define NOBODY		65534

static char directory[] = "/tmp/memd-test-XXXXXX";
static char vmm_path[PATH_MAX];
static char payload_path[64], console_path[64], big_path[64];

/* How one run of memd-vmm ended. */
struct run {
	int status; /* exit status, -1 when a signal ended it */
	char said[4096]; /* on --error-fd */
	char log[16384]; /* on stdout and stderr */
};

/* What the child does before exec; exits with 125 when it cannot. */
typedef void (*prepare_child)(void);

static void become_nobody(void)
{
	if (setgid(NOBODY) < 0 || setuid(NOBODY) < 0)
		_exit(125);
}

static void hide_devices(void)
{
	/* In a chroot "/" is no mount of its own, but then /dev is one. */
	if (unshare(CLONE_NEWNS) < 0 ||
		(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 &&
			mount(NULL, "/dev", NULL, MS_REC | MS_PRIVATE, NULL) < 0) ||
		mount("none", "/dev", "tmpfs", 0, NULL) < 0)
		_exit(125);
}

/* Adds text's words, then NULL. */
static void add_words(const char *argv[ARGUMENTS_MAX], unsigned n, char *text)
{
	char *save = NULL;

	for (char *word = strtok_r(text, " ", &save); word && n < ARGUMENTS_MAX - 1;
		word = strtok_r(NULL, " ", &save))
		argv[n++] = word;
	argv[n] = NULL;
}

static pid_t start(
	const char *arguments, const char *cmdline, int error_fd, int log_fd, prepare_child prepare)
{
	const char *argv[ARGUMENTS_MAX] = {
		vmm_path, "--name", "test", "--cmdline", cmdline, "--error-fd", "9"};
	char words[1024];
	int vmm_fd;
	pid_t pid;

	(void)snprintf(words, sizeof(words), "%s", arguments);
	add_words(argv, 7, words);
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (dup2(error_fd, ERROR_FD) < 0 || dup2(log_fd, STDERR_FILENO) < 0 ||
			dup2(log_fd, STDOUT_FILENO) < 0)
			_exit(125);
		/* Opened first: nobody may not be allowed to go where the tree is built. */
		vmm_fd = open(vmm_path, O_RDONLY | O_CLOEXEC);
		if (prepare)
			prepare();
		fexecve(vmm_fd, (char *const *)argv, environ);
		_exit(125);
	}
	return pid;
}

/* Reads to the end of the pipe, bounded; it ends when the child has. */
static void drain(int fd, char *text, size_t size)
{
	uint64_t deadline = clock_monotonic_us() + EXIT_TIMEOUT_MS * US_PER_MS;
	size_t used = 0;

	while (used < size - 1 && clock_monotonic_us() < deadline) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		ssize_t n;

		if (poll(&p, 1, 100) <= 0)
			continue;
		n = read(fd, text + used, size - 1 - used);
		if (n <= 0)
			break;
		used += (size_t)n;
	}
	text[used] = '\0';
}

static struct run run_with(const char *arguments, const char *cmdline, prepare_child prepare)
{
	struct run r = {.status = -1};
	int error_pipe[2], log_pipe[2], status = 0;
	pid_t pid;

	assert_int_equal(pipe2(error_pipe, O_CLOEXEC), 0);
	assert_int_equal(pipe2(log_pipe, O_CLOEXEC), 0);
	pid = start(arguments, cmdline, error_pipe[1], log_pipe[1], prepare);
	assert_true(pid > 0);
	close(error_pipe[1]);
	close(log_pipe[1]);
	drain(error_pipe[0], r.said, sizeof(r.said));
	drain(log_pipe[0], r.log, sizeof(r.log));
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	close(error_pipe[0]);
	close(log_pipe[0]);
	if (WIFEXITED(status))
		r.status = WEXITSTATUS(status);
	return r;
}

/* 1, and one line that has `words` in it. */
static void assert_start_fails(const struct run *r, const char *words)
{
	const char *newline = strchr(r->said, '\n');

	if (r->status != 1 || !strstr(r->said, words))
		fail_msg("status %d, said: %s, not: %s", r->status, r->said, words);
	assert_non_null(newline);
	assert_string_equal(newline, "\n");
}

static void refuses_bad_arguments(void **state)
{
	static const struct {
		const char *arguments;
		const char *words;
	} cases[] = {
		{"--memory 64M --console - --kernel /etc/passwd", "neither an ELF file"},
		{"--memory 64M --console - --kernel /nonexistent", "/nonexistent: No such file"},
		{"--memory 64M --console - --kernel /tmp", "no regular file"},
		{"--memory 64M --console - --kernel /dev/null", "no regular file"},
		{"--memory 64M --console - --kernel PAYLOAD --initrd /nonexistent",
			"initrd /nonexistent"},
		{"--memory 8M --console - --kernel PAYLOAD --initrd BIG", "do not fit"},
		{"--memory 64M --console /nonexistent/console --kernel PAYLOAD",
			"console /nonexistent"},
		{"--memory 63M --console - --kernel PAYLOAD", "multiple of 2 MiB"},
		{"--memory 2M --console - --kernel PAYLOAD", "not between 4 MiB and 4 TiB"},
		{"--memory 5T --console - --kernel PAYLOAD", "not between 4 MiB and 4 TiB"},
		{"--memory 99999999999999999999 --console - --kernel PAYLOAD", "64 bits"},
		{"--memory x --console - --kernel PAYLOAD", "--memory"},
		{"--memory 64M --vcpus 0 --console - --kernel PAYLOAD", "at least one vCPU"},
		{"--memory 64M --vcpus 241 --console - --kernel PAYLOAD", "--vcpus"},
		{"--memory 64M --vcpus -1 --console - --kernel PAYLOAD", "--vcpus"},
		{"--memory 64M --console-max 1 --console - --kernel PAYLOAD", "--console-max"},
		{"--memory 64M --boot bios --console - --kernel PAYLOAD",
			"none of auto, linux, pvh"},
		{"--memory 64M --boot linux --console - --kernel PAYLOAD", "no Linux"},
		{"--memory 64M --console -", "--kernel is missing"},
		{"--console - --kernel PAYLOAD", "--memory is missing"},
		{"--memory 64M --kernel PAYLOAD", "--console is missing"},
		{"--memory 64M --console - --kernel PAYLOAD --frobnicate", "--frobnicate"},
		{"--memory 64M --console - --kernel PAYLOAD extra", "extra"},
		{"--memory 64M --console - --kernel PAYLOAD --listen-fd 9", "listening socket"},
		{"--memory 64M --console - --kernel PAYLOAD --listen-fd 77", "listening socket"},
		{"--memory 64M --console - --kernel PAYLOAD --socket /nonexistent/s",
			"/nonexistent/s"},
		{"--memory 64M --console - --kernel PAYLOAD --socket /tmp/s --listen-fd 3",
			"exclude"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char arguments[512] = "";
		const char *text = cases[i].arguments;
		struct run r;

		for (; *text; text++) {
			size_t used = strlen(arguments);

			if (strncmp(text, "PAYLOAD", 7) == 0) {
				(void)snprintf(arguments + used, sizeof(arguments) - used, "%s",
					payload_path);
				text += 6;
			} else if (strncmp(text, "BIG", 3) == 0) {
				(void)snprintf(
					arguments + used, sizeof(arguments) - used, "%s", big_path);
				text += 2;
			} else {
				arguments[used] = *text;
			}
		}
		r = run_with(arguments, "", NULL);
		assert_start_fails(&r, cases[i].words);
	}
}

static struct run run_payload_with(
	const uint8_t *code, size_t bytes, const char *cmdline, prepare_child prepare)
{
	char arguments[256];

	unlink(console_path);
	assert_int_equal(payload_write(payload_path, code, bytes), 0);
	(void)snprintf(arguments, sizeof(arguments), "--memory 16M --kernel %s --console %s",
		payload_path, console_path);
	return run_with(arguments, cmdline, prepare);
}

#define RUN_PAYLOAD(code) run_payload_with(code, sizeof(code), "", NULL)

static const uint8_t powers_off[] = {
	0x66, 0xba, 0x04, 0x06, /* mov $0x604, %dx */
	0x66, 0xb8, 0x00, 0x34, /* mov $0x3400, %ax */
	0x66, 0xef, /* out %ax, (%dx) */
	0xf4, /* hlt */
};

static void refuses_a_command_line_that_is_too_long(void **state)
{
	char cmdline[4100];
	struct run r;

	memset(cmdline, 'x', sizeof(cmdline));
	cmdline[4096] = '\0';
	r = run_payload_with(powers_off, sizeof(powers_off), cmdline, NULL);
	assert_start_fails(&r, "at most 4095");
	cmdline[4095] = '\0';
	r = run_payload_with(powers_off, sizeof(powers_off), cmdline, NULL);
	assert_int_equal(r.status, 0);
}

static void without_permission_it_names_the_group(void **state)
{
	struct stat st;
	struct run r;

	if (geteuid() != 0 || stat("/dev/kvm", &st) < 0 || (st.st_mode & S_IRWXO)) {
		print_message("# everyone may open /dev/kvm here, or this is not root\n");
		skip();
	}
	r = run_payload_with(powers_off, sizeof(powers_off), "", become_nobody);
	assert_start_fails(&r, "/kernel: Permission denied"); /* the directory is not nobody's */
	assert_int_equal(chmod(directory, 0777), 0);
	r = run_payload_with(powers_off, sizeof(powers_off), "", become_nobody);
	assert_int_equal(chmod(directory, 0700), 0);
	assert_start_fails(&r, "no permission to open /dev/kvm");
	assert_non_null(strstr(r.said, "group"));
}

static void without_dev_kvm_it_says_what_to_enable(void **state)
{
	struct run r;

	if (geteuid() != 0) {
		print_message("# only root can hide /dev/kvm\n");
		skip();
	}
	r = run_payload_with(powers_off, sizeof(powers_off), "", hide_devices);
	assert_start_fails(&r, "/dev/kvm is not usable");
	assert_non_null(strstr(r.said, "enable virtualization"));
	assert_non_null(strstr(r.said, "load the module"));
}

static void skip_without_kvm(void)
{
	const char *why = vmm_run_unusable();

	if (!why)
		return;
	print_message("# %s\n", why);
	skip();
}

static void assert_console(const char *expected)
{
	_cleanup_free_ char *text = NULL;
	size_t size;

	assert_int_equal(fd_read_file_at(AT_FDCWD, console_path, 65536, &text, &size), 0);
	assert_string_equal(text, expected);
}

static void a_guest_prints_and_powers_off(void **state)
{
	static const uint8_t code[] = {
		0x66, 0xba, 0xf8, 0x03, /* mov $0x3f8, %dx */
		0xb0, 'o', 0xee, /* mov $'o', %al; out %al, (%dx) */
		0xb0, 'k', 0xee, 0xb0, '\n', 0xee, 0x66, 0xba, 0x04, 0x06, 0x66, 0xb8, 0x00, 0x34,
		0x66, 0xef, 0xf4, /* power off */
	};
	struct run r;

	skip_without_kvm();
	r = RUN_PAYLOAD(code);
	assert_int_equal(r.status, 0);
	assert_string_equal(r.said, "");
	assert_non_null(strstr(r.log, "powered off by the guest"));
	assert_console("ok\n");
}

static void a_reset_ends_the_guest(void **state)
{
	static const uint8_t by_keyboard[] = {0xb0, 0xfe, 0xe6, 0x64, 0xf4};
	static const uint8_t by_port_cf9[] = {0x66, 0xba, 0xf9, 0x0c, 0xb0, 0x06, 0xee, 0xf4};
	struct run r;

	skip_without_kvm();
	r = RUN_PAYLOAD(by_keyboard);
	assert_int_equal(r.status, 0);
	assert_non_null(strstr(r.log, "keyboard controller"));
	r = RUN_PAYLOAD(by_port_cf9);
	assert_int_equal(r.status, 0);
	assert_non_null(strstr(r.log, "0xcf9"));
}

static void a_triple_fault_fails_the_guest(void **state)
{
	static const uint8_t code[] = {0x90, 0x0f, 0x0b}; /* ud2 without an IDT */
	struct run r;

	skip_without_kvm();
	r = RUN_PAYLOAD(code);
	assert_int_equal(r.status, 2);
	assert_string_equal(r.said, ""); /* it had started */
	assert_non_null(strstr(r.log, "triple fault"));
	assert_non_null(strstr(r.log, "RIP 0x"));
}

static void an_unknown_instruction_fails_the_guest_with_its_bytes(void **state)
{
	static const uint8_t code[] = {0x0f, 0x20, 0xe0, /* mov %cr4, %eax */
		0x0d, 0x00, 0x06, 0x00, 0x00, /* or $0x600, %eax: SSE on */
		0x0f, 0x22, 0xe0, 0x66, 0x0f, 0xef, 0xc0, /* pxor %xmm0, %xmm0 */
		0xf4};
	struct host host = {.kvm_fd = -1};
	struct run r;

	skip_without_kvm();
	assert_int_equal(host_open(&host, NULL), 0);
	host_close(&host);
	if (host.backend != HOST_BACKEND_PVM) {
		print_message("# the CPU itself runs every instruction here\n");
		skip();
	}
	r = RUN_PAYLOAD(code);
	assert_int_equal(r.status, 2);
	assert_non_null(strstr(r.log, "RIP 0x10000b"));
	assert_non_null(strstr(r.log, "bytes 66 0f ef c0 f4"));
}

static void a_chatty_guest_does_not_fill_the_disk(void **state)
{
	static const uint8_t code[] = {0x66, 0xba, 0xf8, 0x03, /* mov $0x3f8, %dx */
		0xb9, 0x00, 0x40, 0x00, 0x00, /* mov $0x4000, %ecx */
		0xbe, 0x00, 0x00, 0x10, 0x00, /* mov $0x100000, %esi */
		0xf3, 0x6e, /* rep outsb */
		0x66, 0xba, 0x04, 0x06, 0x66, 0xb8, 0x00, 0x34, 0x66, 0xef, 0xf4};
	char arguments[256];
	struct stat st;
	struct run r;

	skip_without_kvm();
	unlink(console_path);
	assert_int_equal(payload_write(payload_path, code, sizeof(code)), 0);
	(void)snprintf(arguments, sizeof(arguments),
		"--memory 16M --kernel %s --console %s --console-max 4K", payload_path,
		console_path);
	r = run_with(arguments, "", NULL);
	assert_int_equal(r.status, 0);
	assert_int_equal(stat(console_path, &st), 0);
	assert_in_range(st.st_size, 1, 4096);
}

static void help_and_version_are_no_errors(void **state)
{
	struct run r = run_with("--version", "", NULL);

	assert_int_equal(r.status, 0);
	assert_string_equal(r.said, "");
	assert_string_equal(r.log, "memd-vmm " MEMD_VERSION "\n");
	r = run_with("--help", "", NULL);
	assert_int_equal(r.status, 0);
	assert_non_null(strstr(r.log, "--kernel PATH"));
}

static int make_directory(void **state)
{
	_cleanup_close_ int fd = -1;

	if (!mkdtemp(directory) ||
		service_run_build_path("kvm-glue/memd-vmm", vmm_path, sizeof(vmm_path)) < 0)
		return -1;
	(void)snprintf(payload_path, sizeof(payload_path), "%s/kernel", directory);
	(void)snprintf(console_path, sizeof(console_path), "%s/console", directory);
	(void)snprintf(big_path, sizeof(big_path), "%s/big", directory);
	fd = open(big_path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || ftruncate(fd, 7 * (off_t)MIB + 1) < 0)
		return -1;
	return payload_write(payload_path, powers_off, sizeof(powers_off));
}

static int remove_directory(void **state)
{
	unlink(payload_path);
	unlink(console_path);
	unlink(big_path);
	return rmdir(directory);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(refuses_bad_arguments),
		cmocka_unit_test(refuses_a_command_line_that_is_too_long),
		cmocka_unit_test(without_permission_it_names_the_group),
		cmocka_unit_test(without_dev_kvm_it_says_what_to_enable),
		cmocka_unit_test(a_guest_prints_and_powers_off),
		cmocka_unit_test(a_reset_ends_the_guest),
		cmocka_unit_test(a_triple_fault_fails_the_guest),
		cmocka_unit_test(an_unknown_instruction_fails_the_guest_with_its_bytes),
		cmocka_unit_test(a_chatty_guest_does_not_fill_the_disk),
		cmocka_unit_test(help_and_version_are_no_errors),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
