/* Claims about guest RAM: layout, lookup, discarding, busy pages, the census. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "dedup/guest-ram.h"

#define LOW_CHUNKS  2
#define HIGH_CHUNKS 1
#define HIGH_GPA    (UINT64_C(1) << 32)

static int setup(void **state)
{
	const struct guest_ram_layout layout[] = {
		{.gpa = 0, .bytes = LOW_CHUNKS * CHUNK_BYTES},
		{.gpa = HIGH_GPA, .bytes = HIGH_CHUNKS * CHUNK_BYTES},
	};
	struct guest_ram *ram;
	int r = guest_ram_new(layout, 2, &ram, NULL);

	if (r == 0)
		*state = ram;
	return r;
}

static int teardown(void **state)
{
	guest_ram_free(*state);
	return 0;
}

static struct guest_ram_census census(struct guest_ram *ram)
{
	struct guest_ram_census c;
	uint64_t sum;

	assert_int_equal(guest_ram_census(ram, &c), 0);
	sum = c.private_pages + c.shared_pages + c.swapped_pages;
	for (size_t i = 0; i < 4; i++)
		sum += c.hole_pages[i];
	assert_int_equal(sum, guest_ram_pages(ram));
	return c;
}

static void touch(struct guest_ram *ram, uint64_t page, uint64_t n)
{
	for (uint64_t i = page; i < page + n; i++)
		memset(guest_ram_page_ptr(ram, i), 0x5a, PAGE_BYTES);
}

static void refuses_bad_layouts(void **state)
{
	static const struct {
		size_t n;
		struct guest_ram_layout layout[5];
	} bad[] = {
		{.n = 0},
		{.n = 5,
			.layout = {{0, CHUNK_BYTES}, {CHUNK_BYTES, CHUNK_BYTES},
				{2 * CHUNK_BYTES, CHUNK_BYTES}, {3 * CHUNK_BYTES, CHUNK_BYTES},
				{4 * CHUNK_BYTES, CHUNK_BYTES}}},
		{.n = 1, .layout = {{0, 0}}},
		{.n = 1, .layout = {{0, CHUNK_BYTES - PAGE_BYTES}}},
		{.n = 1, .layout = {{0, CHUNK_BYTES + PAGE_BYTES}}},
		{.n = 1, .layout = {{PAGE_BYTES, CHUNK_BYTES}}},
		{.n = 1, .layout = {{CHUNK_BYTES, -CHUNK_BYTES}}},
		{.n = 1, .layout = {{0, -CHUNK_BYTES}}},
		{.n = 2, .layout = {{CHUNK_BYTES, CHUNK_BYTES}, {0, CHUNK_BYTES}}},
		{.n = 2, .layout = {{0, 2 * CHUNK_BYTES}, {CHUNK_BYTES, CHUNK_BYTES}}},
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct guest_ram *ram = NULL;
		struct error e = {0};

		assert_int_equal(guest_ram_new(bad[i].layout, bad[i].n, &ram, &e), -EINVAL);
		assert_null(ram);
		assert_string_not_equal(e.text, "");
	}
}

static void finds_pages_in_ranges_and_nothing_between(void **state)
{
	struct guest_ram *ram = *state;
	const uint64_t low = LOW_CHUNKS * CHUNK_BYTES;
	uint64_t page = 77;

	assert_int_equal(guest_ram_pages(ram), (LOW_CHUNKS + HIGH_CHUNKS) * CHUNK_PAGES);
	assert_non_null(guest_ram_ptr(ram, GPA(0), low));
	assert_null(guest_ram_ptr(ram, GPA(0), low + 1));
	assert_null(guest_ram_ptr(ram, GPA(0), 0));
	assert_non_null(guest_ram_ptr(ram, GPA(low - 1), 1));
	assert_null(guest_ram_ptr(ram, GPA(low - 1), 2));
	assert_null(guest_ram_ptr(ram, GPA(low), 1));
	assert_null(guest_ram_ptr(ram, GPA(UINT64_MAX), 2));
	assert_null(guest_ram_ptr(ram, GPA(HIGH_GPA), UINT64_MAX));
	assert_false(guest_ram_page_of(ram, GPA(low), &page));
	assert_false(guest_ram_page_of(ram, GPA(HIGH_GPA - 1), &page));
	assert_int_equal(page, 77);
	assert_true(guest_ram_page_of(ram, GPA(HIGH_GPA + PAGE_BYTES + 1), &page));
	assert_int_equal(page, LOW_CHUNKS * CHUNK_PAGES + 1);
	assert_ptr_equal(
		guest_ram_page_ptr(ram, page), guest_ram_ptr(ram, GPA(HIGH_GPA + PAGE_BYTES), 1));
	assert_int_equal((uintptr_t)guest_ram_page_ptr(ram, 0) % CHUNK_BYTES, 0);
}

static void counts_touched_pages_as_private(void **state)
{
	struct guest_ram *ram = *state;
	struct guest_ram_census c;

	c = census(ram);
	assert_int_equal(c.hole_pages[HOLE_UNTOUCHED], guest_ram_pages(ram));
	assert_int_equal(c.mappings, 2);
	touch(ram, 3, 5);
	c = census(ram);
	assert_int_equal(c.private_pages, 5);
}

static void counts_a_read_hole_as_a_hole(void **state)
{
	struct guest_ram *ram = *state;
	const volatile uint8_t *p = guest_ram_page_ptr(ram, 9);

	assert_int_equal(*p, 0);
	assert_int_equal(census(ram).private_pages, 0);
}

static void discards_whole_ranges_with_one_call_a_chunk(void **state)
{
	struct guest_ram *ram = *state;
	struct guest_ram_census c;
	uint64_t calls = 0;

	touch(ram, 500, 24);
	assert_int_equal(guest_ram_discard(ram, 490, 40, HOLE_BALLOON, &calls), 0);
	assert_int_equal(calls, 2);
	c = census(ram);
	assert_int_equal(c.private_pages, 0);
	assert_int_equal(c.hole_pages[HOLE_BALLOON], 40);
	assert_int_equal(c.freed_pages[HOLE_BALLOON], 24);
	assert_int_equal(*guest_ram_page_ptr(ram, 500), 0);
}

static void forgets_why_a_page_was_given_when_it_is_taken_back(void **state)
{
	struct guest_ram *ram = *state;
	struct guest_ram_census c;

	touch(ram, 0, 1024);
	assert_int_equal(guest_ram_discard(ram, 0, 1024, HOLE_REPORTED, NULL), 0);
	guest_ram_undiscard(ram, 511, 2);
	c = census(ram);
	assert_int_equal(c.hole_pages[HOLE_REPORTED], 1022);
	assert_int_equal(c.freed_pages[HOLE_REPORTED], 1022);
	assert_int_equal(c.hole_pages[HOLE_UNTOUCHED], CHUNK_PAGES + 2);
	touch(ram, 7, 1);
	assert_int_equal(census(ram).hole_pages[HOLE_REPORTED], 1021);
}

static void refuses_to_discard_beyond_ram(void **state)
{
	struct guest_ram *ram = *state;
	const uint64_t n = guest_ram_pages(ram);

	assert_int_equal(guest_ram_discard(ram, n - 1, 1, HOLE_BALLOON, NULL), 0);
	assert_int_equal(guest_ram_discard(ram, n - 1, 2, HOLE_BALLOON, NULL), -EINVAL);
	assert_int_equal(guest_ram_discard(ram, n, 1, HOLE_BALLOON, NULL), -EINVAL);
	assert_int_equal(guest_ram_discard(ram, UINT64_MAX, 2, HOLE_BALLOON, NULL), -EINVAL);
	assert_int_equal(guest_ram_discard(ram, 0, 0, HOLE_BALLOON, NULL), -EINVAL);
}

static void leaves_busy_pages_alone_until_all_are_done(void **state)
{
	struct guest_ram *ram = *state;
	const gpa_t gpa = GPA(511 * PAGE_BYTES + 4000);
	const uint64_t bytes = 200; /* over the border of pages 511 and 512, of two chunks */

	touch(ram, 510, 4);
	assert_int_equal(guest_ram_busy(ram, gpa, bytes), 0);
	assert_int_equal(guest_ram_busy(ram, gpa, bytes), 0);
	guest_ram_done(ram, gpa, bytes);
	assert_int_equal(guest_ram_discard(ram, 500, 30, HOLE_BALLOON, NULL), 0);
	assert_int_equal(census(ram).private_pages, 2);
	assert_int_equal(*guest_ram_page_ptr(ram, 511), 0x5a);
	assert_int_equal(*guest_ram_page_ptr(ram, 512), 0x5a);
	guest_ram_done(ram, gpa, bytes);
	assert_int_equal(guest_ram_discard(ram, 500, 30, HOLE_BALLOON, NULL), 0);
	assert_int_equal(census(ram).private_pages, 0);
}

