/*
 * Claims about the pool's logic, without sockets: slots, references, hints, limits; and about the
 * tables it is made of.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <cmocka.h>

#include "dedup/page-hash.h"
#include "dedup/pool-hints.h"
#include "dedup/pool-index.h"
#include "dedup/pool.h"

#define SLOTS_MAX 1024
#define N_PAGES	  20000 /* that each member may offer */

static _Alignas(64) uint8_t pages[POOL_INSERT_MAX][PAGE_BYTES];

/* Content number c as a page. */
static void fill(uint8_t *page, uint64_t c)
{
	for (size_t i = 0; i < PAGE_BYTES / sizeof(c); i++, page += sizeof(c)) {
		uint64_t word = c * UINT64_C(0x9e3779b97f4a7c15) + i;

		memcpy(page, &word, sizeof(word));
	}
}

static uint64_t hash_of(uint64_t c)
{
	fill(pages[0], c);
	return page_hash(pages[0]);
}

static uint32_t insert(struct pool *p, struct pool_member *m, uint64_t c)
{
	uint32_t slot;

	fill(pages[0], c);
	pool_insert(p, m, pages[0], 1, &slot);
	return slot;
}

static uint32_t lookup(struct pool *p, struct pool_member *m, uint64_t c, uint32_t page)
{
	const struct pool_lookup query = {.hash = hash_of(c), .page = page};
	uint32_t slot;

	pool_lookup(p, m, &query, 1, &slot);
	return slot;
}

static struct pool_stats stats_of(struct pool *p)
{
	struct pool_stats stats;

	pool_trim(p);
	pool_stats_read(p, &stats);
	return stats;
}

struct group {
	struct pool *pool;
	struct pool_member *a, *b;
};

static int setup_limited(void **state, const struct pool_limits *limits)
{
	struct group *g = calloc(1, sizeof(*g));

	*state = g;
	return pool_new(limits, &g->pool) < 0 || pool_member_new(g->pool, N_PAGES, &g->a) < 0 ||
	       pool_member_new(g->pool, N_PAGES, &g->b) < 0;
}

static int setup(void **state)
{
	return setup_limited(state, &(struct pool_limits){0});
}

static int setup_three_pages(void **state)
{
	return setup_limited(state, &(struct pool_limits){.max_pages = 3});
}

static int setup_three_slots_each(void **state)
{
	return setup_limited(state, &(struct pool_limits){.max_member_slots = 3});
}

static int teardown(void **state)
{
	struct group *g = *state;

	pool_free(g->pool);
	free(g);
	return 0;
}

static void whoever_offers_first_is_told(void **state)
{
	struct group *g = *state;
	const struct pool_notify *notify;
	uint32_t slot;

	assert_int_equal(lookup(g->pool, g->a, 1, 17), POOL_SLOT_NONE);
	assert_int_equal(lookup(g->pool, g->a, 1, 17), POOL_SLOT_NONE); /* the same page again */
	assert_int_equal(lookup(g->pool, g->b, 1, 5), POOL_SLOT_HINTED);
	assert_int_equal(pool_member_notify(g->a, &notify), 0);
	slot = insert(g->pool, g->b, 1);
	assert_true(slot < POOL_FILE_PAGES);
	assert_int_equal(pool_member_notify(g->b, &notify), 0);
	assert_int_equal(pool_member_notify(g->a, &notify), 1);
	assert_true(notify->hash == hash_of(1));
	assert_int_equal(notify->page, 17);
	pool_member_drop_notify(g->a, 1);
	assert_int_equal(pool_member_notify(g->a, &notify), 0);
	assert_int_equal(lookup(g->pool, g->a, 1, 17), slot);
	assert_int_equal(stats_of(g->pool).references, 2);
}

static void a_member_shares_with_itself(void **state)
{
	struct group *g = *state;
	const struct pool_notify *notify;

	assert_int_equal(lookup(g->pool, g->a, 1, 17), POOL_SLOT_NONE);
	assert_int_equal(lookup(g->pool, g->a, 1, 18), POOL_SLOT_HINTED);
	insert(g->pool, g->a, 1);
	assert_int_equal(pool_member_notify(g->a, &notify), 1);
	assert_int_equal(notify->page, 17);
}

