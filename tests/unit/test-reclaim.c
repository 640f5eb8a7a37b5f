/* Which regions go out, in virtual time, with regions that behave as told here. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "memd/base/clock.h"
#include "memd/base/units.h"
#include "memd/reclaim.h"

#define N 8

struct world {
	struct reclaim r;
	struct region_count regions[N];
	uint64_t now_us, guest_us;
};

static int set_up(void **state)
{
	struct world *w = calloc(1, sizeof(*w));

	if (!w || reclaim_init(&w->r, N) < 0)
		return -1;
	w->now_us = US_PER_S;
	for (int i = 0; i < N; i++)
		w->regions[i].anonymous = CHUNK_PAGES;
	*state = w;
	return 0;
}

static int tear_down(void **state)
{
	struct world *w = *state;

	reclaim_done(&w->r);
	free(w);
	return 0;
}

static void observe(struct world *w)
{
	reclaim_observe(&w->r, w->regions, w->now_us, w->now_us);
}

/* Chooses, and pages all of it out. */
static size_t page_out(struct world *w, uint64_t pages, enum reclaim_urgency urgency, uint32_t *ret)
{
	size_t n = reclaim_choose(&w->r, pages, urgency, w->now_us, w->guest_us, ret, N);

	for (size_t i = 0; i < n; i++) {
		w->regions[ret[i]] = (struct region_count){.swapped = CHUNK_PAGES};
		reclaim_finish(&w->r, ret[i], &w->regions[ret[i]], w->now_us);
	}
	w->now_us += US_PER_S;
	return n;
}

static void come_back(struct world *w, uint32_t region, uint16_t pages)
{
	w->regions[region].swapped = (uint16_t)(w->regions[region].swapped - pages);
	w->regions[region].anonymous = (uint16_t)(w->regions[region].anonymous + pages);
}

static void goes_round_and_takes_no_more_than_wanted(void **state)
{
	struct world *w = *state;
	uint32_t got[N];

	observe(w);
	assert_int_equal(page_out(w, 1, RECLAIM_AHEAD, got), 1);
	assert_int_equal(got[0], 0);
	assert_int_equal(page_out(w, CHUNK_PAGES + 1, RECLAIM_AHEAD, got), 2);
	assert_int_equal(got[0], 1);
	assert_int_equal(got[1], 2);
	assert_int_equal(page_out(w, 0, RECLAIM_AHEAD, got), 0);
	assert_int_equal(page_out(w, UINT64_MAX, RECLAIM_AHEAD, got), N - 3);
	assert_int_equal(page_out(w, UINT64_MAX, RECLAIM_AHEAD, got), 0);
}

static void takes_nothing_before_it_saw_anything(void **state)
{
	struct world *w = *state;
	uint32_t got[N];

	assert_int_equal(page_out(w, UINT64_MAX, RECLAIM_FORCED, got), 0);
}

static void spares_a_region_that_came_back_and_tries_it_again_later(void **state)
{
	struct world *w = *state;
	uint32_t got[N];

	observe(w);
	page_out(w, UINT64_MAX, RECLAIM_AHEAD, got);
	come_back(w, 3, CHUNK_PAGES / 8 - 1); /* not an eighth yet */
	observe(w);
	assert_int_equal(w->r.regions[3].hot_until_us, 0);
	come_back(w, 3, 1);
	observe(w);
	assert_int_equal(page_out(w, UINT64_MAX, RECLAIM_AHEAD, got), 0);
	w->now_us = w->r.regions[3].hot_until_us - 1;
	assert_int_equal(page_out(w, UINT64_MAX, RECLAIM_URGENT, got), 0);
	w->now_us = w->r.regions[3].hot_until_us;
	assert_int_equal(page_out(w, UINT64_MAX, RECLAIM_AHEAD, got), 1);
	assert_int_equal(got[0], 3);
}

static void spares_it_longer_each_time(void **state)
{
	struct world *w = *state;
	uint64_t before = 0;
	uint32_t got[N];

	observe(w);
	for (int i = 0; i < 5; i++) {
		uint64_t spared;

		assert_true(page_out(w, UINT64_MAX, RECLAIM_FORCED, got) > 0);
		come_back(w, 2, CHUNK_PAGES);
		observe(w);
		spared = w->r.regions[2].hot_until_us - w->now_us;
		assert_int_equal(spared, before ? before * 2 : 4 * US_PER_S);
		before = spared;
	}
}

