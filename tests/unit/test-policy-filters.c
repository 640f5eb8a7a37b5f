/* The safety filters, one by one at their bounds, then together. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdbool.h>

#include "memd/base/cleanup.h"
#include "memd/base/units.h"
#include "policy/filters.h"

#define TICK_US 1000000
#define PLENTY	UINT64_MAX

/* 1000 MiB configured: the step is 50 MiB, the dead band 10 MiB. */
static struct filter_guest guest(uint64_t previous_mib, uint64_t proposed_mib)
{
	return (struct filter_guest){
		.configured_bytes = 1000 * MIB,
		.min_bytes = 100 * MIB,
		.max_bytes = 900 * MIB,
		.previous_bytes = previous_mib * MIB,
		.resident_bytes = previous_mib * MIB,
		.target_bytes = proposed_mib * MIB,
	};
}

static void apply_after(
	struct filter_guest *guests, size_t n, uint64_t available_bytes, uint64_t tick_us)
{
	struct filter_memory memories[100] = {0};
	struct filter_host host = {
		.tick_us = tick_us,
		.budget_bytes = PLENTY,
		.available_bytes = available_bytes,
	};

	filters_apply(guests, memories, n, &host);
}

static void apply(struct filter_guest *guests, size_t n, uint64_t available_bytes)
{
	apply_after(guests, n, available_bytes, TICK_US);
}

static void apply_one(struct filter_guest *g)
{
	apply(g, 1, PLENTY);
}

static void check(struct filter_guest g, uint64_t target_bytes, uint32_t clamps)
{
	apply_one(&g);
	assert_int_equal(g.target_bytes, target_bytes);
	assert_int_equal(g.clamps, clamps);
}

static void lets_a_sound_proposal_through(void **state)
{
	check(guest(500, 600), 600 * MIB, 0);
	check(guest(500, 450), 450 * MIB, 0);
	check(guest(0, 400), 400 * MIB, 0);
}

static void holds_floor_and_ceiling(void **state)
{
	struct filter_guest g = guest(0, 100);

	check(g, 100 * MIB, 0);
	g.target_bytes--;
	check(g, 100 * MIB, POLICY_CLAMP_FLOOR);
	g.target_bytes = 0;
	check(g, 100 * MIB, POLICY_CLAMP_FLOOR);
	check(guest(0, 900), 900 * MIB, 0);
	g.target_bytes = 900 * MIB + 1;
	check(g, 900 * MIB, POLICY_CLAMP_CEILING);
	g.max_bytes = UINT64_MAX; /* never more than its RAM */
	g.target_bytes = UINT64_MAX;
	check(g, 1000 * MIB, POLICY_CLAMP_CEILING);
	g.max_bytes = 50 * MIB; /* below the floor: the ceiling counts */
	check(g, 50 * MIB, POLICY_CLAMP_CEILING);
}

static void lets_a_target_fall_by_a_step_a_second(void **state)
{
	struct filter_guest g = guest(500, 450);

	check(g, 450 * MIB, 0);
	g.target_bytes--;
	check(g, 450 * MIB, POLICY_CLAMP_STEP);
	check(guest(500, 100), 450 * MIB, POLICY_CLAMP_STEP);
	check(guest(120, 100), 100 * MIB, 0); /* a step larger than what there is */

	g = guest(500, 100);
	apply_after(&g, 1, PLENTY, TICK_US / 2);
	assert_int_equal(g.target_bytes, 475 * MIB);
	g = guest(500, 100);
	apply_after(&g, 1, PLENTY, 0);
	assert_int_equal(g.target_bytes, 500 * MIB);
	g = guest(500, 100);
	apply_after(&g, 1, PLENTY, UINT64_MAX); /* a clock gone mad: no overflow */
	assert_int_equal(g.target_bytes, 100 * MIB);
}

static void counts_steps_from_what_is_resident(void **state)
{
	struct filter_guest g = guest(500, 100);

	g.resident_bytes = 300 * MIB; /* 200 MiB that nobody uses go at once */
	check(g, 250 * MIB, POLICY_CLAMP_STEP);
	g.resident_bytes = 700 * MIB; /* over its target: steps go on from the target */
	check(g, 450 * MIB, POLICY_CLAMP_STEP);
	g.resident_bytes = 0;
	check(g, 100 * MIB, 0);
}

