/*
 * Claims about a memd-pool that was killed and a member that joins again: pages that are shared stay
 * right, the new pool knows them, and nothing is reused that somebody may map. Real guest RAM, and a
 * real pool server in a thread of this process.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "dedup/pool-memfd.h"
#include "dedup/pool-server.h"
#include "dedup/scan.h"
#include "memd/base/clock.h"
#include "memd/base/fd.h"
#include "memd/base/ipc.h"

#define N_GUESTS    2
#define GUEST_PAGES (2 * CHUNK_PAGES)
#define N_SHARED    50
#define WAIT_US	    (10 * US_PER_S)

struct world {
	struct pool *pool;
	struct pool_server *server;
	pthread_t server_thread;
	int stop_fd;
	bool serving;
	pid_t stranger; /* a process that stands for a member that does not come */
	struct guest_ram *ram[N_GUESTS];
	struct scan *scan[N_GUESTS];
};

static void *serve(void *arg)
{
	struct world *w = arg;

	pool_server_run(w->server, w->stop_fd);
	return NULL;
}

static void serve_on(struct world *w)
{
	eventfd_t count;

	(void)eventfd_read(w->stop_fd, &count);
	assert_int_equal(pthread_create(&w->server_thread, NULL, serve, w), 0);
	w->serving = true;
}

static void pause_serving(struct world *w)
{
	if (!w->serving)
		return;
	assert_int_equal(eventfd_write(w->stop_fd, 1), 0);
	pthread_join(w->server_thread, NULL);
	w->serving = false;
}

/* As kill -9 does: no descriptor and no connection is left. */
static void kill_pool(struct world *w)
{
	pause_serving(w);
	pool_server_free(w->server);
	pool_free(w->pool);
	w->server = NULL;
	w->pool = NULL;
}

/* Members are of this process, but the stranger. */
static void new_pool(struct world *w, pid_t awaited)
{
	assert_int_equal(pool_new(&(struct pool_limits){0}, &w->pool), 0);
	assert_int_equal(pool_server_new(w->pool, -1, &w->server), 0);
	if (awaited)
		assert_int_equal(pool_server_expect(w->server, awaited), 0);
	serve_on(w);
}

static void join(struct world *w, unsigned guest)
{
	_cleanup_close_ int pidfd = fd_pidfd_open(getpid());
	int fds[2];

	pause_serving(w);
	assert_int_equal(ipc_pair(fds), 0);
	assert_int_equal(pool_server_add(w->server, fds[0]), 0);
	serve_on(w);
	assert_int_equal(scan_join_pool(w->scan[guest], fds[1], pidfd), 0);
}

static struct pool_stats stats_of(struct world *w)
{
	struct pool_stats stats;

	pause_serving(w);
	pool_trim(w->pool);
	pool_stats_read(w->pool, &stats);
	serve_on(w);
	return stats;
}

static void fill(struct guest_ram *ram, uint64_t page, unsigned n, uint64_t content)
{
	for (unsigned i = 0; i < n; i++) {
		uint64_t *p = (uint64_t *)(void *)guest_ram_page_ptr(ram, page + i);

		for (unsigned j = 0; j < PAGE_BYTES / sizeof(*p); j++)
			p[j] = (content + i) * UINT64_C(0x9e3779b97f4a7c15) + j;
	}
}

static void assert_holds(struct guest_ram *ram, uint64_t page, unsigned n, uint64_t content)
{
	for (unsigned i = 0; i < n; i++) {
		const uint64_t *p =
			(const uint64_t *)(const void *)guest_ram_page_ptr(ram, page + i);

		for (unsigned j = 0; j < PAGE_BYTES / sizeof(*p); j++)
			if (p[j] != (content + i) * UINT64_C(0x9e3779b97f4a7c15) + j)
				fail_msg("page %lu word %u", (unsigned long)page + i, j);
	}
}

static uint64_t shared_pages(struct guest_ram *ram)
{
	struct guest_ram_census c;

	assert_int_equal(guest_ram_census(ram, &c), 0);
	return c.shared_pages;
}

static void scan_all(struct world *w, unsigned guest)
{
	scan_pages(w->scan[guest], 0, GUEST_PAGES, SCANNER_SHARE);
}

/* What is offered, found and told takes a few rounds. */
static void scan_until_shared(struct world *w, uint64_t shared)
{
	uint64_t end_us = clock_monotonic_us() + WAIT_US;

	for (unsigned i = 0; i < N_GUESTS; i++) {
		while (shared_pages(w->ram[i]) < shared && clock_monotonic_us() < end_us) {
			for (unsigned j = 0; j < N_GUESTS; j++) {
				scan_all(w, j);
				scan_notified(w->scan[j]);
			}
			clock_sleep_us(1000);
		}
		assert_int_equal(shared_pages(w->ram[i]), shared);
	}
}

