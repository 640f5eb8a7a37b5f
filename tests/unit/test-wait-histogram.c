/* Claims about counting how long something took. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "dedup/wait-histogram.h"

static void every_time_lies_in_its_bucket(void **state)
{
	for (uint64_t us = 0; us < 1 << 20; us++) {
		unsigned bucket = wait_bucket(us);

		assert_true(bucket < WAIT_BUCKETS);
		assert_true(us <= wait_bucket_end_us(bucket));
		assert_true(bucket == 0 || us > wait_bucket_end_us(bucket - 1));
	}
	assert_int_equal(wait_bucket(UINT64_MAX), WAIT_BUCKETS - 1);
}

static void percentiles_are_at_most_a_quarter_too_long(void **state)
{
	struct wait_histogram h = {0};

	assert_int_equal(wait_histogram_percentile_us(&h, 99), 0);
	for (uint64_t us = 1; us <= 1000; us++)
		wait_histogram_add(&h, us);
	assert_in_range(wait_histogram_percentile_us(&h, 50), 500, 625);
	assert_in_range(wait_histogram_percentile_us(&h, 99), 990, 1000);
	assert_int_equal(h.max_us, 1000);
	wait_histogram_add(&h, UINT64_MAX);
	assert_in_range(wait_histogram_percentile_us(&h, 99), 990, 1250);
	assert_true(wait_histogram_percentile_us(&h, 100) >= 1 << 20);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_time_lies_in_its_bucket),
		cmocka_unit_test(percentiles_are_at_most_a_quarter_too_long),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("wait-histogram", tests, NULL, NULL);
}
