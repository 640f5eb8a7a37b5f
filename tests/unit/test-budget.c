/* Where the wall stands and who waits, in virtual time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "memd/base/clock.h"
#include "memd/base/units.h"
#include "memd/budget.h"

#define BUDGET	(1000 * MIB)
#define RESERVE (BUDGET / 100)

static struct budget_decision decide(struct budget *b, uint64_t now_us, uint64_t usage_mib,
	uint64_t outside_mib, uint64_t zram_mib)
{
	struct budget_figures in = {
		.now_us = now_us,
		.budget_bytes = BUDGET,
		.usage_bytes = usage_mib * MIB,
		.outside_bytes = outside_mib * MIB,
		.zram_bytes = zram_mib * MIB,
	};
	struct budget_decision d;

	budget_decide(b, &in, &d);
	return d;
}

static void limit_is_the_budget_less_what_is_outside(void **state)
{
	struct budget b = {0};
	struct budget_decision d = decide(&b, US_PER_S, 100, 200, 300);

	assert_in_range(d.limit_bytes, 500 * MIB - RESERVE - 16384, 500 * MIB - RESERVE + 16384);
	assert_int_equal(d.used_bytes, 600 * MIB);
	assert_int_equal(d.excess_bytes, 0);
	assert_false(d.near);
}

static void limit_moves_down_ahead_of_growing_zram(void **state)
{
	struct budget b = {0};
	struct budget_decision still, growing;

	decide(&b, US_PER_S, 100, 0, 100);
	growing = decide(&b, US_PER_S + 100 * US_PER_MS, 100, 0, 120); /* 200 MiB a second */
	assert_in_range(growing.limit_bytes, 880 * MIB - RESERVE - 41 * MIB,
		880 * MIB - RESERVE - 39 * MIB);
	for (uint64_t i = 2; i < 20; i++)
		still = decide(&b, US_PER_S + i * 100 * US_PER_MS, 100, 0, 120);
	assert_in_range(still.limit_bytes, 879 * MIB - RESERVE, 880 * MIB - RESERVE + 16384);
}

static void usage_above_the_limit_is_to_be_paged_out(void **state)
{
	struct budget b = {0};
	struct budget_decision d = decide(&b, US_PER_S, 650, 100, 300);

	assert_in_range(d.excess_bytes, 50 * MIB + RESERVE - 16384, 50 * MIB + RESERVE + 16384);
	assert_true(d.over);
	assert_true(d.near);
	assert_false(d.room);
}

static void more_outside_than_budget_leaves_no_limit_and_does_not_wrap(void **state)
{
	struct budget b = {0};
	struct budget_decision d = decide(&b, US_PER_S, 10, 900, 900);

	assert_int_equal(d.limit_bytes, 0);
	assert_int_equal(d.excess_bytes, 10 * MIB);
	assert_true(d.over);
}

static void over_and_room_have_a_gap_between_them(void **state)
{
	struct budget b = {0};

	assert_true(decide(&b, 1 * US_PER_S, 996, 0, 0).over);
	assert_false(decide(&b, 2 * US_PER_S, 994, 0, 0).over);
	assert_false(decide(&b, 3 * US_PER_S, 981, 0, 0).room);
	assert_in_range(decide(&b, 3 * US_PER_S, 981, 0, 0).to_room_bytes, 1, 2 * MIB);
	assert_in_range(decide(&b, 3 * US_PER_S, 1100, 0, 0).to_room_bytes, 119 * MIB, 121 * MIB);
	assert_true(decide(&b, 4 * US_PER_S, 979, 0, 0).room);
	assert_int_equal(decide(&b, 4 * US_PER_S, 979, 0, 0).to_room_bytes, 0);
}