static void forced_spares_nothing(void **state)
{
	struct world *w = *state;
	uint32_t got[N];

	observe(w);
	page_out(w, UINT64_MAX, RECLAIM_AHEAD, got);
	come_back(w, 5, CHUNK_PAGES);
	observe(w);
	assert_int_equal(page_out(w, UINT64_MAX, RECLAIM_URGENT, got), 0);
	assert_int_equal(page_out(w, UINT64_MAX, RECLAIM_FORCED, got), 1);
}

static void rising_refaults_stop_eviction_at_once(void **state)
{
	struct world *w = *state;
	uint32_t got[N];

	observe(w);
	page_out(w, 2 * CHUNK_PAGES, RECLAIM_AHEAD, got);
	come_back(w, 0, CHUNK_PAGES);
	come_back(w, 1, 1); /* 513 of 1024 */
	observe(w);
	assert_int_equal(w->r.refault_pages, CHUNK_PAGES + 1);
	w->now_us = w->r.stop_until_us - 1;
	assert_int_equal(page_out(w, CHUNK_PAGES, RECLAIM_AHEAD, got), 0);
	w->now_us = w->r.stop_until_us - 1;
	assert_int_equal(page_out(w, CHUNK_PAGES, RECLAIM_URGENT, got), 1);
	w->now_us = w->r.stop_until_us;
	assert_int_equal(page_out(w, CHUNK_PAGES, RECLAIM_AHEAD, got), 1);
}

static void pages_given_back_by_the_guest_are_no_refaults(void **state)
{
	struct world *w = *state;
	uint32_t got[N];

	observe(w);
	page_out(w, UINT64_MAX, RECLAIM_AHEAD, got);
	memset(w->regions, 0, sizeof(w->regions)); /* ballooned, all of it */
	observe(w);
	assert_int_equal(w->r.refault_pages, 0);
}

static void a_sample_from_before_the_page_out_says_nothing_about_it(void **state)
{
	struct world *w = *state;
	struct region_count before[N];
	uint64_t begin_us;
	uint32_t got[N];

	observe(w);
	memcpy(before, w->regions, sizeof(before));
	begin_us = w->now_us - 1;
	page_out(w, UINT64_MAX, RECLAIM_AHEAD, got);
	reclaim_observe(&w->r, before, begin_us, w->now_us);
	assert_int_equal(w->r.refault_pages, 0);
	assert_int_equal(w->r.regions[0].present_pages, 0);
}

static void a_region_under_way_is_not_chosen_twice(void **state)
{
	struct world *w = *state;
	uint32_t got[N];

	observe(w);
	assert_int_equal(reclaim_choose(&w->r, UINT64_MAX, RECLAIM_AHEAD, w->now_us, 0, got, N), N);
	assert_int_equal(
		reclaim_choose(&w->r, UINT64_MAX, RECLAIM_FORCED, w->now_us, 0, got, N), 0);
	reclaim_finish(&w->r, 4, NULL, w->now_us); /* not done after all */
	assert_int_equal(reclaim_choose(&w->r, UINT64_MAX, RECLAIM_AHEAD, w->now_us, 0, got, N), 1);
	assert_int_equal(got[0], 4);
}

static void takes_what_is_rated_cold_first_and_warm_last(void **state)
{
	struct world *w = *state;
	uint32_t got[N];

	observe(w);
	w->guest_us = 100 * US_PER_S;
	reclaim_rate(&w->r, 0, true, w->guest_us);
	reclaim_rate(&w->r, 5, false, w->guest_us);
	assert_int_equal(page_out(w, UINT64_MAX, RECLAIM_COLD_ONLY, got), 1);
	assert_int_equal(got[0], 5);
	assert_int_equal(page_out(w, UINT64_MAX, RECLAIM_AHEAD, got), N - 2);
	for (int i = 0; i < N - 2; i++)
		assert_int_not_equal(got[i], 0);
	assert_int_equal(page_out(w, UINT64_MAX, RECLAIM_AHEAD, got), 0);
	assert_int_equal(page_out(w, UINT64_MAX, RECLAIM_URGENT, got), 1);
	assert_int_equal(got[0], 0);
}

