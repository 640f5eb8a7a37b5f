/*
 * Claims about equal hashes of different pages. The hash here is the first word of the page: this
 * program has its own page-hash, which the linker takes instead of the library's.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "dedup/page-hash.h"
#include "dedup/pool.h"

uint64_t page_hash(const void *page)
{
	uint64_t hash;

	memcpy(&hash, page, sizeof(hash));
	return hash;
}

bool page_equal(const void *a, const void *b)
{
	return memcmp(a, b, PAGE_BYTES) == 0;
}

bool page_is_zero(const void *page)
{
	return false;
}

void page_copy(void *to, const void *from)
{
	memcpy(to, from, PAGE_BYTES);
}

static uint32_t insert(struct pool *p, struct pool_member *m, uint8_t last_byte)
{
	uint8_t page[PAGE_BYTES] = {1};
	uint32_t slot;

	page[PAGE_BYTES - 1] = last_byte;
	pool_insert(p, m, page, 1, &slot);
	return slot;
}

static void different_pages_of_one_hash_get_slots_of_their_own(void **state)
{
	_cleanup_(pool_freep) struct pool *p = NULL;
	struct pool_member *m;
	struct pool_stats stats;
	uint32_t slots[4];

	assert_int_equal(pool_new(&(struct pool_limits){0}, &p), 0);
	assert_int_equal(pool_member_new(p, 16, &m), 0);
	for (uint8_t i = 0; i < 4; i++) {
		slots[i] = insert(p, m, i);
		assert_int_not_equal(slots[i], POOL_SLOT_NONE);
		for (uint8_t j = 0; j < i; j++)
			assert_int_not_equal(slots[i], slots[j]);
	}
	for (uint8_t i = 0; i < 4; i++)
		assert_int_equal(insert(p, m, i), slots[i]);
	pool_stats_read(p, &stats);
	assert_int_equal(stats.pages_used, 4);
	assert_true(stats.collisions > 0);
	/* Whoever makes them on purpose costs a bounded number of comparisons. */
	assert_int_equal(insert(p, m, 4), POOL_SLOT_NONE);
	/* The right one goes. */
	assert_int_equal(pool_release(p, m, (uint32_t[]){slots[2], slots[2]}, 2), 0);
	assert_int_equal(insert(p, m, 1), slots[1]);
	assert_int_not_equal(insert(p, m, 4), POOL_SLOT_NONE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(different_pages_of_one_hash_get_slots_of_their_own),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("pool-collisions", tests, NULL, NULL);
}
