/* balloon-agent itself, over the /proc of this machine or a prepared one, with the test for its host. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "memd/base/cleanup.h"
#include "memd/base/clock.h"
#include "memd/base/fd.h"
#include "memd/base/units.h"
#include "tests/unit/agent-peer.h"

#define WAIT_MS 30000

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED true
#else
#define SANITIZED false
#endif

struct agent_run {
	struct agent_peer peer;
	pid_t pid;
	char root[64]; /* "": the machine's own */
};

static void run_done(struct agent_run *run)
{
	char command[128];

	agent_peer_done(&run->peer);
	if (run->pid > 0) {
		kill(run->pid, SIGKILL);
		waitpid(run->pid, NULL, 0);
	}
	snprintf(command, sizeof(command), "rm -rf '%s'", run->root);
	if (run->root[0])
		assert_int_equal(system(command), 0);
}

static const char *program(void)
{
	static char path[4096];

	snprintf(path, sizeof(path), "%s/balloon-agent/balloon-agent", getenv("MEMD_BUILD"));
	return path;
}

/* Arguments after --port-fd 3, ended by NULL. */
static void start(struct agent_run *run, const char *option, const char *value)
{
	int fd = agent_peer_init(&run->peer);

	assert_true(fd >= 0);
	run->pid = fork();
	assert_true(run->pid >= 0);
	if (run->pid == 0) {
		dup2(fd, 3);
		execl(program(), "balloon-agent", "--port-fd", "3", option, value, NULL);
		_exit(127);
	}
	close(fd);
}

/* meminfo of a guest of 1 GiB. */
static void set_available(struct agent_run *run, unsigned mib)
{
	char path[128], text[256];
	_cleanup_close_ int fd = -1;

	snprintf(path, sizeof(path), "%s/proc/meminfo", run->root);
	/* as long as ever: it is written over while the agent reads it */
	snprintf(text, sizeof(text),
		"MemTotal: 1048576 kB\nMemFree: %8u kB\nMemAvailable: %8u kB\n", mib * 1024,
		mib * 1024);
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(fd_pwrite_full(fd, text, strlen(text), 0), 0);
}

static void prepare(struct agent_run *run, unsigned available_mib)
{
	char path[128];

	snprintf(run->root, sizeof(run->root), "/tmp/memd-agent-XXXXXX");
	assert_non_null(mkdtemp(run->root));
	snprintf(path, sizeof(path), "%s/proc", run->root);
	assert_int_equal(mkdir(path, 0700), 0);
	set_available(run, available_mib);
}

static void greet(struct agent_run *run)
{
	struct agent_message m;

	assert_true(agent_peer_wait(&run->peer, AGENT_HELLO, WAIT_MS, &m));
	assert_int_equal(m.number, 0);
	assert_int_equal(m.value[AGENT_VERSION_MAX], AGENT_VERSION_NEWEST);
	agent_peer_hello(&run->peer, 1, 1, 1);
}

static void ask_to_shrink(struct agent_run *run, uint32_t number, uint64_t bytes)
{
	struct agent_message m;

	agent_message_init(&m, AGENT_SHRINK, number);
	agent_set(&m, AGENT_BYTES, bytes);
	agent_set(&m, AGENT_DEADLINE_MS, 2000);
	agent_peer_send(&run->peer, &m);
}

static void reports_the_machine_it_runs_on(void **state)
{
	_cleanup_(run_done) struct agent_run run = {0};
	struct agent_message m;

	start(&run, NULL, NULL);
	greet(&run);
	assert_true(agent_peer_wait(&run.peer, AGENT_REPORT, WAIT_MS, &m));
	assert_in_range(m.value[AGENT_AVAILABLE], 1, m.value[AGENT_TOTAL]);
	assert_true(agent_has(&m, AGENT_WATERMARK_LOW));
	assert_true(agent_has(&m, AGENT_FLOOR));
}

static uint64_t status_bytes(pid_t pid, const char *key)
{
	_cleanup_free_ char *text = NULL;
	char path[64], *at;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	assert_int_equal(fd_read_file_at(AT_FDCWD, path, 65536, &text, NULL), 0);
	at = strstr(text, key);
	assert_non_null(at);
	return strtoull(at + strlen(key), NULL, 10) * KIB;
}