static void an_equal_page_is_held_once(void **state)
{
	struct group *g = *state;
	uint32_t slots[3];

	fill(pages[0], 1);
	fill(pages[1], 2);
	fill(pages[2], 1);
	pool_insert(g->pool, g->a, pages[0], 3, slots);
	assert_int_equal(slots[0], slots[2]);
	assert_int_not_equal(slots[0], slots[1]);
	assert_int_equal(insert(g->pool, g->b, 1), slots[0]);
	assert_int_equal(stats_of(g->pool).pages_used, 2);
	assert_int_equal(stats_of(g->pool).references, 4);
	assert_int_equal(stats_of(g->pool).inserts, 2);
}

static void a_slot_lives_as_long_as_somebody_holds_it(void **state)
{
	struct group *g = *state;
	uint32_t slot = insert(g->pool, g->a, 1);

	assert_int_equal(lookup(g->pool, g->b, 1, 0), slot);
	assert_int_equal(pool_release(g->pool, g->a, &slot, 1), 0);
	assert_int_equal(stats_of(g->pool).memfd_bytes, PAGE_BYTES);
	assert_int_equal(pool_release(g->pool, g->b, &slot, 1), 0);
	assert_true(pool_wants_trim(g->pool));
	assert_int_equal(stats_of(g->pool).memfd_bytes, 0);
	assert_false(pool_wants_trim(g->pool));
	assert_int_equal(lookup(g->pool, g->b, 1, 0), POOL_SLOT_NONE);
}

static void nobody_gives_back_what_it_does_not_hold(void **state)
{
	struct group *g = *state;
	uint32_t slot = insert(g->pool, g->a, 1);
	const uint32_t wrong[] = {slot + 1, POOL_SLOT_NONE, POOL_SLOT_HINTED, UINT32_MAX / 2};

	assert_int_equal(pool_release(g->pool, g->b, &slot, 1), -EPROTO);
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
		assert_int_equal(pool_release(g->pool, g->a, &wrong[i], 1), -EPROTO);
	assert_int_equal(pool_release(g->pool, g->a, &slot, 1), 0);
	assert_int_equal(pool_release(g->pool, g->a, &slot, 1), -EPROTO);
	assert_int_equal(stats_of(g->pool).references, 0);
}

static void a_member_that_goes_gives_back_everything(void **state)
{
	struct group *g = *state;
	uint32_t shared = insert(g->pool, g->b, 1);

	for (unsigned i = 0; i < 5; i++)
		assert_int_equal(insert(g->pool, g->a, 1), shared);
	for (uint64_t c = 2; c < 100; c++)
		insert(g->pool, g->a, c);
	pool_member_free(g->pool, g->a);
	assert_int_equal(stats_of(g->pool).pages_used, 1);
	assert_int_equal(stats_of(g->pool).references, 1);
	assert_int_equal(stats_of(g->pool).memfd_bytes, PAGE_BYTES);
	/* what it offered last is a hint to nobody */
	assert_int_equal(pool_member_new(g->pool, N_PAGES, &g->a), 0);
	assert_int_equal(lookup(g->pool, g->a, 1, 0), shared);
}

/*
 * In a row, also when another member inserts in between, and when a slot that was in use before is
 * taken again.
 */
static void pages_inserted_one_after_the_other_lie_in_a_row(void **state)
{
	struct group *g = *state;
	uint32_t slots[POOL_INSERT_MAX], first = 0;

	for (unsigned round = 0; round < 4; round++) {
		for (unsigned i = 0; i < POOL_INSERT_MAX; i++)
			fill(pages[i], 1000 + round * POOL_INSERT_MAX + i);
		pool_insert(g->pool, g->a, pages[0], POOL_INSERT_MAX, slots);
		first = round ? first : slots[0];
		for (unsigned i = 0; i < POOL_INSERT_MAX; i++)
			assert_int_equal(slots[i], first + round * POOL_INSERT_MAX + i);
		insert(g->pool, g->b, 5000 + round);
	}
}