static void leaves_small_changes_out(void **state)
{
	struct filter_guest g = guest(500, 510);

	check(g, 510 * MIB, 0);
	g.target_bytes--;
	check(g, 500 * MIB, POLICY_CLAMP_DEAD_BAND);
	check(guest(500, 500), 500 * MIB, 0);
	g.target_bytes = 490 * MIB;
	check(g, 490 * MIB, 0);
	g.target_bytes++;
	check(g, 500 * MIB, POLICY_CLAMP_DEAD_BAND);

	/* 0.25 % of a large guest, 1 % of a small one */
	g = guest(500, 519);
	g.configured_bytes = 8000 * MIB;
	check(g, 500 * MIB, POLICY_CLAMP_DEAD_BAND);
	g.target_bytes += MIB;
	check(g, 520 * MIB, 0);
	g = guest(50, 52);
	g.configured_bytes = 200 * MIB;
	g.min_bytes = 10 * MIB;
	check(g, 52 * MIB, 0);
	g.target_bytes--;
	check(g, 50 * MIB, POLICY_CLAMP_DEAD_BAND);
}

static void has_no_dead_band_where_it_would_break_a_bound(void **state)
{
	struct filter_guest g = guest(95, 100); /* the floor was raised */

	check(g, 100 * MIB, 0);
	g = guest(905, 900); /* the ceiling was lowered */
	check(g, 900 * MIB, 0);
	g = guest(500, 0);
	g.fixed = true; /* the operator's number is exact */
	g.fixed_bytes = 501 * MIB;
	check(g, 501 * MIB, POLICY_CLAMP_FIXED);
}

static void small_falls_do_not_overdraw_the_budget(void **state)
{
	struct filter_guest guests[] = {guest(500, 495), guest(500, 495)};

	/* kept while the sum fits, let through when it does not */
	apply(guests, 2, 1000 * MIB);
	assert_int_equal(guests[0].target_bytes, 500 * MIB);
	guests[0] = guests[1] = guest(500, 495);
	apply(guests, 2, 1000 * MIB - 1);
	assert_int_equal(guests[0].target_bytes, 495 * MIB);
	assert_int_equal(guests[1].target_bytes, 495 * MIB);
}

static void raises_wait_until_others_have_given(void **state)
{
	struct filter_guest guests[] = {guest(600, 200), guest(200, 600), guest(200, 400)};

	/* 1000 MiB are there and were given; only the step of the first is to be had, once it is free */
	apply(guests, 3, 1000 * MIB);
	assert_int_equal(guests[1].target_bytes, 200 * MIB);
	assert_int_equal(guests[2].target_bytes, 200 * MIB);
	guests[0] = guest(550, 550);
	guests[1] = guest(200, 600);
	guests[2] = guest(200, 400);
	guests[0].previous_bytes = 600 * MIB;
	apply(guests, 3, 1000 * MIB);
	assert_int_equal(guests[0].target_bytes, 550 * MIB);
	assert_int_equal(guests[1].clamps, POLICY_CLAMP_ROOM);
	/* 50 MiB by 400 : 200 */
	assert_in_range(guests[1].target_bytes, 233 * MIB, 234 * MIB);
	assert_in_range(guests[2].target_bytes, 216 * MIB, 217 * MIB);
	assert_in_range(guests[0].target_bytes + guests[1].target_bytes + guests[2].target_bytes,
		1000 * MIB - 2, 1000 * MIB);
}

static void a_new_guest_has_its_floor_at_once(void **state)
{
	struct filter_guest guests[] = {guest(900, 900), guest(0, 500)};

	apply(guests, 2, 900 * MIB);
	assert_int_equal(guests[0].target_bytes, 900 * MIB);
	assert_int_equal(guests[1].target_bytes, 100 * MIB);
	assert_int_equal(guests[1].clamps, POLICY_CLAMP_ROOM);
}

static void the_operator_goes_over_the_policy_not_over_the_filters(void **state)
{
	struct filter_guest g = guest(500, 700);

	g.fixed = true;
	g.fixed_bytes = 50 * MIB;
	check(g, 450 * MIB, POLICY_CLAMP_FIXED | POLICY_CLAMP_FLOOR | POLICY_CLAMP_STEP);
	g.previous_bytes = 120 * MIB;
	check(g, 100 * MIB, POLICY_CLAMP_FIXED | POLICY_CLAMP_FLOOR);
	g.fixed_bytes = 1000 * MIB;
	check(g, 900 * MIB, POLICY_CLAMP_FIXED | POLICY_CLAMP_CEILING);
}