static void refuses_direct_io_outside_of_ram(void **state)
{
	struct guest_ram *ram = *state;
	const uint64_t low = LOW_CHUNKS * CHUNK_BYTES;

	assert_int_equal(guest_ram_busy(ram, GPA(low - 1), 2), -EFAULT);
	assert_int_equal(guest_ram_busy(ram, GPA(0), 0), -EFAULT);
	assert_int_equal(guest_ram_busy(ram, GPA(UINT64_MAX - 1), 4), -EFAULT);
}

static void refuses_more_direct_io_than_it_can_count(void **state)
{
	struct guest_ram *ram = *state;
	const gpa_t both = GPA(511 * PAGE_BYTES), second = GPA(512 * PAGE_BYTES);

	for (unsigned i = 0; i < UINT16_MAX; i++)
		assert_int_equal(guest_ram_busy(ram, second, 1), 0);
	/* the first page was counted already when the second refused: that must be undone */
	assert_int_equal(guest_ram_busy(ram, both, 2 * PAGE_BYTES), -EBUSY);
	touch(ram, 511, 1);
	assert_int_equal(guest_ram_discard(ram, 511, 1, HOLE_BALLOON, NULL), 0);
	assert_int_equal(census(ram).private_pages, 0);
}

/*
 * The kernel is asked to read there, so that a missing guard page is a failed claim and not a
 * crash.
 */
