/*
 * Claims about scanning and sharing: scanners of real guest RAM, and a real pool server in a thread
 * of this process.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <cmocka.h>

#include "dedup/pool-server.h"
#include "dedup/scan.h"
#include "memd/base/clock.h"
#include "memd/base/fd.h"
#include "memd/base/ipc.h"

#define N_GUESTS    2
#define GUEST_PAGES (2 * CHUNK_PAGES)
#define WAIT_US	    (10 * US_PER_S)

struct world {
	struct pool *pool;
	struct pool_server *server;
	pthread_t server_thread;
	int stop_fd;
	bool serving;
	struct guest_ram *ram[N_GUESTS];
	struct scan *scan[N_GUESTS];
};

static void *serve(void *arg)
{
	struct world *w = arg;

	pool_server_run(w->server, w->stop_fd);
	return NULL;
}

/* Nobody is answered any more, but all are connected still. */
static void pause_serving(struct world *w)
{
	if (!w->serving)
		return;
	assert_int_equal(eventfd_write(w->stop_fd, 1), 0);
	pthread_join(w->server_thread, NULL);
	w->serving = false;
}

/* The server ends: every member's connection does, too. */
static void stop_serving(struct world *w)
{
	pause_serving(w);
	pool_server_free(w->server);
	w->server = NULL;
}

/* Starts the server with one connection for each guest; ret_fds are the guests' ends. */
static void start_serving(struct world *w, uint64_t max_pages, int ret_fds[N_GUESTS])
{
	const struct pool_limits limits = {.max_pages = max_pages};

	assert_int_equal(pool_new(&limits, &w->pool), 0);
	assert_int_equal(pool_server_new(w->pool, -1, &w->server), 0);
	for (unsigned i = 0; i < N_GUESTS; i++) {
		int fds[2];

		assert_int_equal(ipc_pair(fds), 0);
		assert_int_equal(pool_server_add(w->server, fds[0]), 0);
		ret_fds[i] = fds[1];
	}
	w->stop_fd = eventfd(0, EFD_CLOEXEC);
	assert_int_equal(pthread_create(&w->server_thread, NULL, serve, w), 0);
	w->serving = true;
}

static int join_pool(struct scan *s, int fd)
{
	_cleanup_close_ int pidfd = fd_pidfd_open(getpid());

	return scan_join_pool(s, fd, pidfd);
}

static int setup_guests(void **state)
{
	const struct guest_ram_layout layout = {.bytes = GUEST_PAGES * PAGE_BYTES};
	struct world *w = calloc(1, sizeof(*w));

	for (unsigned i = 0; i < N_GUESTS; i++)
		if (guest_ram_new(&layout, 1, &w->ram[i], NULL) < 0 ||
			!guest_ram_can_freeze(w->ram[i]))
			return -1;
	*state = w;
	return 0;
}

static int setup_limited(void **state, uint64_t max_pages)
{
	struct world *w;
	int fds[N_GUESTS];

	if (setup_guests(state) < 0)
		return -1;
	w = *state;
	start_serving(w, max_pages, fds);
	for (unsigned i = 0; i < N_GUESTS; i++) {
		if (scan_new(w->ram[i], 50000, &w->scan[i]) < 0 ||
			join_pool(w->scan[i], fds[i]) < 0)
			return -1;
	}
	return 0;
}

static int setup(void **state)
{
	return setup_limited(state, 0);
}

static int setup_small_pool(void **state)
{
	return setup_limited(state, 5);
}

static int teardown(void **state)
{
	struct world *w = *state;

	for (unsigned i = 0; i < N_GUESTS; i++)
		scan_free(w->scan[i]);
	stop_serving(w);
	pool_free(w->pool);
	for (unsigned i = 0; i < N_GUESTS; i++)
		guest_ram_free(w->ram[i]);
	if (w->stop_fd > 0)
		close(w->stop_fd);
	free(w);
	return 0;
}