static void a_freed_slot_is_written_anew(void **state)
{
	struct group *g = *state;
	uint8_t page[PAGE_BYTES];
	uint32_t slots[SLOTS_MAX];

	/* twice, so that slots are taken that are freed and not yet punched */
	for (unsigned round = 0; round < 2; round++) {
		for (uint64_t c = 0; c < SLOTS_MAX; c++)
			slots[c] = insert(g->pool, g->a, 10000 * round + c);
		for (uint64_t c = 0; c < SLOTS_MAX; c++) {
			fill(pages[0], 10000 * round + c);
			assert_int_equal(
				pread(pool_file_fd(g->pool, slots[c] / POOL_FILE_PAGES), page,
					PAGE_BYTES, slots[c] % POOL_FILE_PAGES * PAGE_BYTES),
				PAGE_BYTES);
			assert_memory_equal(page, pages[0], PAGE_BYTES);
		}
		assert_int_equal(pool_release(g->pool, g->a, slots, SLOTS_MAX), 0);
	}
	assert_int_equal(stats_of(g->pool).memfd_bytes, 0);
}

static void grows_over_one_file(void **state)
{
	struct group *g = *state;
	struct pool_stats stats;

	for (uint64_t c = 0; c < POOL_FILE_PAGES + 1; c++)
		assert_int_not_equal(insert(g->pool, g->a, c), POOL_SLOT_NONE);
	stats = stats_of(g->pool);
	assert_int_equal(pool_files(g->pool), 2);
	assert_int_equal(stats.pages_used, POOL_FILE_PAGES + 1);
	assert_int_equal(stats.memfd_bytes, (POOL_FILE_PAGES + 1) * PAGE_BYTES);
}

static void holds_no_more_pages_than_allowed(void **state)
{
	struct group *g = *state;
	uint32_t slot;

	insert(g->pool, g->a, 1);
	insert(g->pool, g->a, 2);
	slot = insert(g->pool, g->b, 3);
	assert_int_not_equal(slot, POOL_SLOT_NONE);
	assert_int_equal(insert(g->pool, g->b, 4), POOL_SLOT_NONE);
	assert_int_not_equal(insert(g->pool, g->b, 1), POOL_SLOT_NONE); /* is there */
	assert_int_equal(pool_release(g->pool, g->b, &slot, 1), 0);
	assert_int_not_equal(insert(g->pool, g->b, 4), POOL_SLOT_NONE);
}

static void a_member_holds_no_more_slots_than_allowed(void **state)
{
	struct group *g = *state;

	for (uint64_t c = 1; c <= 3; c++)
		assert_int_not_equal(insert(g->pool, g->a, c), POOL_SLOT_NONE);
	assert_int_equal(insert(g->pool, g->a, 4), POOL_SLOT_NONE);
	assert_int_not_equal(insert(g->pool, g->a, 3), POOL_SLOT_NONE); /* once more the same */
	assert_int_not_equal(insert(g->pool, g->b, 4), POOL_SLOT_NONE); /* another member */
	assert_int_equal(lookup(g->pool, g->a, 4, 0), POOL_SLOT_NONE);
	assert_int_equal(stats_of(g->pool).pages_used, 4);
}

static void takes_no_more_members_than_it_can_count(void **state)
{
	struct group *g = *state;
	struct pool_member *m = NULL, *more;

	for (unsigned i = 2; i < POOL_MEMBERS_MAX; i++)
		assert_int_equal(pool_member_new(g->pool, N_PAGES, &m), 0);
	assert_int_equal(pool_member_new(g->pool, N_PAGES, &more), -EMFILE);
	pool_member_free(g->pool, m);
	assert_int_equal(pool_member_new(g->pool, N_PAGES, &more), 0);
}

