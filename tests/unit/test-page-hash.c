/* Claims about page contents. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "dedup/page-ops.h"
#include "memd/base/units.h"

static _Alignas(64) uint8_t a[PAGE_BYTES];
static _Alignas(64) uint8_t b[PAGE_BYTES];

static int clear(void **state)
{
	memset(a, 0, sizeof(a));
	memset(b, 0, sizeof(b));
	return 0;
}

static void sees_every_single_byte(void **state)
{
	const uint64_t hash = page_hash(a);

	assert_true(page_is_zero(a));
	assert_true(page_equal(a, b));
	for (size_t i = 0; i < PAGE_BYTES; i++) {
		a[i] = 1;
		assert_false(page_is_zero(a));
		assert_false(page_equal(a, b));
		assert_false(page_equal(b, a));
		assert_true(page_hash(a) != hash);
		a[i] = 0;
	}
	assert_true(page_hash(a) == hash);
}

/*
 * Members of different versions share one pool: the hash is part of the protocol. The library
 * itself says so.
 */
static void hashes_as_the_protocol_says(void **state)
{
	assert_true(page_hash(a) == UINT64_C(0x93d76fe148c689ba));
	memset(a, 0x5a, sizeof(a));
	assert_true(page_hash(a) == UINT64_C(0xb7886b5fd99dda4e));
}

static void equal_pages_that_are_not_zero_are_equal(void **state)
{
	for (size_t i = 0; i < PAGE_BYTES; i++)
		a[i] = b[i] = (uint8_t)(i * 7);
	assert_true(page_equal(a, b));
	assert_true(page_hash(a) == page_hash(b));
}

/* Two members of one group may run on different CPUs one day; and a scan must not change with it. */
static void code_for_any_cpu_gives_the_same_answers(void **state)
{
	uint64_t random = 1;

	if (!__builtin_cpu_supports("avx2"))
		return;
	for (unsigned round = 0; round < 500; round++) {
		size_t at = (random >> 33) % PAGE_BYTES;

		for (size_t i = 0; i < PAGE_BYTES; i++) {
			random = random * UINT64_C(6364136223846793005) + 1442695040888963407;
			a[i] = round % 3 ? (uint8_t)(random >> 56) : 0;
		}
		page_ops_avx2.copy(b, a);
		assert_memory_equal(a, b, PAGE_BYTES);
		b[at] = (uint8_t)(b[at] + round % 2);
		assert_true(page_ops_plain.hash(b) == page_ops_avx2.hash(b));
		assert_int_equal(page_ops_plain.equal(a, b), page_ops_avx2.equal(a, b));
		assert_int_equal(page_ops_avx2.equal(a, b), round % 2 == 0);
		assert_int_equal(page_ops_plain.is_zero(b), page_ops_avx2.is_zero(b));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(sees_every_single_byte, clear),
		cmocka_unit_test_setup(hashes_as_the_protocol_says, clear),
		cmocka_unit_test_setup(equal_pages_that_are_not_zero_are_equal, clear),
		cmocka_unit_test_setup(code_for_any_cpu_gives_the_same_answers, clear),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("page-hash", tests, NULL, NULL);
}