/* Pages [page, page + n) get contents from `content` on; content 0 is zero. */
static void fill(struct guest_ram *ram, uint64_t page, unsigned n, uint64_t content)
{
	for (unsigned i = 0; i < n; i++) {
		uint64_t *p = (uint64_t *)(void *)guest_ram_page_ptr(ram, page + i);

		for (unsigned j = 0; j < PAGE_BYTES / sizeof(*p); j++)
			p[j] = content ? (content + i) * UINT64_C(0x9e3779b97f4a7c15) + j : 0;
	}
}

static void assert_holds(struct guest_ram *ram, uint64_t page, unsigned n, uint64_t content)
{
	for (unsigned i = 0; i < n; i++) {
		const uint64_t *p =
			(const uint64_t *)(const void *)guest_ram_page_ptr(ram, page + i);

		for (unsigned j = 0; j < PAGE_BYTES / sizeof(*p); j++)
			if (p[j] !=
				(content ? (content + i) * UINT64_C(0x9e3779b97f4a7c15) + j : 0))
				fail_msg("page %lu word %u", (unsigned long)page + i, j);
	}
}

static struct guest_ram_census census(struct guest_ram *ram)
{
	struct guest_ram_census c;

	assert_int_equal(guest_ram_census(ram, &c), 0);
	return c;
}

static void scan_all(struct world *w, unsigned guest)
{
	scan_pages(w->scan[guest], 0, GUEST_PAGES, SCANNER_SHARE);
}

/* Notifications travel through the server's thread: waits until as many pages are shared. */
static void take_notified(struct world *w, unsigned guest, uint64_t shared)
{
	uint64_t end_us = clock_monotonic_us() + WAIT_US;

	while (census(w->ram[guest]).shared_pages < shared && clock_monotonic_us() < end_us)
		if (!scan_notified(w->scan[guest]))
			clock_sleep_us(1000);
	assert_int_equal(census(w->ram[guest]).shared_pages, shared);
}

/* Stops the server, so that its pool can be looked at. */
static struct pool_stats final_stats(struct world *w)
{
	struct pool_stats stats;

	pause_serving(w);
	pool_trim(w->pool);
	pool_stats_read(w->pool, &stats);
	return stats;
}

static void wait_for_pool(struct world *w)
{
	/* A release has no answer: what is asked after it is answered after it was done. */
	for (unsigned i = 0; i < N_GUESTS; i++) {
		const struct pool_lookup query = {.hash = 12345 + i};
		uint32_t slot;

		if (w->scan[i]->pool)
			assert_int_equal(pool_client_lookup(w->scan[i]->pool, &query, 1, &slot), 0);
	}
}

static void zero_pages_become_holes(void **state)
{
	struct world *w = *state;
	struct guest_ram_census c;

	fill(w->ram[0], 3, 600, 0);
	fill(w->ram[0], 700, 1, 1);
	scan_pages(w->scan[0], 0, GUEST_PAGES, SCANNER_ZERO_ONLY);
	c = census(w->ram[0]);
	assert_int_equal(c.freed_pages[HOLE_ZERO], 600);
	assert_int_equal(c.private_pages, 1);
	assert_int_equal(w->scan[0]->stats.pages_dropped, 600);
	assert_int_equal(w->scan[0]->stats.pages_hashed, 0);
	assert_holds(w->ram[0], 3, 600, 0);
}

static void equal_pages_of_two_guests_are_held_once(void **state)
{
	struct world *w = *state;

	fill(w->ram[0], 10, 800, 1000);
	fill(w->ram[1], 20, 800, 1000);
	scan_all(w, 0);
	assert_int_equal(census(w->ram[0]).shared_pages, 0); /* nobody else has offered them yet */
	scan_all(w, 1);
	assert_int_equal(census(w->ram[1]).shared_pages, 800);
	take_notified(w, 0, 800);
	for (unsigned i = 0; i < N_GUESTS; i++) {
		assert_int_equal(census(w->ram[i]).private_pages, 0);
		assert_holds(w->ram[i], i ? 20 : 10, 800, 1000);
	}
	/*
	 * 800 pages over two chunks, in slots in a row: two mappings, or one more at a border of
	 * extents
	 */
	assert_in_range(census(w->ram[1]).mappings, 3, 5);
	assert_int_equal(w->scan[1]->stats.pages_inserted, 800);
	/* each window is counted: 800 pages in runs of two chunks */
	assert_true(w->scan[1]->stats.frozen.n >= 2);
	assert_true(w->scan[1]->stats.frozen.max_us > 0);
	wait_for_pool(w);
	for (unsigned i = 0; i < N_GUESTS; i++) {
		scan_free(w->scan[i]);
		w->scan[i] = NULL;
	}
	clock_sleep_us(100000);
	/* The members' process, this one, lives: what it maps is still mapped. */
	assert_int_equal(final_stats(w).pages_used, 800);
}

