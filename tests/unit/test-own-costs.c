/* What memd's own processes cost: a policy's program counts with all that it started. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "memd/base/units.h"
#include "memd/own-costs.h"

/* Sanitizers keep books about memory, in memory. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define MOST_BYTES UINT64_MAX
#else
#define MOST_BYTES ((168 + 16) * MIB)
#endif

/* In a child: ends with its parent, and has so much memory of its own. */
static void take(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED || prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
		_exit(1);
	memset(p, 1, bytes);
}

/* A child with 24 MiB, which has a child with 48, which has one with 96 and says so. */
static pid_t start_tree(void)
{
	int fds[2];
	pid_t pid;
	char done;

	assert_int_equal(pipe(fds), 0);
	pid = fork();
	if (pid == 0) {
		for (size_t bytes = 24 * MIB; bytes <= 96 * MIB; bytes *= 2) {
			take(bytes);
			if (bytes == 96 * MIB && write(fds[1], "", 1) == 1)
				break;
			if (fork() != 0)
				break;
		}
		for (;;)
			pause();
	}
	assert_true(pid > 0);
	assert_int_equal(read(fds[0], &done, 1), 1);
	close(fds[0]);
	close(fds[1]);
	return pid;
}

static void descendants_count_with_their_parent(void **state)
{
	pid_t pid = start_tree();

	assert_in_range(own_costs_of_tree(pid), 168 * MIB, MOST_BYTES);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static void one_that_has_ended_costs_nothing(void **state)
{
	pid_t pid = fork();

	if (pid == 0)
		_exit(0);
	waitpid(pid, NULL, 0);
	assert_int_equal(own_costs_of_tree(pid), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(descendants_count_with_their_parent),
		cmocka_unit_test(one_that_has_ended_costs_nothing),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
