/* Stalls from faults, pauses and the kernel's totals, in virtual time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>

#include "memd/base/clock.h"
#include "memd/base/units.h"
#include "memd/stall.h"

/* So many seconds, each with as many faults, of 10 us, and as much pause. */
static double seconds(
	struct stall *s, struct stall_in *in, unsigned n, uint64_t faults, uint64_t paused_us)
{
	double running = 0;

	while (n-- > 0) {
		in->faults += faults;
		in->paused_us += paused_us;
		running = stall_advance(s, in);
	}
	return running;
}

#define IN(vcpus)                                                                                  \
	{                                                                                          \
		.wall_us = US_PER_S, .fault_us = 10, .n_vcpus = vcpus                              \
	}

static void the_first_call_only_remembers(void **state)
{
	struct stall s = {0};
	struct stall_in in = IN(1);

	in.faults = 1000000;
	in.paused_us = 1000000;
	assert_true(stall_advance(&s, &in) == 1);
	assert_true(stall_advance(&s, &in) == 1);
	assert_int_equal(s.figures.some_us, 0);
}

static void averages_over_10_60_and_300_seconds(void **state)
{
	struct stall s = {0};
	struct stall_in in = IN(1);

	stall_advance(&s, &in);
	assert_true(fabs(seconds(&s, &in, 10, 50000, 0) - 0.5) < 0.001);
	/* 1 - 1/e of a half */
	assert_in_range(s.figures.some_10_bp, 3155, 3165);
	assert_in_range(s.figures.some_60_bp, 760, 775);
	assert_in_range(s.figures.some_300_bp, 160, 166);
	assert_int_equal(s.figures.full_10_bp, s.figures.some_10_bp); /* of one vCPU */
	seconds(&s, &in, 2000, 50000, 0);
	assert_in_range(s.figures.some_300_bp, 4990, 5000);
	assert_in_range(s.figures.some_us, 2010 * US_PER_S / 2 - 1000, 2010 * US_PER_S / 2 + 1000);
	seconds(&s, &in, 60, 0, 0);
	assert_in_range(s.figures.some_10_bp, 0, 15);
}

static void of_two_vcpus_some_is_more_and_full_is_less(void **state)
{
	struct stall s = {0};
	struct stall_in in = IN(2);

	stall_advance(&s, &in);
	assert_true(fabs(seconds(&s, &in, 100, 100000, 0) - 0.5) < 0.001);
	assert_in_range(s.figures.some_10_bp, 7490, 7510);
	assert_in_range(s.figures.full_10_bp, 2490, 2510);
}

static void never_more_than_all_the_time(void **state)
{
	struct stall s = {0};
	struct stall_in in = IN(2);

	stall_advance(&s, &in);
	assert_true(seconds(&s, &in, 200, 1000000, US_PER_S) == 0);
	assert_int_equal(s.figures.some_10_bp, 10000);
	assert_int_equal(s.figures.full_10_bp, 10000);
}

static void a_pause_stalls_all(void **state)
{
	struct stall s = {0};
	struct stall_in in = IN(4);

	stall_advance(&s, &in);
	assert_true(fabs(seconds(&s, &in, 100, 0, US_PER_S / 4) - 0.75) < 0.001);
	assert_in_range(s.figures.some_10_bp, 2490, 2510);
	assert_in_range(s.figures.full_10_bp, 2490, 2510);
}

static void the_kernel_knows_better(void **state)
{
	struct stall s = {0};
	struct stall_in in = IN(2);

	in.by_kernel = true;
	stall_advance(&s, &in);
	for (int i = 0; i < 100; i++) {
		in.some_us += 300000;
		in.full_us += 100000;
		in.faults += 100000; /* not counted twice */
		stall_advance(&s, &in);
	}
	assert_in_range(s.figures.some_10_bp, 2990, 3010);
	assert_in_range(s.figures.full_10_bp, 990, 1010);
}

static void totals_that_go_back_count_as_nothing(void **state)
{
	struct stall s = {0};
	struct stall_in in = IN(1);

	in.faults = 5000;
	in.paused_us = 5000;
	stall_advance(&s, &in);
	in.faults = in.paused_us = 0;
	assert_true(stall_advance(&s, &in) == 1);
	assert_int_equal(s.figures.some_us, 0);
}

static void thrashing_teaches_the_critical_level(void **state)
{
	struct stall s = {0};
	struct stall_in in = IN(1);
	uint64_t level = 0;

	stall_advance(&s, &in);
	level = stall_critical(&s, level, 100 * MIB);
	assert_int_equal(level, 0); /* does well, and never did otherwise */
	seconds(&s, &in, 60, 50000, 0);
	level = stall_critical(&s, level, 100 * MIB);
	assert_int_equal(level, 100 * MIB);
	level = stall_critical(&s, level, 90 * MIB);
	assert_int_equal(level, 100 * MIB);
	seconds(&s, &in, 30, 0, 0); /* the average over 60 s still knows */
	level = stall_critical(&s, level, 80 * MIB);
	assert_int_equal(level, 100 * MIB);
	seconds(&s, &in, 300, 0, 0);
	level = stall_critical(&s, level, 200 * MIB);
	assert_int_equal(level, 100 * MIB);
	level = stall_critical(&s, level, 80 * MIB);
	assert_int_equal(level, 80 * MIB);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_first_call_only_remembers),
		cmocka_unit_test(averages_over_10_60_and_300_seconds),
		cmocka_unit_test(of_two_vcpus_some_is_more_and_full_is_less),
		cmocka_unit_test(never_more_than_all_the_time),
		cmocka_unit_test(a_pause_stalls_all),
		cmocka_unit_test(the_kernel_knows_better),
		cmocka_unit_test(totals_that_go_back_count_as_nothing),
		cmocka_unit_test(thrashing_teaches_the_critical_level),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
