/* Waits for a condition, as long as only a machine that hangs needs; the test fails when it never comes true. */
#pragma once

#include "memd/base/clock.h"

#define WAIT_UNTIL_US (60 * US_PER_S)

/* Whether it came true: for what has no cmocka. */
#define COMES_TRUE(condition)                                                                      \
	({                                                                                         \
		uint64_t end_us_ = clock_monotonic_us() + WAIT_UNTIL_US;                           \
		while (!(condition) && clock_monotonic_us() < end_us_)                             \
			clock_sleep_us(50);                                                        \
		(condition);                                                                       \
	})

#define WAIT_UNTIL(condition) assert_true(COMES_TRUE(condition))