/* Two guests that share N_SHARED pages. */
static int setup(void **state)
{
	const struct guest_ram_layout layout = {.bytes = GUEST_PAGES * PAGE_BYTES};
	struct world *w = calloc(1, sizeof(*w));

	w->stranger = fork();
	if (w->stranger == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			pause();
	}
	w->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	new_pool(w, 0);
	for (unsigned i = 0; i < N_GUESTS; i++) {
		if (guest_ram_new(&layout, 1, &w->ram[i], NULL) < 0 ||
			!guest_ram_can_freeze(w->ram[i]) ||
			scan_new(w->ram[i], 50000, &w->scan[i]) < 0)
			return -1;
		join(w, i);
		fill(w->ram[i], 0, N_SHARED, 1);
	}
	scan_until_shared(w, N_SHARED);
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;

	for (unsigned i = 0; i < N_GUESTS; i++)
		scan_free(w->scan[i]);
	kill_pool(w);
	for (unsigned i = 0; i < N_GUESTS; i++)
		guest_ram_free(w->ram[i]);
	kill(w->stranger, SIGKILL);
	waitpid(w->stranger, NULL, 0);
	close(w->stop_fd);
	free(w);
	return 0;
}

static void a_new_pool_is_rebuilt_from_what_members_announce(void **state)
{
	struct world *w = *state;
	struct pool_stats s;

	for (unsigned round = 0; round < 3; round++) {
		kill_pool(w);
		new_pool(w, getpid());
		for (unsigned i = 0; i < N_GUESTS; i++)
			join(w, i);
		s = stats_of(w);
		assert_int_equal(s.pages_used, N_SHARED);
		assert_int_equal(s.references, N_GUESTS * N_SHARED);
		assert_int_equal(s.held_pages, 0);
		assert_int_equal(s.memfd_bytes, N_SHARED * PAGE_BYTES);
		for (unsigned i = 0; i < N_GUESTS; i++)
			assert_holds(w->ram[i], 0, N_SHARED, 1);
	}
	/* It knows the bytes: equal pages find them, and nothing is inserted. */
	for (unsigned i = 0; i < N_GUESTS; i++)
		fill(w->ram[i], 600, N_SHARED, 1);
	scan_until_shared(w, 2 * N_SHARED);
	s = stats_of(w);
	assert_int_equal(s.pages_used, N_SHARED);
	assert_int_equal(s.references, 2 * N_GUESTS * N_SHARED);
	assert_int_equal(s.inserts, 0);
}

static void what_is_given_back_after_that_is_freed(void **state)
{
	struct world *w = *state;
	struct pool_stats s;

	kill_pool(w);
	new_pool(w, getpid());
	for (unsigned i = 0; i < N_GUESTS; i++)
		join(w, i);
	for (unsigned i = 0; i < N_GUESTS; i++) {
		assert_int_equal(guest_ram_discard(w->ram[i], 0, 20, HOLE_BALLOON, NULL), 0);
		scan_all(w, i);
	}
	s = stats_of(w);
	assert_int_equal(s.pages_used, N_SHARED - 20);
	assert_int_equal(s.references, N_GUESTS * (N_SHARED - 20));
	assert_int_equal(s.memfd_bytes, (N_SHARED - 20) * PAGE_BYTES);
}

/* Guest 1 stands for a member that is stopped: it maps what it maps, and says nothing. */
static void nothing_is_reused_while_somebody_is_awaited(void **state)
{
	struct world *w = *state;
	uint64_t end_us = clock_monotonic_us() + WAIT_US;
	struct pool_stats s;

	kill_pool(w);
	new_pool(w, w->stranger);
	join(w, 0);
	assert_int_equal(stats_of(w).references, N_SHARED);
	assert_int_equal(guest_ram_discard(w->ram[0], 0, N_SHARED, HOLE_BALLOON, NULL), 0);
	scan_all(w, 0);
	s = stats_of(w);
	assert_int_equal(s.references, 0);
	assert_int_equal(s.held_pages, POOL_FILE_PAGES);
	/* Sharing goes on, elsewhere. */
	fill(w->ram[0], 600, 20, 1000);
	fill(w->ram[0], 700, 20, 1000);
	while (shared_pages(w->ram[0]) < 40 && clock_monotonic_us() < end_us) {
		scan_all(w, 0);
		scan_notified(w->scan[0]);
	}
	assert_int_equal(shared_pages(w->ram[0]), 40);
	assert_holds(w->ram[1], 0, N_SHARED, 1);
	/* Only with the end of the last one is it free. */
	kill(w->stranger, SIGKILL);
	while (stats_of(w).held_pages && clock_monotonic_us() < end_us)
		clock_sleep_us(1000);
	s = stats_of(w);
	assert_int_equal(s.held_pages, 0);
	assert_int_equal(s.memfd_bytes, 20 * PAGE_BYTES);
}