/* 3 GiB a second come far in the time that a pause takes; slow growth may come up to the line. */
static void the_faster_it_grows_the_earlier_somebody_waits(void **state)
{
	struct budget slow = {0}, fast = {0};
	struct budget_decision d;

	decide(&slow, US_PER_S, 969, 0, 0);
	decide(&fast, US_PER_S, 940, 0, 0);
	assert_false(decide(&slow, US_PER_S + US_PER_S, 970, 0, 0).over);
	d = decide(&fast, US_PER_S + 10 * US_PER_MS, 970, 0, 0);
	assert_true(d.over);
	assert_false(d.room);
	/* It stands still now. What it did is not forgotten before seconds have passed. */
	assert_false(decide(&fast, US_PER_S + 110 * US_PER_MS, 950, 0, 0).room);
	assert_true(decide(&fast, 10 * US_PER_S, 950, 0, 0).room);
}

/* A host that is slow to look, or to make a guest stand still, has to begin earlier. */
static void a_slow_host_makes_somebody_wait_earlier(void **state)
{
	struct budget quick = {0}, slow_to_look = {0}, slow_to_pause = {0};
	struct budget *all[] = {&quick, &slow_to_look, &slow_to_pause};
	bool over[3], over_later[3];

	for (unsigned i = 0; i < 3; i++) {
		if (all[i] == &slow_to_look)
			budget_note(&all[i]->look, US_PER_S, 150 * US_PER_MS);
		if (all[i] == &slow_to_pause)
			budget_note(&all[i]->pause, US_PER_S, 150 * US_PER_MS);
		decide(all[i], US_PER_S, 900, 0, 0);
		over[i] = decide(all[i], US_PER_S + 20 * US_PER_MS, 920, 0, 0).over;
		/* The times of a minute ago no longer count. */
		decide(all[i], 61 * US_PER_S, 900, 0, 0);
		over_later[i] = decide(all[i], 61 * US_PER_S + 20 * US_PER_MS, 920, 0, 0).over;
	}
	assert_false(over[0]);
	assert_true(over[1]);
	assert_true(over[2]);
	for (unsigned i = 0; i < 3; i++)
		assert_false(over_later[i]);
}

static void who_is_most_over_its_target_waits(void **state)
{
	const struct budget_guest guests[] = {
		{.cost_bytes = 300 * MIB, .target_bytes = 290 * MIB, .running = true},
		{.cost_bytes = 100 * MIB, .target_bytes = 50 * MIB, .running = true},
		{.cost_bytes = 900 * MIB, .target_bytes = 100 * MIB, .running = false},
	};

	assert_int_equal(budget_choose_pause(guests, 3), 1);
	assert_int_equal(budget_choose_pause(guests, 0), BUDGET_NOBODY);
	assert_int_equal(budget_choose_pause(&guests[2], 1), BUDGET_NOBODY);
}

static void who_is_least_over_its_target_goes_on_first_but_not_at_once(void **state)
{
	const struct budget_guest guests[] = {
		{.cost_bytes = 90 * MIB, .target_bytes = 10 * MIB, .paused = true, .since_us = 0},
		{.cost_bytes = 50 * MIB, .target_bytes = 10 * MIB, .paused = true, .since_us = 0},
		{.cost_bytes = 5 * MIB,
			.target_bytes = 10 * MIB,
			.paused = true,
			.since_us = 900 * US_PER_MS},
	};

	assert_int_equal(budget_choose_resume(guests, 3, 99 * US_PER_MS), BUDGET_NOBODY);
	assert_int_equal(budget_choose_resume(guests, 3, 999 * US_PER_MS), 1);
	assert_int_equal(budget_choose_resume(guests, 3, US_PER_S), 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(limit_is_the_budget_less_what_is_outside),
		cmocka_unit_test(limit_moves_down_ahead_of_growing_zram),
		cmocka_unit_test(usage_above_the_limit_is_to_be_paged_out),
		cmocka_unit_test(more_outside_than_budget_leaves_no_limit_and_does_not_wrap),
		cmocka_unit_test(over_and_room_have_a_gap_between_them),
		cmocka_unit_test(the_faster_it_grows_the_earlier_somebody_waits),
		cmocka_unit_test(a_slow_host_makes_somebody_wait_earlier),
		cmocka_unit_test(who_is_most_over_its_target_waits),
		cmocka_unit_test(who_is_least_over_its_target_goes_on_first_but_not_at_once),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