/* Under 2 MiB, all of it locked, and under a thousandth of a CPU. */
static void it_is_small_locked_and_idle(void **state)
{
	_cleanup_(run_done) struct agent_run run = {0};
	struct agent_message first, m;
	uint64_t locked, begin_us, us;

	start(&run, NULL, NULL);
	greet(&run);
	assert_true(agent_peer_wait(&run.peer, AGENT_REPORT, WAIT_MS, &first));
	begin_us = clock_monotonic_us();
	for (unsigned i = 0; i < 3; i++)
		assert_true(agent_peer_wait(&run.peer, AGENT_REPORT, WAIT_MS, &m));
	us = clock_monotonic_us() - begin_us;
	locked = status_bytes(run.pid, "VmLck:");
	printf("# locked %" PRIu64 " KiB, resident %" PRIu64 " KiB, CPU %" PRIu64 " us in %" PRIu64
	       " ms\n",
		locked / KIB, status_bytes(run.pid, "VmRSS:") / KIB,
		m.value[AGENT_OWN_CPU_US] - first.value[AGENT_OWN_CPU_US], us / 1000);
	if (SANITIZED)
		return; /* whose memory and time these then are */
	assert_in_range(locked, 1, 2 * MIB - 1);
	assert_in_range(status_bytes(run.pid, "VmRSS:"), 1, 2 * MIB - 1);
	assert_true((m.value[AGENT_OWN_CPU_US] - first.value[AGENT_OWN_CPU_US]) * 1000 < us);
}

/* The system calls that are left: no execve, no open, no socket. */
static void it_is_locked_in(void **state)
{
	_cleanup_(run_done) struct agent_run run = {0};
	_cleanup_free_ char *text = NULL;
	struct agent_message m;
	char path[64];

	start(&run, NULL, NULL);
	greet(&run);
	assert_true(agent_peer_wait(&run.peer, AGENT_REPORT, WAIT_MS, &m));
	snprintf(path, sizeof(path), "/proc/%d/status", (int)run.pid);
	assert_int_equal(fd_read_file_at(AT_FDCWD, path, 65536, &text, NULL), 0);
	assert_non_null(strstr(text, "NoNewPrivs:\t1"));
	assert_non_null(strstr(text, SANITIZED ? "Seccomp:\t0" : "Seccomp:\t2"));
}

static void it_gives_what_it_can_spare(void **state)
{
	_cleanup_(run_done) struct agent_run run = {0};
	struct agent_message m;

	prepare(&run, 500);
	start(&run, "--root", run.root);
	greet(&run);
	assert_true(agent_peer_wait(&run.peer, AGENT_REPORT, WAIT_MS, &m));
	ask_to_shrink(&run, 42, 100 * MIB);
	assert_true(agent_peer_wait(&run.peer, AGENT_ANSWER, WAIT_MS, &m));
	assert_int_equal(m.number, 42);
	assert_int_equal(m.value[AGENT_VERDICT], AGENT_DONE);
	assert_int_equal(m.value[AGENT_BYTES], 100 * MIB);
	ask_to_shrink(&run, 43, 10 * GIB);
	assert_true(agent_peer_wait(&run.peer, AGENT_ANSWER, WAIT_MS, &m));
	assert_int_equal(m.number, 43);
	assert_int_equal(m.value[AGENT_BYTES], 436 * MIB);
}

static void it_refuses_with_a_reason(void **state)
{
	_cleanup_(run_done) struct agent_run run = {0};
	struct agent_message m;

	prepare(&run, 64);
	start(&run, "--root", run.root);
	greet(&run);
	ask_to_shrink(&run, 7, 100 * MIB);
	assert_true(agent_peer_wait(&run.peer, AGENT_ANSWER, WAIT_MS, &m));
	assert_int_equal(m.value[AGENT_VERDICT], AGENT_REFUSED);
	assert_string_equal(m.text, "64 MiB are available, 64 MiB are kept so");
}

static void it_asks_and_cries_by_itself(void **state)
{
	_cleanup_(run_done) struct agent_run run = {0};
	struct agent_message m;

	prepare(&run, 500);
	start(&run, "--root", run.root);
	greet(&run);
	assert_true(agent_peer_wait(&run.peer, AGENT_REPORT, WAIT_MS, &m));
	set_available(&run, 20);
	assert_true(agent_peer_wait(&run.peer, AGENT_ASK, WAIT_MS, &m));
	assert_int_equal(m.value[AGENT_BYTES], 44 * MIB);
	set_available(&run, 4);
	assert_true(agent_peer_wait(&run.peer, AGENT_DISTRESS, WAIT_MS, &m));
	assert_string_equal(m.text, "4 MiB are available of 1 GiB");
}

static void it_says_nothing_to_a_host_of_another_version(void **state)
{
	_cleanup_(run_done) struct agent_run run = {0};
	struct agent_message m;

	start(&run, NULL, NULL);
	assert_true(agent_peer_wait(&run.peer, AGENT_HELLO, WAIT_MS, &m));
	agent_peer_hello(&run.peer, 0, 2, 5);
	assert_true(agent_peer_wait(&run.peer, AGENT_HELLO, WAIT_MS, &m));
	assert_int_equal(m.number, 1);
	ask_to_shrink(&run, 1, MIB);
	assert_false(agent_peer_wait(&run.peer, AGENT_REPORT, 2500, &m));
	agent_peer_hello(&run.peer, 1, 1, 5); /* a newer host that knows the old ways too */
	assert_true(agent_peer_wait(&run.peer, AGENT_REPORT, WAIT_MS, &m));
}