static void what_a_guest_still_holds_is_not_given_to_another(void **state)
{
	struct filter_guest guests[] = {guest(400, 400), guest(500, 600)};

	guests[0].resident_bytes = 460 * MIB; /* 60 over its target: 40 of 100 are free */
	apply(guests, 2, 1000 * MIB);
	assert_in_range(guests[1].target_bytes, 540 * MIB - 1, 540 * MIB);
	assert_int_equal(guests[1].clamps, POLICY_CLAMP_ROOM);
	guests[1] = guest(500, 600);
	guests[1].resident_bytes = 590 * MIB; /* has it already: only the targets have to fit */
	apply(guests, 2, 1000 * MIB);
	assert_int_equal(guests[1].target_bytes, 590 * MIB);
}

static void a_critical_level_is_a_floor_up_to_its_shares(void **state)
{
	struct filter_guest guests[] = {guest(500, 100), guest(500, 500)};

	guests[0].resident_bytes = guests[0].previous_bytes = 320 * MIB;
	guests[0].critical_bytes = 300 * MIB;
	guests[0].shares = guests[1].shares = 1000;
	apply(guests, 2, 1000 * MIB);
	assert_int_equal(guests[0].floor_bytes, 300 * MIB);
	assert_int_equal(guests[0].target_bytes, 300 * MIB);
	assert_true(guests[0].clamps & POLICY_CLAMP_FLOOR);
	guests[0] = guest(320, 100);
	guests[0].critical_bytes = 300 * MIB;
	guests[0].shares = 250; /* of 1250: a fifth */
	apply(guests, 2, 1000 * MIB);
	assert_in_range(guests[0].floor_bytes, 200 * MIB - 1, 200 * MIB);
	guests[0].critical_bytes = UINT64_MAX;
	apply(guests, 2, 0); /* never beside the others' MemoryMin= */
	assert_int_equal(guests[0].floor_bytes, 100 * MIB);
}

static void learned_floors_wait_for_room(void **state)
{
	struct filter_guest guests[] = {guest(200, 200), guest(800, 800)};

	guests[0].critical_bytes = 400 * MIB;
	guests[0].shares = guests[1].shares = 1;
	apply(guests, 2, 1000 * MIB);
	assert_int_equal(guests[0].target_bytes, 200 * MIB);
	assert_int_equal(guests[0].clamps, POLICY_CLAMP_FLOOR | POLICY_CLAMP_ROOM);
}

/* Two guests that are to fall by 50 MiB each; 10 % of the budget is the rate. */
static void check_rate(uint64_t budget_bytes, bool urgent, uint64_t fall_bytes)
{
	struct filter_guest guests[] = {guest(500, 450), guest(600, 550)};
	struct filter_memory memories[2] = {0};
	struct filter_host host = {
		.tick_us = TICK_US,
		.budget_bytes = budget_bytes,
		.available_bytes = PLENTY,
		.urgent = urgent,
	};

	filters_apply(guests, memories, 2, &host);
	assert_in_range(guests[0].target_bytes, 500 * MIB - fall_bytes, 500 * MIB - fall_bytes + 1);
	assert_in_range(guests[1].target_bytes, 600 * MIB - fall_bytes, 600 * MIB - fall_bytes + 1);
	assert_int_equal(guests[0].clamps, fall_bytes == 50 * MIB ? 0 : POLICY_CLAMP_RATE);
}

static void all_guests_together_give_at_a_rate(void **state)
{
	check_rate(1000 * MIB, false, 50 * MIB);
	check_rate(500 * MIB, false, 25 * MIB);
	check_rate(500 * MIB, true, 50 * MIB);
	check_rate(0, false, 0);
}

