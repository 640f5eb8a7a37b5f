/*
 * Memory cgroups on the real kernel, v1 or v2, whichever this host has. Every group is removed at
 * the end of its test, also of a failed one; processes in them are children of the test.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "memd/base/cgroup.h"
#include "memd/base/cleanup.h"
#include "memd/base/clock.h"
#include "memd/base/fd.h"
#include "memd/base/sanitizer.h"
#include "memd/base/units.h"

/* What a process that fills 16 MiB takes at most; the thread sanitizer keeps several shadows of each word. */
#define EATER_MAX_BYTES ((HAS_THREAD_SANITIZER ? 160 : 24) * MIB)

struct fixture {
	enum cgroup_mode mode;
	char name[40];
	char path[600]; /* of root */
	struct cgroup *root;
	struct cgroup *child;
	pid_t pid; /* of a process in child, 0 for none */
};

static void end_process(struct fixture *f)
{
	if (f->pid > 0) {
		kill(f->pid, SIGKILL);
		waitpid(f->pid, NULL, 0);
	}
	f->pid = 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	end_process(f);
	if (f->child)
		cgroup_remove(f->child);
	if (f->root)
		cgroup_remove(f->root);
	cgroup_free(f->child);
	cgroup_free(f->root);
	free(f);
	return 0;
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	char mount[512];
	struct error e = {0};

	if (!f)
		return -1;
	*state = f;
	f->mode = cgroup_detect(mount, sizeof(mount), &e);
	if (f->mode == CGROUP_NONE) {
		print_message("# %s\n", e.text);
		return 0;
	}
	snprintf(f->name, sizeof(f->name), "memd-test-%d", (int)getpid());
	snprintf(f->path, sizeof(f->path), "%s/%s", mount, f->name);
	if (cgroup_new(f->mode, NULL, f->name, &f->root, &e) < 0 ||
		cgroup_new(f->mode, f->root, "g1", &f->child, &e) < 0) {
		print_message("# %s\n", e.text);
		teardown(state);
		return -1;
	}
	return 0;
}

/* What this host cannot show passes, and says so (cmocka's skip() is "not ok" to TAP). */
#define NEED(condition)                                                                            \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			print_message("# not on this host: " #condition "\n");                     \
			return;                                                                    \
		}                                                                                  \
	} while (0)

/* A child process in the group that touches n_bytes and then waits for its end. */
static void start_eater(struct fixture *f, size_t n_bytes)
{
	int ready[2];
	char c;

	assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
	f->pid = fork();
	assert_true(f->pid >= 0);
	if (f->pid == 0) {
		int procs = cgroup_open_procs(f->child);
		char *p;

		if (procs < 0 || write(procs, "0", 1) != 1 || write(ready[1], "r", 1) != 1)
			_exit(1);
		p = mmap(NULL, n_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (p == MAP_FAILED)
			_exit(1);
		for (size_t i = 0; i < n_bytes; i += PAGE_BYTES)
			p[i] = 1;
		pause();
		_exit(0);
	}
	close(ready[1]);
	assert_int_equal(read(ready[0], &c, 1), 1);
	close(ready[0]);
}

/* Waits up to 5 s for the group to use at least so much. */
static uint64_t wait_for_usage(struct fixture *f, uint64_t at_least)
{
	uint64_t usage = 0;

	for (int i = 0; i < 500 && usage < at_least; i++) {
		assert_int_equal(cgroup_read_usage(f->child, &usage), 0);
		clock_sleep_us(10 * US_PER_MS);
	}
	return usage;
}

static void counts_what_a_process_in_it_uses(void **state)
{
	struct fixture *f = *state;
	uint64_t usage;

	NEED(f->mode != CGROUP_NONE);
	start_eater(f, 16 * MIB);
	usage = wait_for_usage(f, 16 * MIB);
	assert_in_range(usage, 16 * MIB, EATER_MAX_BYTES);
	assert_int_equal(cgroup_remove(f->child), -EBUSY);
	end_process(f);
	assert_int_equal(cgroup_remove(f->child), 0);
}

static void takes_over_what_is_stale_and_nothing_in_use(void **state)
{
	struct fixture *f = *state;
	struct cgroup *again = NULL;
	struct error e = {0};

	NEED(f->mode != CGROUP_NONE);
	/* both are empty: as after a crash of memd */
	assert_int_equal(cgroup_new(f->mode, NULL, f->name, &again, &e), 0);
	cgroup_free(again);
	assert_int_equal(cgroup_open(f->mode, f->root, "g1", &again, &e), -ENOENT);
	cgroup_free(f->child);
	f->child = NULL;
	assert_int_equal(cgroup_new(f->mode, f->root, "g1", &f->child, &e), 0);

	start_eater(f, PAGE_BYTES);
	e.text[0] = '\0';
	assert_int_equal(cgroup_new(f->mode, f->root, "g1", &again, &e), -EBUSY);
	assert_non_null(strstr(e.text, f->path));
	/* but for adopting it, and the root goes on with what lives in it */
	assert_int_equal(cgroup_open(f->mode, f->root, "g1", &again, NULL), 0);
	cgroup_free(again);
	assert_int_equal(cgroup_new(f->mode, NULL, f->name, &again, NULL), 0);
	cgroup_free(again);
}

static void moves_a_process_in(void **state)
{
	struct fixture *f = *state;
	pid_t pid;

	NEED(f->mode != CGROUP_NONE);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		pause();
		_exit(0);
	}
	f->pid = pid;
	assert_int_equal(cgroup_attach(f->child, pid), 0);
	assert_int_equal(cgroup_remove(f->child), -EBUSY);
	end_process(f);
	assert_int_equal(cgroup_attach(f->child, pid), -ESRCH);
}

