/* From a guest's target to its balloon, in virtual time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "memd/balloon.h"
#include "memd/base/clock.h"
#include "memd/base/units.h"

static struct balloon_in willing(uint64_t now_us)
{
	return (struct balloon_in){
		.now_us = now_us,
		.wanted = true,
		.ready = true,
		.configured_bytes = 1000 * MIB,
		.target_bytes = 600 * MIB,
		.overhead_bytes = 10 * MIB,
		.max_bp = 6500,
		.available_bytes = UINT64_MAX,
	};
}

static void takes_what_the_target_does_not_allow(void **state)
{
	struct balloon b = {0};
	struct balloon_in in = willing(US_PER_S);

	assert_int_equal(balloon_decide(&b, &in), 410 * MIB);
}

static void leaves_the_guest_what_costs_nothing(void **state)
{
	struct balloon b = {0};
	struct balloon_in in = willing(US_PER_S);

	in.saved_sharing_bytes = 100 * MIB;
	in.hole_zero_bytes = 50 * MIB;
	assert_int_equal(balloon_decide(&b, &in), 260 * MIB);
	in.saved_sharing_bytes = 900 * MIB;
	assert_int_equal(balloon_decide(&b, &in), 0);
}

static void never_exceeds_its_maximum(void **state)
{
	struct balloon b = {0};
	struct balloon_in in = willing(US_PER_S);

	in.target_bytes = 20 * MIB;
	assert_in_range(balloon_decide(&b, &in), 650 * MIB - PAGE_BYTES * 3, 650 * MIB);
}

static void deflates_when_it_is_not_wanted_or_not_ready(void **state)
{
	struct balloon b = {0};
	struct balloon_in in = willing(US_PER_S);

	assert_int_not_equal(balloon_decide(&b, &in), 0);
	in.wanted = false;
	in.actual_bytes = 400 * MIB;
	assert_int_equal(balloon_decide(&b, &in), 0);
	in.wanted = true;
	in.ready = false;
	assert_int_equal(balloon_decide(&b, &in), 0);
}

static void asks_for_no_more_than_the_guest_can_spare(void **state)
{
	struct balloon b = {0};
	struct balloon_in in = willing(US_PER_S);

	in.actual_bytes = 100 * MIB;
	in.available_bytes = 200 * MIB; /* 62.5 MiB of it stay */
	in.claimed_us = in.now_us + 1;
	assert_in_range(balloon_decide(&b, &in), 237 * MIB, 238 * MIB);
}

static void gives_back_when_the_guest_falls_below_its_spare(void **state)
{
	struct balloon b = {0};
	struct balloon_in in = willing(US_PER_S);

	balloon_decide(&b, &in);
	in.actual_bytes = 410 * MIB;
	in.available_bytes = 22 * MIB; /* 40.5 MiB less than its spare of 62.5 */
	assert_in_range(balloon_decide(&b, &in), 369 * MIB, 370 * MIB);
}

static void does_not_ask_for_more_on_a_claim_from_before_the_balloon_moved(void **state)
{
	struct balloon b = {0};
	struct balloon_in in = willing(US_PER_S);

	in.actual_bytes = 100 * MIB;
	in.available_bytes = 200 * MIB;
	in.claimed_us = in.now_us;
	assert_int_equal(balloon_decide(&b, &in), 0);
	in.claimed_us = in.now_us + 1;
	in.now_us += 2;
	assert_in_range(balloon_decide(&b, &in), 237 * MIB, 238 * MIB);
}

static void the_host_gives_back_only_what_it_will_not_want_again(void **state)
{
	struct balloon_host h = {0};
	uint64_t t = US_PER_S, budget = 1000 * MIB;

	assert_false(balloon_host_decide(&h, BALLOON_HOST_PLENTY, t, 0, 0, budget));
	assert_true(balloon_host_decide(&h, BALLOON_HOST_SHORT, t, 980 * MIB, 0, budget));
	assert_true(balloon_host_decide(&h, BALLOON_HOST_PLENTY, t, 600 * MIB, 300 * MIB, budget));
	t += BALLOON_PLENTY_US - 1;
	assert_true(balloon_host_decide(&h, BALLOON_HOST_PLENTY, t, 600 * MIB, 300 * MIB, budget));
	t += 1;
	assert_true(balloon_host_decide(&h, BALLOON_HOST_PLENTY, t, 601 * MIB, 300 * MIB, budget));
	assert_false(balloon_host_decide(&h, BALLOON_HOST_PLENTY, t, 600 * MIB, 300 * MIB, budget));
}

static void a_guest_in_distress_gets_everything_back_and_peace(void **state)
{
	struct balloon b = {0};
	struct balloon_in in = willing(US_PER_S);

	in.actual_bytes = 300 * MIB;
	in.available_bytes = 15 * MIB;
	assert_int_equal(balloon_decide(&b, &in), 0);
	assert_true(b.distress);
	in.available_bytes = 400 * MIB;
	in.actual_bytes = 0;
	in.now_us += BALLOON_SETTLE_US - 1;
	assert_int_equal(balloon_decide(&b, &in), 0);
	in.now_us += 1;
	in.claimed_us = in.now_us;
	assert_int_not_equal(balloon_decide(&b, &in), 0);
}