static void a_member_that_comes_late_finds_its_pages(void **state)
{
	struct world *w = *state;

	kill_pool(w);
	new_pool(w, w->stranger);
	join(w, 0);
	assert_int_equal(guest_ram_discard(w->ram[0], 0, N_SHARED, HOLE_BALLOON, NULL), 0);
	scan_all(w, 0);
	assert_int_equal(stats_of(w).pages_used, 0);
	join(w, 1);
	assert_int_equal(stats_of(w).pages_used, N_SHARED);
	assert_int_equal(stats_of(w).references, N_SHARED);
	fill(w->ram[0], 0, N_SHARED, 1);
	scan_until_shared(w, N_SHARED);
	assert_int_equal(stats_of(w).inserts, 0);
}

static void a_member_that_joins_again_leaves_no_reference_behind(void **state)
{
	struct world *w = *state;
	struct pool_stats s;

	for (unsigned round = 0; round < 3; round++) {
		scan_set_pool(w->scan[0], NULL);
		assert_int_equal(guest_ram_discard(w->ram[0], round, 1, HOLE_BALLOON, NULL), 0);
		join(w, 0);
		s = stats_of(w);
		assert_int_equal(s.members, N_GUESTS);
		assert_int_equal(s.references, N_GUESTS * N_SHARED - round - 1);
		assert_int_equal(s.pages_used, N_SHARED);
	}
	assert_holds(w->ram[0], 3, N_SHARED - 3, 1 + 3);
	assert_int_equal(shared_pages(w->ram[0]), N_SHARED - 3);
}

static int sealed_file(uint64_t bytes, mode_t mode, int seals)
{
	int fd = memfd_create("false", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	assert_int_equal(ftruncate(fd, (off_t)bytes), 0);
	assert_int_equal(fchmod(fd, mode), 0);
	assert_int_not_equal(fcntl(fd, F_ADD_SEALS, seals), -1);
	return fd;
}

static void takes_no_file_that_no_pool_made(void **state)
{
	const uint64_t bytes = POOL_FILE_PAGES * PAGE_BYTES;
	const int seals = F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL;
	const int files[] = {
		sealed_file(bytes, 0400, F_SEAL_GROW | F_SEAL_SHRINK),
		sealed_file(bytes, 0400, seals | F_SEAL_FUTURE_WRITE),
		sealed_file(bytes, 0600, seals),
		sealed_file(bytes - PAGE_BYTES, 0400, seals),
		open("/dev/null", O_RDONLY | O_CLOEXEC),
	};
	struct world *w = *state;

	pause_serving(w);
	pool_restore_begin(w->pool);
	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		assert_true(pool_restore_file(w->pool, files[i]) < 0);
		close(files[i]);
	}
	assert_int_equal(pool_files(w->pool), 1);
	pool_restore_end(w->pool);
}

static void takes_no_file_too_late(void **state)
{
	_cleanup_(pool_memfd_freep) struct pool_memfd *old = NULL;
	struct world *w = *state;

	assert_int_equal(pool_memfd_new(&old), 0);
	pause_serving(w);
	assert_int_equal(pool_restore_file(w->pool, old->read_fd), -ESTALE);
	assert_int_equal(pool_files(w->pool), 1);
	/* one that it has is no news */
	assert_int_equal(pool_restore_file(w->pool, pool_file_fd(w->pool, 0)), 0);
	assert_int_equal(pool_files(w->pool), 1);
}

static void a_claim_of_a_slot_that_nobody_granted_is_refused(void **state)
{
	const uint32_t beyond[] = {N_SHARED, POOL_FILE_PAGES, UINT32_MAX};
	struct world *w = *state;
	struct pool_member *m;

	pause_serving(w);
	assert_int_equal(pool_member_new(w->pool, 16, &m), 0);
	for (size_t i = 0; i < ARRAY_SIZE(beyond); i++)
		assert_int_equal(pool_restore(w->pool, m, &beyond[i], 1), -EPROTO);
	pool_member_free(w->pool, m);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_new_pool_is_rebuilt_from_what_members_announce),
		TEST(what_is_given_back_after_that_is_freed),
		TEST(nothing_is_reused_while_somebody_is_awaited),
		TEST(a_member_that_comes_late_finds_its_pages),
		TEST(a_member_that_joins_again_leaves_no_reference_behind),
		TEST(takes_no_file_that_no_pool_made),
		TEST(takes_no_file_too_late),
		TEST(a_claim_of_a_slot_that_nobody_granted_is_refused),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("pool-restore", tests, NULL, NULL);
}