static void members_get_files_they_can_only_read(void **state)
{
	struct group *g = *state;
	char path[40];
	int fd, status;
	pid_t child;

	insert(g->pool, g->a, 1);
	fd = pool_file_fd(g->pool, 0);
	assert_int_equal(pwrite(fd, pages[0], 1, 0), -1);
	assert_int_equal(ftruncate(fd, 0), -1);
	assert_ptr_equal(
		mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), MAP_FAILED);
	assert_int_equal(fcntl(fd, F_GET_SEALS), F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL);
	if (getuid() != 0)
		return;
	/* Another uid, as members have, cannot open it for writing by way of /proc. */
	child = fork();
	if (child == 0) {
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		if (setuid(65534) < 0)
			_exit(2);
		_exit(open(path, O_RDWR) >= 0);
	}
	waitpid(child, &status, 0);
	assert_int_equal(status, 0);
}

/* A hostile member: what it may do with its descriptor is read, and reading fills holes. */
static void memory_that_a_member_makes_by_reading_holes_goes_again(void **state)
{
	struct group *g = *state;
	uint32_t slot = insert(g->pool, g->a, 1);
	volatile uint8_t *file = mmap(NULL, POOL_FILE_PAGES * PAGE_BYTES, PROT_READ, MAP_SHARED,
		pool_file_fd(g->pool, 0), 0);
	unsigned sum = 0;

	assert_ptr_not_equal(file, MAP_FAILED);
	for (uint64_t i = 0; i < 2000; i++)
		sum += file[i * 7 * PAGE_BYTES];
	assert_true(stats_of(g->pool).memfd_bytes >= 2000 * PAGE_BYTES);
	pool_find_leaks(g->pool);
	assert_true(pool_wants_trim(g->pool));
	assert_int_equal(stats_of(g->pool).memfd_bytes, PAGE_BYTES);
	assert_false(pool_wants_trim(g->pool));
	fill(pages[0], 1);
	assert_memory_equal((const void *)(uintptr_t)(file + slot % POOL_FILE_PAGES * PAGE_BYTES),
		pages[0], PAGE_BYTES);
	/* slots that were punched are used as before */
	for (uint64_t c = 2; c < 1000; c++)
		assert_int_not_equal(insert(g->pool, g->a, c), POOL_SLOT_NONE);
	pool_find_leaks(g->pool);
	assert_false(pool_wants_trim(g->pool));
	assert_int_equal(stats_of(g->pool).memfd_bytes, 999 * PAGE_BYTES);
	munmap((void *)(uintptr_t)file, POOL_FILE_PAGES * PAGE_BYTES);
}

/* A hostile member: offers until it has pushed out what it can. Others then share as before. */
static void a_member_that_floods_costs_others_little(void **state)
{
	struct group *g = *state;
	struct pool_member *bad;
	unsigned shared = 0;

	assert_int_equal(pool_member_new(g->pool, N_PAGES, &bad), 0);
	for (uint64_t i = 0; i < 20 * N_PAGES; i++) {
		const struct pool_lookup query = {
			.hash = i * 77 + 1, .page = (uint32_t)(i % N_PAGES)};
		uint32_t slot;

		pool_lookup(g->pool, bad, &query, 1, &slot);
	}
	assert_true(stats_of(g->pool).index_bytes < (UINT64_C(1) << 20) * 3);
	for (uint32_t c = 0; c < 1000; c++) {
		lookup(g->pool, g->a, c, c);
		shared += lookup(g->pool, g->b, c, c) == POOL_SLOT_HINTED;
	}
	assert_true(shared >= 990);
	pool_member_free(g->pool, bad);
}

/* A hostile member: says the hash of a page that others have, and hands over other bytes. */
static void a_member_that_lies_about_a_hash_gives_nobody_other_bytes(void **state)
{
	struct group *g = *state;
	uint32_t slot;

	assert_int_equal(lookup(g->pool, g->a, 1, 0), POOL_SLOT_NONE);
	assert_int_equal(lookup(g->pool, g->b, 1, 0), POOL_SLOT_HINTED);
	slot = insert(g->pool, g->b, 666);
	assert_int_equal(lookup(g->pool, g->a, 1, 0), POOL_SLOT_NONE); /* it is not page 1's */
	assert_int_equal(lookup(g->pool, g->a, 666, 0), slot);
}