static void references_are_as_many_as_mappings(void **state)
{
	struct world *w = *state;
	struct pool_stats stats;

	fill(w->ram[0], 0, 100, 1);
	fill(w->ram[1], 0, 100, 1);
	fill(w->ram[1], 600, 100, 1); /* twice in one guest */
	scan_all(w, 0);
	scan_all(w, 1);
	take_notified(w, 0, 100);
	scan_all(w, 1);
	assert_int_equal(census(w->ram[1]).shared_pages, 200);
	wait_for_pool(w);
	stats = final_stats(w);
	assert_int_equal(stats.pages_used, 100);
	assert_int_equal(stats.references, 300);
	assert_int_equal(stats.memfd_bytes, 100 * PAGE_BYTES);
}

static void a_write_breaks_only_the_writers_page(void **state)
{
	struct world *w = *state;

	fill(w->ram[0], 0, 16, 1);
	fill(w->ram[1], 0, 16, 1);
	scan_all(w, 0);
	scan_all(w, 1);
	take_notified(w, 0, 16);
	fill(w->ram[0], 5, 1, 777);
	assert_holds(w->ram[0], 5, 1, 777);
	assert_holds(w->ram[1], 0, 16, 1);
	assert_int_equal(census(w->ram[0]).broken_pages, 1);
	scan_all(w, 0); /* written since: volatile */
	assert_int_equal(w->scan[0]->stats.pages_broken, 1);
	fill(w->ram[0], 5, 1, 6); /* what the slot there holds */
	scan_all(w, 0);
	assert_int_equal(census(w->ram[0]).broken_pages, 0);
	assert_int_equal(census(w->ram[0]).shared_pages, 16);
	assert_holds(w->ram[0], 0, 16, 1);
}

static void a_page_that_changes_between_passes_is_not_offered(void **state)
{
	struct world *w = *state;
	struct pool_stats stats;

	fill(w->ram[0], 0, 8, 1);
	scan_all(w, 0);
	for (unsigned pass = 1; pass < 5; pass++) {
		fill(w->ram[0], 0, 8, 100 * pass);
		scan_all(w, 0);
	}
	fill(w->ram[0], 8, 8, 9000); /* new: offered at once */
	scan_all(w, 0);
	wait_for_pool(w);
	stats = final_stats(w);
	assert_int_equal(
		stats.lookups - N_GUESTS, 8 + 8 + 8); /* the first 8, then unchanged 8, and new 8 */
}

static void holes_and_swapped_pages_are_not_read(void **state)
{
	struct world *w = *state;

	fill(w->ram[0], 0, 4, 1);
	scan_all(w, 0);
	assert_int_equal(census(w->ram[0]).private_pages, 4);
	assert_int_equal(census(w->ram[0]).hole_pages[HOLE_UNTOUCHED], GUEST_PAGES - 4);
	assert_int_equal(w->scan[0]->stats.pages_hashed, 4);
}

static void busy_pages_are_left_alone(void **state)
{
	struct world *w = *state;

	fill(w->ram[0], 0, 8, 0);
	assert_int_equal(guest_ram_busy(w->ram[0], GPA(2 * PAGE_BYTES), PAGE_BYTES), 0);
	scan_all(w, 0);
	assert_int_equal(census(w->ram[0]).private_pages, 1);
	guest_ram_done(w->ram[0], GPA(2 * PAGE_BYTES), PAGE_BYTES);
	scan_all(w, 0);
	assert_int_equal(census(w->ram[0]).private_pages, 0);
}