static void a_raised_target_settles(void **state)
{
	struct filter_guest guests[2];
	struct filter_memory memories[2] = {0};
	struct filter_host host = {
		.now_us = 1000 * TICK_US,
		.tick_us = TICK_US,
		.budget_bytes = PLENTY,
		.available_bytes = 1000 * MIB,
	};

	guests[0] = guest(400, 500);
	guests[1] = guest(300, 300);
	filters_apply(guests, memories, 2, &host);
	assert_int_equal(memories[0].raised_us, host.now_us);
	assert_int_equal(memories[1].raised_us, 0);
	host.now_us += FILTER_SETTLE_US - 1;
	guests[0] = guest(500, 450);
	filters_apply(guests, memories, 2, &host);
	assert_int_equal(guests[0].target_bytes, 500 * MIB);
	assert_int_equal(guests[0].clamps, POLICY_CLAMP_SETTLE);
	/* not when the host is short, nor when the targets do not fit, nor for ever */
	guests[0] = guest(500, 450);
	host.urgent = true;
	filters_apply(guests, memories, 2, &host);
	assert_int_equal(guests[0].target_bytes, 450 * MIB);
	host.urgent = false;
	host.available_bytes = 799 * MIB;
	guests[0] = guest(500, 450);
	filters_apply(guests, memories, 2, &host);
	assert_int_equal(guests[0].target_bytes, 450 * MIB);
	host.available_bytes = 1000 * MIB;
	host.now_us++;
	guests[0] = guest(500, 450);
	filters_apply(guests, memories, 2, &host);
	assert_int_equal(guests[0].target_bytes, 450 * MIB);
}

static void a_guest_in_distress_goes_first(void **state)
{
	struct filter_guest guests[] = {guest(400, 100), guest(300, 500)};

	guests[0].distress = true;
	apply(guests, 2, 1000 * MIB);
	/* 300 MiB are free: all of it to the one that has run out */
	assert_in_range(guests[0].target_bytes, 700 * MIB - 1, 700 * MIB);
	assert_true(guests[0].clamps & POLICY_CLAMP_DISTRESS);
	assert_int_equal(guests[1].target_bytes, 300 * MIB);
	/* its most is enough; and never at the price of the budget */
	guests[0] = guest(400, 100);
	guests[0].distress = true;
	apply(guests, 1, PLENTY);
	assert_int_equal(guests[0].target_bytes, 900 * MIB);
	guests[0] = guest(400, 100);
	guests[0].distress = true;
	apply(guests, 1, 399 * MIB);
	assert_int_equal(guests[0].target_bytes, 350 * MIB);
}

static void endures_the_largest_figures(void **state)
{
	struct filter_guest guests[100];

	for (size_t i = 0; i < ARRAY_SIZE(guests); i++)
		guests[i] = (struct filter_guest){
			.configured_bytes = UINT64_MAX,
			.min_bytes = i % 2 ? UINT64_MAX : 0,
			.max_bytes = UINT64_MAX,
			.previous_bytes = i % 3 ? UINT64_MAX / 2 : 0,
			.resident_bytes = UINT64_MAX,
			.target_bytes = UINT64_MAX,
			.critical_bytes = i % 5 ? UINT64_MAX : 0,
			.shares = UINT32_MAX,
			.distress = i % 7 == 0,
		};
	apply(guests, ARRAY_SIZE(guests), UINT64_MAX);
	for (size_t i = 0; i < ARRAY_SIZE(guests); i++)
		assert_true(guests[i].target_bytes >= guests[i].min_bytes);
	apply(NULL, 0, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lets_a_sound_proposal_through),
		cmocka_unit_test(holds_floor_and_ceiling),
		cmocka_unit_test(lets_a_target_fall_by_a_step_a_second),
		cmocka_unit_test(counts_steps_from_what_is_resident),
		cmocka_unit_test(leaves_small_changes_out),
		cmocka_unit_test(has_no_dead_band_where_it_would_break_a_bound),
		cmocka_unit_test(small_falls_do_not_overdraw_the_budget),
		cmocka_unit_test(raises_wait_until_others_have_given),
		cmocka_unit_test(a_new_guest_has_its_floor_at_once),
		cmocka_unit_test(the_operator_goes_over_the_policy_not_over_the_filters),
		cmocka_unit_test(what_a_guest_still_holds_is_not_given_to_another),
		cmocka_unit_test(a_critical_level_is_a_floor_up_to_its_shares),
		cmocka_unit_test(learned_floors_wait_for_room),
		cmocka_unit_test(all_guests_together_give_at_a_rate),
		cmocka_unit_test(a_raised_target_settles),
		cmocka_unit_test(a_guest_in_distress_goes_first),
		cmocka_unit_test(endures_the_largest_figures),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