/*
 * Against a plain array; few keys, so that runs, several values a key, growing and shrinking all
 * occur.
 */
static void the_index_is_a_multimap(void **state)
{
	enum { KEYS = 300 };
	struct pool_index x = {0};
	unsigned count[KEYS] = {0};
	uint64_t random = 1;

	for (unsigned round = 0; round < 60000; round++) {
		const bool growing = round / 10000 % 2 == 0;
		uint64_t key;

		random = random * UINT64_C(6364136223846793005) + 1442695040888963407;
		key = (random >> 33) % KEYS;
		if (growing || !count[key]) {
			assert_int_equal(pool_index_add(&x, key, (uint32_t)key + 7), 0);
			count[key]++;
		} else {
			pool_index_remove(&x, key, (uint32_t)key + 7);
			count[key]--;
		}
		if (round % 1000 == 0)
			for (uint64_t k = 0; k < KEYS; k++) {
				size_t cursor = 0;
				unsigned n = 0;
				uint32_t value;

				while ((value = pool_index_next(&x, k, &cursor)) != POOL_INDEX_NONE)
					n += value == k + 7; /* a few may be of other keys */
				assert_int_equal(n, count[k]);
			}
	}
	pool_index_done(&x);
}

static void hints_are_bounded_and_new_ones_push_out_others(void **state)
{
	enum { MAX = 40000 };
	struct pool_hints h;
	unsigned kept = 0;

	pool_hints_init(&h);
	pool_hints_limit(&h, MAX);
	for (uint32_t i = 1; i <= 10 * MAX; i++)
		pool_hints_offer(&h, i, i);
	assert_true(pool_hints_bytes(&h) <= MAX * 16);
	for (uint32_t i = 1; i <= MAX / 8; i++)
		pool_hints_offer(&h, 1000000 + i, 100000 + i);
	for (uint32_t i = 1; i <= MAX / 8; i++)
		kept += pool_hints_take(&h, 1000000 + i) == 100000 + i;
	assert_true(kept > MAX / 8 * 80 / 100);
	assert_int_equal(pool_hints_take(&h, 1000001), POOL_FRAME_NONE);
	pool_hints_done(&h);
}

/* What the design's half a percent of guest memory rests on. */
static void hints_take_less_than_sixteen_bytes_each_and_hardly_one_is_lost(void **state)
{
	enum { N = 100000 };
	struct pool_hints h;
	unsigned kept = 0, taken_for_others = 0;

	pool_hints_init(&h);
	pool_hints_limit(&h, N);
	for (uint32_t i = 1; i <= N; i++)
		taken_for_others += pool_hints_offer(&h, i * UINT64_C(77), i) != POOL_FRAME_NONE;
	assert_true(taken_for_others < 10);
	assert_true(pool_hints_bytes(&h) < UINT64_C(16) * N);
	for (uint32_t i = 1; i <= N; i++)
		kept += pool_hints_take(&h, i * UINT64_C(77)) == i;
	assert_true(kept > N / 1000 * 995);
	pool_hints_done(&h);
}

static void hints_of_a_range_are_forgotten_and_all_others_found(void **state)
{
	enum { N = 50000, FIRST = 10000, GONE = 20000 };
	struct pool_hints h;
	unsigned kept = 0;

	pool_hints_init(&h);
	pool_hints_limit(&h, N);
	for (uint32_t i = 1; i <= N; i++)
		pool_hints_offer(&h, i * UINT64_C(77), i);
	pool_hints_forget(&h, FIRST, GONE);
	for (uint32_t i = FIRST; i < FIRST + GONE; i++)
		assert_int_equal(pool_hints_take(&h, i * UINT64_C(77)), POOL_FRAME_NONE);
	for (uint32_t i = 1; i <= N; i++)
		kept += pool_hints_take(&h, i * UINT64_C(77)) == i;
	assert_true(kept > (N - GONE) / 1000 * 995);
	pool_hints_done(&h);
}

