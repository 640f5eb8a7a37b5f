/* When a guest is asked for its free memory: claims in virtual time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "memd/base/cleanup.h"
#include "memd/base/clock.h"
#include "memd/base/units.h"
#include "memd/hints.h"

static struct hints h;
static struct hints_in in;

static int setup(void **state)
{
	h = (struct hints){0};
	in = (struct hints_in){
		.now_us = 1000 * US_PER_S,
		.possible = true,
		.wanted = true,
		.configured_bytes = 1024 * MIB,
		.free_bytes = 400 * MIB,
		.hole_bytes = 300 * MIB,
	};
	return 0;
}

/* The run that was asked for ends, and dropped so much. */
static void run_ends(uint64_t dropped_bytes)
{
	in.runs++;
	in.dropped_bytes += dropped_bytes;
	in.now_us += 100 * US_PER_MS;
	in.wanted = false;
	assert_false(hints_decide(&h, &in));
	in.wanted = true;
}

/* Seconds until it is asked again. */
static uint64_t seconds_until_asked(void)
{
	for (uint64_t s = 1; s <= 1000; s++) {
		in.now_us += US_PER_S;
		if (hints_decide(&h, &in))
			return s;
	}
	return 0;
}

static void asks_when_memory_is_wanted(void **state)
{
	in.wanted = false;
	assert_false(hints_decide(&h, &in));
	in.wanted = true;
	assert_true(hints_decide(&h, &in));
}

static void does_not_ask_who_cannot_answer(void **state)
{
	in.possible = false;
	assert_false(hints_decide(&h, &in));
}

static void asks_for_what_is_worth_it_only(void **state)
{
	in.free_bytes = in.hole_bytes + 16 * MIB - 1;
	assert_false(hints_decide(&h, &in));
	in.free_bytes = in.hole_bytes + 16 * MIB;
	assert_true(hints_decide(&h, &in));
}

static void of_a_small_guest_8_mib_are_worth_it(void **state)
{
	in.configured_bytes = 64 * MIB;
	in.free_bytes = in.hole_bytes + 8 * MIB - 1;
	assert_false(hints_decide(&h, &in));
	in.free_bytes = in.hole_bytes + 8 * MIB;
	assert_true(hints_decide(&h, &in));
}

static void asks_a_guest_that_says_nothing(void **state)
{
	in.free_bytes = UINT64_MAX;
	assert_true(hints_decide(&h, &in));
}

static void asks_again_after_5_s_while_it_helps(void **state)
{
	for (unsigned i = 0; i < 5; i++) {
		if (i == 0)
			assert_true(hints_decide(&h, &in));
		run_ends(16 * MIB);
		assert_int_equal(seconds_until_asked(), 5);
	}
}

static void asks_less_and_less_often_when_it_does_not(void **state)
{
	static const uint64_t seconds[] = {10, 20, 40, 80, 160, 160};

	assert_true(hints_decide(&h, &in));
	for (unsigned i = 0; i < ARRAY_SIZE(seconds); i++) {
		run_ends(16 * MIB - 1);
		assert_int_equal(seconds_until_asked(), seconds[i]);
	}
	run_ends(16 * MIB); /* and as often as before when it does */
	assert_int_equal(seconds_until_asked(), 5);
}

static void a_run_without_end_is_asked_for_again(void **state)
{
	assert_true(hints_decide(&h, &in));
	assert_int_equal(seconds_until_asked(), 5);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(asks_when_memory_is_wanted, setup),
		cmocka_unit_test_setup(does_not_ask_who_cannot_answer, setup),
		cmocka_unit_test_setup(asks_for_what_is_worth_it_only, setup),
		cmocka_unit_test_setup(of_a_small_guest_8_mib_are_worth_it, setup),
		cmocka_unit_test_setup(asks_a_guest_that_says_nothing, setup),
		cmocka_unit_test_setup(asks_again_after_5_s_while_it_helps, setup),
		cmocka_unit_test_setup(asks_less_and_less_often_when_it_does_not, setup),
		cmocka_unit_test_setup(a_run_without_end_is_asked_for_again, setup),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("hints-decide", tests, NULL, NULL);
}