static void never_sets_a_v1_limit_below_usage(void **state)
{
	struct fixture *f = *state;
	uint64_t set = 0;

	NEED(f->mode == CGROUP_V1);
	assert_int_equal(cgroup_set_limit(f->child, 256 * MIB + 1, &set), 0);
	assert_int_equal(set, 256 * MIB);
	start_eater(f, 16 * MIB);
	wait_for_usage(f, 16 * MIB);
	assert_int_equal(cgroup_set_limit(f->child, 4 * MIB, &set), 0);
	assert_in_range(set, 16 * MIB, EATER_MAX_BYTES);
	assert_int_equal(cgroup_set_limit(f->child, UINT64_MAX, &set), 0);
	assert_true(set == UINT64_MAX);
}

static void v2_high_takes_a_number_and_none(void **state)
{
	struct fixture *f = *state;
	uint64_t set = 0;

	NEED(f->mode == CGROUP_V2);
	assert_int_equal(cgroup_set_limit(f->child, 64 * MIB + 1, &set), 0);
	assert_int_equal(set, 64 * MIB);
	assert_int_equal(cgroup_set_limit(f->child, UINT64_MAX, &set), 0);
	assert_int_equal(cgroup_watch_threshold(f->child, MIB, &(int){-1}), -EOPNOTSUPP);
}

/* Whether the eventfd fires within the time; takes the event. */
static bool fires(int event, int timeout_ms)
{
	struct pollfd p = {.fd = event, .events = POLLIN};
	uint64_t count;

	if (poll(&p, 1, timeout_ms) != 1)
		return false;
	return read(event, &count, sizeof(count)) == sizeof(count);
}

static void v1_tells_when_a_threshold_is_crossed(void **state)
{
	struct fixture *f = *state;
	_cleanup_close_ int event = -1;

	NEED(f->mode == CGROUP_V1);
	assert_int_equal(cgroup_watch_threshold(f->child, 8 * MIB, &event), 0);
	assert_false(fires(event, 0));
	start_eater(f, 16 * MIB);
	assert_true(fires(event, 5000));
	end_process(f);
	assert_true(fires(event, 5000)); /* downwards too */
}

static void refuses_names_that_leave_the_directory(void **state)
{
	static const char *const names[] = {"", ".", "..", "a/b", "/a", ".hidden"};
	struct fixture *f = *state;
	struct cgroup *c = NULL;

	NEED(f->mode != CGROUP_NONE);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		struct error e = {0};

		assert_int_equal(cgroup_new(f->mode, f->root, names[i], &c, &e), -EINVAL);
		assert_true(e.text[0]);
	}
	assert_int_equal(cgroup_new(CGROUP_NONE, NULL, "x", &c, NULL), -EOPNOTSUPP);
	assert_null(c);
}

static void reads_totals_of_pressure(void **state)
{
	uint64_t some = 1, full = 2;

	assert_int_equal(
		cgroup_parse_pressure("some avg10=0.12 avg60=0.00 avg300=0.00 total=12345\n"
				      "full avg10=0.00 avg60=0.00 avg300=0.00 total=678\n",
			&some, &full),
		0);
	assert_int_equal(some, 12345);
	assert_int_equal(full, 678);
	assert_int_equal(cgroup_parse_pressure("some avg10=0.12 total=1\n", &some, &full), -EPROTO);
	assert_int_equal(cgroup_parse_pressure("", &some, &full), -EPROTO);
	assert_int_equal(
		cgroup_parse_pressure("some total=x\nfull total=1\n", &some, &full), -EPROTO);
	assert_int_equal(some, 12345);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(counts_what_a_process_in_it_uses),
		TEST(takes_over_what_is_stale_and_nothing_in_use),
		TEST(moves_a_process_in),
		TEST(never_sets_a_v1_limit_below_usage),
		TEST(v2_high_takes_a_number_and_none),
		TEST(v1_tells_when_a_threshold_is_crossed),
		TEST(reads_totals_of_pressure),
		TEST(refuses_names_that_leave_the_directory),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
