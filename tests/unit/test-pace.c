/* How much goes out ahead of need, in virtual time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "memd/base/clock.h"
#include "memd/base/units.h"
#include "memd/pace.h"

#define IN                                                                                         \
	{                                                                                          \
		.now_us = US_PER_S, .budget_bp = 100, .resident_bytes = 10000 * MIB                \
	}

static struct pace_out decide(struct pace *p, struct pace_in *in, uint32_t stall_bp)
{
	struct pace_out out;

	in->now_us += US_PER_S;
	in->stall_bp = stall_bp;
	pace_decide(p, in, &out);
	return out;
}

static void takes_less_the_nearer_the_budget(void **state)
{
	struct pace p = {0};
	struct pace_in in = IN;

	assert_int_equal(decide(&p, &in, 0).other_bytes, 100 * MIB);
	assert_int_equal(decide(&p, &in, 0).cold_bytes, 800 * MIB);
	assert_int_equal(decide(&p, &in, 50).other_bytes, 50 * MIB);
	assert_int_equal(decide(&p, &in, 99).other_bytes, CHUNK_BYTES);
	assert_int_equal(decide(&p, &in, 100).other_bytes, 0);
	assert_int_equal(decide(&p, &in, 5000).cold_bytes, 0);
}

static void a_small_guest_loses_a_region_at_a_time(void **state)
{
	struct pace p = {0};
	struct pace_in in = IN;

	in.resident_bytes = 32 * MIB;
	assert_int_equal(decide(&p, &in, 0).other_bytes, CHUNK_BYTES);
}

/* Seconds until it takes something again, without stall. */
static unsigned wait_of(struct pace *p, struct pace_in *in)
{
	unsigned n = 1;

	while (decide(p, in, 60).other_bytes == 0)
		n++;
	return n;
}

static void backs_off_exponentially_and_forgives(void **state)
{
	static const unsigned waits[] = {1, 2, 4, 8, 16, 32, 64, 64};
	struct pace p = {0};
	struct pace_in in = IN;

	for (size_t i = 0; i < sizeof(waits) / sizeof(waits[0]); i++) {
		assert_int_equal(decide(&p, &in, 100).other_bytes, 0);
		assert_int_equal(wait_of(&p, &in), waits[i]);
	}
	assert_int_equal(p.backoffs, 8);
	/* After a quiet time as long as the wait, half of it is forgiven, and so on. */
	for (int i = 0; i < 200; i++)
		decide(&p, &in, 10);
	assert_int_equal(decide(&p, &in, 100).other_bytes, 0);
	assert_true(wait_of(&p, &in) <= 2);
}

static void stall_that_lasts_is_one_reason_to_wait_at_a_time(void **state)
{
	struct pace p = {0};
	struct pace_in in = IN;

	for (int i = 0; i < 8; i++)
		decide(&p, &in, 500);
	assert_true(p.backoffs <= 4);
}

static void flash_is_written_at_its_rate(void **state)
{
	struct pace p = {0};
	struct pace_in in = IN;
	uint64_t sum = 0;

	in.rate_bytes = MIB;
	for (int i = 0; i < 100; i++) {
		uint64_t bytes = decide(&p, &in, 0).cold_bytes;

		sum += bytes;
		pace_spend(&p, bytes);
	}
	assert_in_range(sum, 99 * MIB, 101 * MIB);
	/* What was not used is kept, but not for ever. */
	for (int i = 0; i < 100; i++)
		decide(&p, &in, 0);
	assert_int_equal(decide(&p, &in, 0).cold_bytes, 10 * MIB);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(takes_less_the_nearer_the_budget),
		cmocka_unit_test(a_small_guest_loses_a_region_at_a_time),
		cmocka_unit_test(backs_off_exponentially_and_forgives),
		cmocka_unit_test(stall_that_lasts_is_one_reason_to_wait_at_a_time),
		cmocka_unit_test(flash_is_written_at_its_rate),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
