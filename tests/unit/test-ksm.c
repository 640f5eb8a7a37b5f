/* When KSM runs, and how much it scans: in virtual time. And the files, where this kernel has them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "memd/base/clock.h"
#include "memd/base/fd.h"
#include "memd/base/units.h"
#include "memd/ksm.h"

/* A second more, in which ksmd had so much of a core. */
static bool step(struct ksm *k, struct ksm_in *in, bool wanted, uint32_t cpu_bp)
{
	in->now_us += US_PER_S;
	in->cpu_us += US_PER_S / 10000 * cpu_bp;
	in->wanted = wanted;
	return ksm_decide(k, in);
}

static const struct ksm_in begin = {.now_us = US_PER_S, .max_cpu_bp = 5000};

static void is_left_off_while_nothing_is_wanted(void **state)
{
	struct ksm k = {0};
	struct ksm_in in = begin;

	for (int i = 0; i < 100; i++)
		assert_false(step(&k, &in, false, 0));
}

static void scans_twice_as_much_until_its_share_of_a_core_is_used(void **state)
{
	struct ksm k = {0};
	struct ksm_in in = begin;

	assert_true(step(&k, &in, true, 0));
	assert_int_equal(k.pages, 2 * KSM_PAGES_MIN);
	assert_true(step(&k, &in, true, 1000));
	assert_int_equal(k.pages, 4 * KSM_PAGES_MIN);
	assert_true(step(&k, &in, true, 5000)); /* all of it, not more */
	assert_int_equal(k.pages, 8 * KSM_PAGES_MIN);
	assert_true(step(&k, &in, true, 5001));
	assert_int_equal(k.pages, 4 * KSM_PAGES_MIN);
	for (int i = 0; i < 20; i++)
		step(&k, &in, true, 0);
	assert_int_equal(k.pages, KSM_PAGES_MAX);
	assert_true(step(&k, &in, false, 0));
	assert_int_equal(k.pages, KSM_PAGES_MAX / 10);
}

static void is_stopped_when_two_scans_earned_less_than_they_cost(void **state)
{
	struct ksm k = {0};
	struct ksm_in in = begin;
	int64_t pays = (int64_t)KSM_PAYS_BYTES_PER_S;

	step(&k, &in, true, 0);
	in.full_scans = 1;
	assert_true(step(&k, &in, true, 10000));
	in.full_scans = 2;
	in.profit_bytes = 2 * pays; /* in two seconds of CPU: just enough */
	assert_true(step(&k, &in, true, 10000));
	in.full_scans = 4;
	in.profit_bytes = 3 * pays - 1;
	assert_false(step(&k, &in, true, 10000));
	in.now_us += KSM_REST_US - 2 * US_PER_S;
	assert_false(step(&k, &in, true, 0));
	assert_true(step(&k, &in, true, 0)); /* it may have changed */
}

static void profit_is_read_from_the_kernels_text(void **state)
{
	int64_t bytes = 7;

	assert_true(ksm_parse_profit("ksm_rmap_items 1\nksm_process_profit -64\n", &bytes));
	assert_int_equal(bytes, -64);
	assert_false(ksm_parse_profit("ksm_rmap_items 1\nksm_process_profit\n", &bytes));
	assert_false(ksm_parse_profit("", &bytes));
	assert_int_equal(bytes, -64);
}

static char *read_setting(const char *name)
{
	char path[64], *text = NULL;

	snprintf(path, sizeof(path), "/sys/kernel/mm/ksm/%s", name);
	return fd_read_file_at(AT_FDCWD, path, 64, &text, NULL) == 0 ? text : NULL;
}

static void settings_are_put_back_also_by_the_next(void **state)
{
	char note[] = "/tmp/memd-ksm.XXXXXX";
	char *run = read_setting("run"), *pages = read_setting("pages_to_scan"), *now;
	struct ksm_steering *s, *killed;
	struct error e = {0};

	close(mkstemp(note));
	unlink(note);
	if (!run || access("/sys/kernel/mm/ksm/run", W_OK) < 0) {
		print_message("# this kernel has no KSM to steer: not tried\n");
		free(run);
		free(pages);
		return;
	}
	assert_int_equal(ksm_steering_new(note, &s, &e), 0);
	ksm_steering_tick(s, clock_monotonic_us(), true, 0, 5000);
	now = read_setting("run");
	assert_string_equal(now, "1\n");
	free(now);
	assert_int_equal(access(note, F_OK), 0);
	killed = s; /* its note stays */
	assert_int_equal(ksm_steering_new(note, &s, &e), 0);
	now = read_setting("pages_to_scan");
	assert_string_equal(now, pages);
	free(now);
	assert_int_equal(access(note, F_OK), -1);
	ksm_steering_free(s);
	ksm_steering_free(killed);
	now = read_setting("run");
	assert_string_equal(now, run);
	free(now);
	free(run);
	free(pages);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(is_left_off_while_nothing_is_wanted),
		cmocka_unit_test(scans_twice_as_much_until_its_share_of_a_core_is_used),
		cmocka_unit_test(is_stopped_when_two_scans_earned_less_than_they_cost),
		cmocka_unit_test(profit_is_read_from_the_kernels_text),
		cmocka_unit_test(settings_are_put_back_also_by_the_next),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