/* Every second page, so that each costs two mappings. */
static void mappings_stay_within_their_budget(void **state)
{
	struct world *w = *state;

	w->scan[1]->mappings_max = 300;
	for (unsigned i = 0; i < GUEST_PAGES; i += 2) {
		fill(w->ram[0], i, 1, 1 + i);
		fill(w->ram[1], i, 1, 1 + i);
	}
	for (unsigned pass = 0; pass < 4; pass++)
		for (unsigned i = 0; i < N_GUESTS; i++)
			scan_all(w, i);
	assert_true(census(w->ram[1]).mappings > 64);
	assert_true(census(w->ram[1]).mappings <= 300);
	assert_in_range(census(w->ram[1]).shared_pages, 32, 150);
	wait_for_pool(w);
	assert_int_equal(final_stats(w).references,
		census(w->ram[0]).shared_pages + census(w->ram[1]).shared_pages);
}

static void a_full_pool_refuses_and_nothing_breaks(void **state)
{
	struct world *w = *state;

	fill(w->ram[0], 0, 50, 1);
	fill(w->ram[1], 0, 50, 1);
	scan_all(w, 0);
	scan_all(w, 1);
	assert_int_equal(census(w->ram[1]).shared_pages, 5);
	take_notified(w, 0, 5);
	assert_holds(w->ram[0], 0, 50, 1);
	assert_holds(w->ram[1], 0, 50, 1);
}

static void discarded_pages_are_given_back_to_the_pool(void **state)
{
	struct world *w = *state;

	fill(w->ram[0], 0, 50, 1);
	fill(w->ram[1], 0, 50, 1);
	scan_all(w, 0);
	scan_all(w, 1);
	take_notified(w, 0, 50);
	for (unsigned i = 0; i < N_GUESTS; i++) {
		assert_int_equal(guest_ram_discard(w->ram[i], 0, 20, HOLE_BALLOON, NULL), 0);
		scan_all(w, i);
	}
	wait_for_pool(w);
	assert_int_equal(final_stats(w).pages_used, 30);
}

static void a_pool_that_dies_takes_no_page_with_it(void **state)
{
	struct world *w = *state;
	struct pool *old = w->pool;
	int fds[N_GUESTS];

	fill(w->ram[0], 0, 50, 1);
	fill(w->ram[1], 0, 50, 1);
	scan_all(w, 0);
	scan_all(w, 1);
	take_notified(w, 0, 50);
	stop_serving(w);
	pool_free(old);
	for (unsigned i = 0; i < N_GUESTS; i++) {
		fill(w->ram[i], 100, 50, 1);
		scan_all(w, i);
		assert_int_equal(w->scan[i]->stats.pool_attached, 0);
		assert_int_equal(census(w->ram[i]).shared_pages, 50);
		assert_holds(w->ram[i], 0, 50, 1);
	}
	/* A new one knows nothing of the old one's slots. */
	close(w->stop_fd);
	start_serving(w, 0, fds);
	for (unsigned i = 0; i < N_GUESTS; i++) {
		assert_int_equal(join_pool(w->scan[i], fds[i]), 0);
		assert_int_equal(guest_ram_discard(w->ram[i], 0, 20, HOLE_BALLOON, NULL), 0);
	}
	scan_all(w, 0);
	scan_all(w, 1);
	take_notified(w, 0, 30 + 50);
	assert_int_equal(w->scan[0]->stats.pool_attached, 1);
	assert_holds(w->ram[0], 20, 30, 21);
}

static void wait_until_shared(struct world *w, uint64_t shared)
{
	uint64_t end_us = clock_monotonic_us() + WAIT_US;

	for (unsigned i = 0; i < N_GUESTS; i++)
		while (census(w->ram[i]).shared_pages < shared && clock_monotonic_us() < end_us)
			clock_sleep_us(10000);
	for (unsigned i = 0; i < N_GUESTS; i++)
		assert_int_equal(census(w->ram[i]).shared_pages, shared);
}