static void garbage_from_the_host_is_passed_over(void **state)
{
	_cleanup_(run_done) struct agent_run run = {0};
	struct agent_message m;
	uint8_t garbage[4096];

	for (unsigned i = 0; i < sizeof(garbage); i++)
		garbage[i] = (uint8_t)(i * 167 >> 3);
	memcpy(garbage + 4000, "\x6d\x0b\x7a\xe6", 4); /* a message that never ends */
	garbage[4010] = 0;
	garbage[4011] = 3;
	start(&run, NULL, NULL);
	assert_true(agent_peer_wait(&run.peer, AGENT_HELLO, WAIT_MS, &m));
	assert_int_equal(
		agent_peer_send_bytes(&run.peer, garbage, sizeof(garbage)), sizeof(garbage));
	agent_peer_hello(&run.peer, 1, 1, 1);
	assert_true(agent_peer_wait(&run.peer, AGENT_REPORT, WAIT_MS, &m));
}

/* The host takes nothing for a while: the agent does not wait, and what it says then is whole. */
static void a_host_that_does_not_read_gets_whole_messages_later(void **state)
{
	_cleanup_(run_done) struct agent_run run = {0};
	struct agent_message m;

	prepare(&run, 64);
	start(&run, "--root", run.root);
	greet(&run);
	for (unsigned i = 1; i <= 3000; i++)
		ask_to_shrink(&run, i, 100 * MIB); /* until its answers fill the socket */
	for (unsigned n = 0; n < 100; n++)
		assert_true(agent_peer_wait(&run.peer, AGENT_ANSWER, WAIT_MS, &m));
	assert_true(agent_peer_wait(&run.peer, AGENT_REPORT, WAIT_MS, &m));
	assert_int_equal(run.peer.in.skipped_bytes, 0);
}

static void it_says_goodbye(void **state)
{
	_cleanup_(run_done) struct agent_run run = {0};
	struct agent_message m;
	int status;

	start(&run, NULL, NULL);
	greet(&run);
	assert_true(agent_peer_wait(&run.peer, AGENT_REPORT, WAIT_MS, &m));
	assert_int_equal(kill(run.pid, SIGTERM), 0);
	assert_true(agent_peer_wait(&run.peer, AGENT_BYE, WAIT_MS, &m));
	assert_int_equal(waitpid(run.pid, &status, 0), run.pid);
	run.pid = 0;
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* One file for any guest, under 1 MiB. */
static void it_is_static_and_small(void **state)
{
	char command[4200];
	struct stat st;

	assert_int_equal(stat(program(), &st), 0);
	if (SANITIZED)
		return; /* they are shared libraries */
	assert_in_range(st.st_size, 1, MIB - 1);
	snprintf(command, sizeof(command), "file '%s' | grep -q 'statically linked'", program());
	assert_int_equal(system(command), 0);
}

static void bad_arguments_say_what_is_wrong(void **state)
{
	static const struct {
		const char *arguments, *says;
		int code;
	} cases[] = {
		{"--floor 12Q", "12Q", 2},
		{"--port-fd x", "x", 2},
		{"--root /nonexistent", "/nonexistent", 2},
		{"--port /dev/null --port-fd 0", "exclude", 2},
		{"--port /nonexistent", "/nonexistent", 3},
		{"nonsense", "nonsense", 2},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char command[4400];

		snprintf(command, sizeof(command), "'%s' %s 2>&1 | grep -q -- '%s'", program(),
			cases[i].arguments, cases[i].says);
		assert_int_equal(system(command), 0);
		snprintf(command, sizeof(command), "'%s' %s 2>/dev/null", program(),
			cases[i].arguments);
		assert_int_equal(WEXITSTATUS(system(command)), cases[i].code);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reports_the_machine_it_runs_on),
		cmocka_unit_test(it_is_small_locked_and_idle),
		cmocka_unit_test(it_is_locked_in),
		cmocka_unit_test(it_gives_what_it_can_spare),
		cmocka_unit_test(it_refuses_with_a_reason),
		cmocka_unit_test(it_asks_and_cries_by_itself),
		cmocka_unit_test(it_says_nothing_to_a_host_of_another_version),
		cmocka_unit_test(garbage_from_the_host_is_passed_over),
		cmocka_unit_test(a_host_that_does_not_read_gets_whole_messages_later),
		cmocka_unit_test(it_says_goodbye),
		cmocka_unit_test(it_is_static_and_small),
		cmocka_unit_test(bad_arguments_say_what_is_wrong),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