static void a_guest_that_is_full_without_a_balloon_is_in_no_distress(void **state)
{
	struct balloon b = {0};
	struct balloon_in in = willing(US_PER_S);

	in.available_bytes = 1 * MIB;
	balloon_decide(&b, &in);
	assert_false(b.distress);
	in.faulting = true;
	balloon_decide(&b, &in);
	assert_true(b.distress);
}

static void a_driver_without_progress_is_set_aside_and_asked_again(void **state)
{
	struct balloon b = {0};
	struct balloon_in in = willing(US_PER_S);

	balloon_decide(&b, &in);
	in.actual_bytes = 100 * MIB; /* it comes so far, and stays */
	in.now_us += US_PER_S;
	assert_int_equal(balloon_decide(&b, &in), 410 * MIB);
	in.now_us += BALLOON_STUCK_US - 1;
	assert_int_equal(balloon_decide(&b, &in), 410 * MIB);
	assert_false(b.stuck);
	in.now_us += 1;
	assert_int_equal(balloon_decide(&b, &in), 100 * MIB);
	assert_true(b.stuck);
	in.now_us += BALLOON_RETRY_US;
	assert_int_equal(balloon_decide(&b, &in), 410 * MIB);
	assert_false(b.stuck);
}

static void a_slow_driver_is_not_stuck(void **state)
{
	struct balloon b = {0};
	struct balloon_in in = willing(US_PER_S);

	for (int i = 0; i < 100; i++) {
		balloon_decide(&b, &in);
		assert_false(b.stuck);
		in.now_us += 4 * US_PER_S;
		in.actual_bytes += 1 * MIB;
	}
}

static void small_changes_are_not_passed_on(void **state)
{
	struct balloon b = {0};
	struct balloon_in in = willing(US_PER_S);
	uint64_t first = balloon_decide(&b, &in);

	in.target_bytes -= 1 * MIB - PAGE_BYTES;
	assert_int_equal(balloon_decide(&b, &in), first);
	in.target_bytes -= PAGE_BYTES;
	assert_int_equal(balloon_decide(&b, &in), first + 1 * MIB);
}

static void takes_no_more_than_the_agent_consents_to(void **state)
{
	struct balloon b = {0};
	struct balloon_in in = willing(US_PER_S);

	in.asked = true;
	in.consent_bytes = 100 * MIB + 1;
	assert_int_equal(balloon_wanted_bytes(&in), 410 * MIB);
	assert_int_equal(balloon_decide(&b, &in), 100 * MIB);
	in.now_us += BALLOON_STUCK_US;
	in.actual_bytes = 100 * MIB;
	assert_int_equal(balloon_decide(&b, &in), 100 * MIB);
	assert_false(b.stuck); /* whoever has no leave is not slow */
	in.consent_bytes = UINT64_MAX;
	assert_int_equal(balloon_decide(&b, &in), 410 * MIB);
}

static void a_cry_empties_the_balloon_whatever_is_available(void **state)
{
	struct balloon b = {0};
	struct balloon_in in = willing(US_PER_S);

	assert_int_equal(balloon_decide(&b, &in), 410 * MIB);
	in.now_us += US_PER_S;
	in.actual_bytes = 410 * MIB;
	in.available_bytes = 300 * MIB;
	in.claimed_us = in.now_us + 1;
	in.distress = true;
	assert_int_equal(balloon_decide(&b, &in), 0);
	in.distress = false;
	in.actual_bytes = 0;
	in.now_us += BALLOON_SETTLE_US - 1;
	assert_int_equal(balloon_decide(&b, &in), 0);
	in.now_us += 1;
	in.claimed_us = in.now_us + 1;
	assert_int_not_equal(balloon_decide(&b, &in), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(takes_what_the_target_does_not_allow),
		cmocka_unit_test(leaves_the_guest_what_costs_nothing),
		cmocka_unit_test(never_exceeds_its_maximum),
		cmocka_unit_test(deflates_when_it_is_not_wanted_or_not_ready),
		cmocka_unit_test(asks_for_no_more_than_the_guest_can_spare),
		cmocka_unit_test(gives_back_when_the_guest_falls_below_its_spare),
		cmocka_unit_test(does_not_ask_for_more_on_a_claim_from_before_the_balloon_moved),
		cmocka_unit_test(the_host_gives_back_only_what_it_will_not_want_again),
		cmocka_unit_test(a_guest_in_distress_gets_everything_back_and_peace),
		cmocka_unit_test(a_guest_that_is_full_without_a_balloon_is_in_no_distress),
		cmocka_unit_test(a_driver_without_progress_is_set_aside_and_asked_again),
		cmocka_unit_test(a_slow_driver_is_not_stuck),
		cmocka_unit_test(small_changes_are_not_passed_on),
		cmocka_unit_test(takes_no_more_than_the_agent_consents_to),
		cmocka_unit_test(a_cry_empties_the_balloon_whatever_is_available),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