static void has_guard_pages_at_both_ends(void **state)
{
	struct guest_ram *ram = *state;
	const struct guest_ram_range *ranges;
	const size_t n = guest_ram_ranges(ram, &ranges);

	for (size_t i = 0; i < 2 * n; i++) {
		const struct guest_ram_range *range = &ranges[i / 2];
		const uint8_t *p = i % 2 ? range->host + range->bytes : range->host - 1;
		int fds[2];

		assert_int_equal(pipe(fds), 0);
		assert_int_equal(write(fds[1], p, 1), -1);
		assert_int_equal(errno, EFAULT);
		close(fds[0]);
		close(fds[1]);
	}
}

#define WITH_RAM(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(refuses_bad_layouts),
		WITH_RAM(finds_pages_in_ranges_and_nothing_between),
		WITH_RAM(counts_touched_pages_as_private),
		WITH_RAM(counts_a_read_hole_as_a_hole),
		WITH_RAM(discards_whole_ranges_with_one_call_a_chunk),
		WITH_RAM(forgets_why_a_page_was_given_when_it_is_taken_back),
		WITH_RAM(refuses_to_discard_beyond_ram),
		WITH_RAM(leaves_busy_pages_alone_until_all_are_done),
		WITH_RAM(refuses_direct_io_outside_of_ram),
		WITH_RAM(refuses_more_direct_io_than_it_can_count),
		WITH_RAM(has_guard_pages_at_both_ends),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("guest-ram", tests, NULL, NULL);
}