/* Else each of its pages would be taken for one that two have, and moved into the pool. */
static void a_member_that_comes_back_offers_its_pages_for_the_first_time(void **state)
{
	struct group *g = *state;
	struct pool_member *again;

	for (uint32_t i = 0; i < N_PAGES; i++)
		assert_int_equal(lookup(g->pool, g->a, 100 + i, i), POOL_SLOT_NONE);
	pool_member_detach(g->pool, g->a);
	assert_int_equal(pool_member_new(g->pool, N_PAGES, &again), 0);
	for (uint32_t i = 0; i < N_PAGES; i++)
		assert_int_equal(lookup(g->pool, again, 100 + i, i), POOL_SLOT_NONE);
	assert_int_equal(lookup(g->pool, g->b, 100, 0), POOL_SLOT_HINTED);
	pool_member_free(g->pool, again);
}

/* Numbers of pages are given out anew when a member has gone: hints of it name nobody, or another. */
static void pages_beyond_those_a_member_has_are_offered_in_vain(void **state)
{
	struct group *g = *state;

	assert_int_equal(lookup(g->pool, g->a, 1, N_PAGES), POOL_SLOT_NONE);
	assert_int_equal(lookup(g->pool, g->b, 1, UINT32_MAX), POOL_SLOT_NONE);
	assert_int_equal(lookup(g->pool, g->b, 1, N_PAGES - 1), POOL_SLOT_NONE);
	assert_int_equal(lookup(g->pool, g->a, 1, 0), POOL_SLOT_HINTED);
	pool_member_free(g->pool, g->b);
	assert_int_not_equal(insert(g->pool, g->a, 1), POOL_SLOT_NONE);
	assert_int_equal(pool_member_new(g->pool, UINT32_MAX, &g->b), 0);
	assert_int_equal(lookup(g->pool, g->b, 2, 0), POOL_SLOT_NONE);
	assert_int_equal(
		lookup(g->pool, g->a, 2, 0), POOL_SLOT_NONE); /* there was no room for b's */
}

#define IN_GROUP(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_GROUP(whoever_offers_first_is_told),
		IN_GROUP(a_member_shares_with_itself),
		IN_GROUP(an_equal_page_is_held_once),
		IN_GROUP(a_slot_lives_as_long_as_somebody_holds_it),
		IN_GROUP(nobody_gives_back_what_it_does_not_hold),
		IN_GROUP(a_member_that_goes_gives_back_everything),
		IN_GROUP(pages_inserted_one_after_the_other_lie_in_a_row),
		IN_GROUP(a_freed_slot_is_written_anew),
		IN_GROUP(grows_over_one_file),
		cmocka_unit_test_setup_teardown(
			holds_no_more_pages_than_allowed, setup_three_pages, teardown),
		cmocka_unit_test_setup_teardown(a_member_holds_no_more_slots_than_allowed,
			setup_three_slots_each, teardown),
		IN_GROUP(takes_no_more_members_than_it_can_count),
		IN_GROUP(members_get_files_they_can_only_read),
		IN_GROUP(memory_that_a_member_makes_by_reading_holes_goes_again),
		IN_GROUP(a_member_that_floods_costs_others_little),
		IN_GROUP(a_member_that_lies_about_a_hash_gives_nobody_other_bytes),
		IN_GROUP(a_member_that_comes_back_offers_its_pages_for_the_first_time),
		cmocka_unit_test(hints_of_a_range_are_forgotten_and_all_others_found),
		cmocka_unit_test(the_index_is_a_multimap),
		cmocka_unit_test(hints_are_bounded_and_new_ones_push_out_others),
		cmocka_unit_test(hints_take_less_than_sixteen_bytes_each_and_hardly_one_is_lost),
		IN_GROUP(pages_beyond_those_a_member_has_are_offered_in_vain),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("pool", tests, NULL, NULL);
}