static void forced_takes_hot_regions_last(void **state)
{
	struct world *w = *state;
	uint32_t got[N];

	observe(w);
	page_out(w, UINT64_MAX, RECLAIM_AHEAD, got);
	come_back(w, 0, CHUNK_PAGES);
	observe(w);
	come_back(w, 6, CHUNK_PAGES / 16); /* few: it is not hot */
	observe(w);
	assert_int_equal(page_out(w, 1, RECLAIM_FORCED, got), 1);
	assert_int_equal(got[0], 6);
	assert_int_equal(page_out(w, 1, RECLAIM_FORCED, got), 1);
	assert_int_equal(got[0], 0);
}

static void one_touched_of_many_idle_is_still_cold(void **state)
{
	struct world *w = *state;

	for (int i = 0; i < 9; i++)
		reclaim_rate(&w->r, 1, false, 0);
	reclaim_rate(&w->r, 1, true, 0);
	assert_int_equal(reclaim_rating(&w->r, 1, 0, 0), RECLAIM_COLD);
	reclaim_rate(&w->r, 1, true, 0);
	assert_int_equal(reclaim_rating(&w->r, 1, 0, 0), RECLAIM_WARM);
	w->r.regions[1].hot_until_us = 1;
	assert_int_equal(reclaim_rating(&w->r, 1, 0, 0), RECLAIM_HOT);
}

static void samples_fade_in_the_time_of_the_guest(void **state)
{
	struct world *w = *state;

	reclaim_rate(&w->r, 1, true, 0);
	assert_int_equal(reclaim_rating(&w->r, 1, 3600 * US_PER_S, 32 * US_PER_S), RECLAIM_WARM);
	assert_int_equal(reclaim_rating(&w->r, 1, 0, 64 * US_PER_S), RECLAIM_UNKNOWN);
	reclaim_rate(&w->r, 1, false, 320 * US_PER_S);
	assert_int_equal(reclaim_rating(&w->r, 1, 0, 320 * US_PER_S), RECLAIM_COLD);
}

static void counts_wrong_choices(void **state)
{
	struct world *w = *state;
	uint32_t got[N];

	observe(w);
	page_out(w, UINT64_MAX, RECLAIM_AHEAD, got);
	assert_int_equal(w->r.out_regions, N);
	come_back(w, 2, CHUNK_PAGES);
	observe(w);
	assert_int_equal(w->r.wrong_regions, 1);
}

static void counts_pages_by_their_entries(void **state)
{
	const uint64_t present = UINT64_C(1) << 63, swapped = UINT64_C(1) << 62,
		       file = UINT64_C(1) << 61, zero_pfn = 77;
	const uint64_t entries[] = {
		0, present | 5, present | file | 6, swapped | 9, present | zero_pfn, present | 8};
	struct region_count count;

	sample_count_entries(entries, 6, zero_pfn, &count);
	assert_int_equal(count.anonymous, 2);
	assert_int_equal(count.file, 1);
	assert_int_equal(count.swapped, 1);
	sample_count_entries(entries, 6, 0, &count); /* the kernel hides frames */
	assert_int_equal(count.anonymous, 3);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(goes_round_and_takes_no_more_than_wanted),
		TEST(takes_nothing_before_it_saw_anything),
		TEST(spares_a_region_that_came_back_and_tries_it_again_later),
		TEST(spares_it_longer_each_time),
		TEST(forced_spares_nothing),
		TEST(rising_refaults_stop_eviction_at_once),
		TEST(pages_given_back_by_the_guest_are_no_refaults),
		TEST(a_sample_from_before_the_page_out_says_nothing_about_it),
		TEST(a_region_under_way_is_not_chosen_twice),
		TEST(takes_what_is_rated_cold_first_and_warm_last),
		TEST(forced_takes_hot_regions_last),
		TEST(one_touched_of_many_idle_is_still_cold),
		TEST(samples_fade_in_the_time_of_the_guest),
		TEST(counts_wrong_choices),
		cmocka_unit_test(counts_pages_by_their_entries),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