static void scanner_threads_share_by_themselves(void **state)
{
	const struct scanner_settings settings = {.mode = SCANNER_SHARE, .max_cpu_bp = 9000};
	struct world *w = *state;
	struct scanner *scanners[N_GUESTS];
	struct scanner_stats stats;
	int fds[N_GUESTS];

	start_serving(w, 0, fds);
	for (unsigned i = 0; i < N_GUESTS; i++) {
		fill(w->ram[i], 0, 300, 1);
		fill(w->ram[i], 400, 100, 0);
		assert_int_equal(scanner_new(w->ram[i], 10000, &scanners[i], NULL), 0);
		scanner_attach_pool(scanners[i], fds[i]);
		scanner_set(scanners[i], &settings);
	}
	wait_until_shared(w, 300);
	for (unsigned i = 0; i < N_GUESTS; i++) {
		assert_int_equal(census(w->ram[i]).private_pages, 0);
		assert_holds(w->ram[i], 0, 300, 1);
		scanner_stats_read(scanners[i], &stats);
		assert_int_equal(stats.pool_attached, 1);
		assert_true(stats.cpu_us > 0);
		scanner_free(scanners[i]);
	}
}

static void a_scanner_that_is_off_touches_nothing(void **state)
{
	const struct scanner_settings on = {.mode = SCANNER_ZERO_ONLY, .max_cpu_bp = 9000};
	struct world *w = *state;
	struct scanner *scanner;

	fill(w->ram[0], 0, 10, 0);
	assert_int_equal(scanner_new(w->ram[0], 10000, &scanner, NULL), 0);
	clock_sleep_us(50000);
	assert_int_equal(census(w->ram[0]).private_pages, 10);
	scanner_set(scanner, &on);
	for (unsigned i = 0; i < 500 && census(w->ram[0]).private_pages; i++)
		clock_sleep_us(10000);
	assert_int_equal(census(w->ram[0]).private_pages, 0);
	scanner_free(scanner);
}

/* 1 % of a core: what it uses in a while is less than 5 % of that, also on a busy machine. */
static void a_scanner_keeps_its_cpu_budget(void **state)
{
	const struct scanner_settings settings = {.mode = SCANNER_ZERO_ONLY, .max_cpu_bp = 100};
	struct world *w = *state;
	struct scanner *scanner;
	struct scanner_stats stats;
	uint64_t begin_us, passed_us;

	assert_int_equal(scanner_new(w->ram[0], 10000, &scanner, NULL), 0);
	begin_us = clock_monotonic_us();
	scanner_set(scanner, &settings);
	while (clock_monotonic_us() - begin_us < US_PER_S)
		fill(w->ram[0], 0, GUEST_PAGES, 0); /* always something to drop, so never a rest */
	scanner_stats_read(scanner, &stats);
	passed_us = clock_monotonic_us() - begin_us;
	assert_true(stats.cpu_us > 0);
	assert_true(stats.cpu_us < passed_us / 20);
	scanner_free(scanner);
}

#define WITH_POOL(f)   cmocka_unit_test_setup_teardown(f, setup, teardown)
#define WITH_GUESTS(f) cmocka_unit_test_setup_teardown(f, setup_guests, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_POOL(zero_pages_become_holes),
		WITH_POOL(equal_pages_of_two_guests_are_held_once),
		WITH_POOL(references_are_as_many_as_mappings),
		WITH_POOL(a_write_breaks_only_the_writers_page),
		WITH_POOL(a_page_that_changes_between_passes_is_not_offered),
		WITH_POOL(holes_and_swapped_pages_are_not_read),
		WITH_POOL(busy_pages_are_left_alone),
		WITH_POOL(mappings_stay_within_their_budget),
		cmocka_unit_test_setup_teardown(
			a_full_pool_refuses_and_nothing_breaks, setup_small_pool, teardown),
		WITH_POOL(discarded_pages_are_given_back_to_the_pool),
		WITH_POOL(a_pool_that_dies_takes_no_page_with_it),
		WITH_GUESTS(scanner_threads_share_by_themselves),
		WITH_GUESTS(a_scanner_that_is_off_touches_nothing),
		WITH_GUESTS(a_scanner_keeps_its_cpu_budget),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("scanner", tests, NULL, NULL);
}
