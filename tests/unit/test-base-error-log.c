/* What is said about an error, and what reaches stderr. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>

#include "memd/base/cleanup.h"
#include "memd/base/clock.h"
#include "memd/base/error.h"
#include "memd/base/log.h"
#include "memd/base/overflow.h"
#include "memd/base/text.h"

static void keeps_the_first_reason_and_returns_each_code(void **state)
{
	struct error e = {0};

	assert_int_equal(error_set(&e, -EINVAL, "line %d", 7), -EINVAL);
	assert_int_equal(error_set(&e, -EIO, "later"), -EIO);
	assert_string_equal(e.text, "line 7");
	assert_int_equal(error_set(NULL, -EPERM, "nobody listens"), -EPERM);
}

static void puts_the_context_before_the_reason(void **state)
{
	struct error e = {0};

	error_prefix(&e, "nothing to prefix");
	assert_string_equal(e.text, "");
	error_set(&e, -EINVAL, "bad value");
	error_prefix(&e, "%s:%d", "memd.conf", 3);
	assert_string_equal(e.text, "memd.conf:3: bad value");
	error_prefix(NULL, "nobody");
}

static void cuts_the_end_of_what_is_too_long(void **state)
{
	struct error e = {0};
	char text[1000];

	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	error_set(&e, -EINVAL, "reason %s", text);
	assert_int_equal(strlen(e.text), sizeof(e.text) - 1);
	error_prefix(&e, "g1");
	assert_int_equal(strlen(e.text), sizeof(e.text) - 1);
	assert_memory_equal(e.text, "g1: reason xxx", 14);
	error_prefix(&e, "%s", text);
	assert_int_equal(strlen(e.text), sizeof(e.text) - 1);
	assert_non_null(strstr(e.text, ": g1: reason"));
}

static void cleans_what_the_bus_would_refuse(void **state)
{
	static const struct {
		const char *text, *cleaned;
	} samples[] = {
		{"", ""},
		{"plain ~ text", "plain ~ text"},
		{"\xc3\xa4\xe2\x82\xac\xf0\x9f\x90\xa7", "\xc3\xa4\xe2\x82\xac\xf0\x9f\x90\xa7"},
		{"a\nb\tc\x7f", "a?b?c?"},
		{"\xc2\x80\xc2\x9f\xc2\xa0", "????\xc2\xa0"}, /* C1 controls, then a blank */
		{"\xc0\xaf", "??"}, /* overlong */
		{"\xc1\xbf", "??"},
		{"\xe0\x9f\xbf", "???"},
		{"\xf0\x8f\xbf\xbf", "????"},
		{"\xed\x9f\xbf\xed\xa0\x80", "\xed\x9f\xbf???"}, /* surrogates */
		{"\xf4\x8f\xbf\xbf\xf4\x90\x80\x80", "\xf4\x8f\xbf\xbf????"},
		{"\x80", "?"},
		{"cut \xe2\x82", "cut ??"},
		{"\xe2\x82z", "??z"},
		{"\xff\xfe", "??"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(samples); i++) {
		char text[32];

		strcpy(text, samples[i].text);
		assert_int_equal(text_is_clean(text), strcmp(text, samples[i].cleaned) == 0);
		text_clean(text);
		assert_string_equal(text, samples[i].cleaned);
		assert_true(text_is_clean(text));
	}
}

static void errors_and_their_cut_ends_are_clean(void **state)
{
	struct error e = {0};
	char text[600];

	for (size_t i = 0; i + 1 < sizeof(text); i++)
		text[i] = i % 2 ? '\xa4' : '\xc3';
	text[sizeof(text) - 1] = '\0';
	error_set(&e, -EINVAL, "%s", text); /* 511 bytes: cut in the middle of a character */
	assert_true(text_is_clean(e.text));
	error_prefix(&e, "x\n%s", text);
	assert_true(text_is_clean(e.text));
}

/* Runs write() with stderr going to a file; what came out, the caller's. */
static char *capture(void (*write_lines)(void))
{
	_cleanup_close_ int file = memfd_create("stderr", MFD_CLOEXEC);
	_cleanup_close_ int saved = dup(STDERR_FILENO);
	char *text = calloc(1, 8192);

	assert_true(file >= 0 && saved >= 0 && text);
	assert_true(dup2(file, STDERR_FILENO) >= 0);
	write_lines();
	assert_true(dup2(saved, STDERR_FILENO) >= 0);
	assert_true(pread(file, text, 8191, 0) >= 0);
	return text;
}

static void write_mixed_lines(void)
{
	log_debug("not at this level");
	log_info("guest %s says %d", "g1", 5);
	log_error("text of a guest: \x1b[2J\nmemd: forged line");
}

static void writes_one_clean_line_a_call(void **state)
{
	_cleanup_free_ char *text = NULL;

	unsetenv("JOURNAL_STREAM");
	unsetenv("MEMD_LOG");
	log_open("memd");
	text = capture(write_mixed_lines);
	assert_string_equal(text, "memd: info: guest g1 says 5\n"
				  "memd: error: text of a guest: ?[2J?memd: forged line\n");
}

static void write_at_two_levels(void)
{
	log_debug("details");
	log_warning("short of %d pages", 3);
}

static void speaks_to_the_journal_with_levels(void **state)
{
	_cleanup_free_ char *text = NULL;

	setenv("JOURNAL_STREAM", "8:1", 1);
	setenv("MEMD_LOG", "debug", 1);
	log_open("memd");
	text = capture(write_at_two_levels);
	unsetenv("JOURNAL_STREAM");
	unsetenv("MEMD_LOG");
	log_open("memd");
	log_set_max_level(LOG_LEVEL_INFO);
	assert_string_equal(text, "<7>details\n<4>short of 3 pages\n");
}

static void write_a_huge_line(void)
{
	char text[4000];

	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	log_info("%s", text);
}

static void cuts_a_huge_line_and_still_ends_it(void **state)
{
	_cleanup_free_ char *text = capture(write_a_huge_line);

	assert_int_equal(strlen(text), 2048);
	assert_int_equal(text[2047], '\n');
}

static struct log_ratelimit limit = {.interval_us = 3600 * US_PER_S, .burst = 3};
static int n_passed;

static void write_five_limited(void)
{
	for (int i = 0; i < 5; i++)
		n_passed += log_ratelimit_pass(&limit);
	limit.begin_us -= limit.interval_us; /* an hour later */
	n_passed += log_ratelimit_pass(&limit);
}

static void limits_a_burst_and_counts_the_rest(void **state)
{
	_cleanup_free_ char *text = capture(write_five_limited);

	assert_int_equal(n_passed, 4);
	assert_non_null(strstr(text, "2 similar lines were dropped"));
}

static void clocks_advance(void **state)
{
	uint64_t before = clock_monotonic_us(), cpu = clock_thread_cpu_us();

	clock_sleep_us(2 * US_PER_MS);
	assert_true(clock_monotonic_us() - before >= 2 * US_PER_MS);
	while (clock_thread_cpu_us() - cpu < US_PER_MS)
		;
	assert_true(clock_process_cpu_us() >= US_PER_MS);
	assert_true(clock_realtime_us() > UINT64_C(1700000000) * US_PER_S); /* 2023 */
}

static void ranges_do_not_wrap(void **state)
{
	uint64_t v = 1;

	assert_true(u64_range_within(0, 10, 0, 10));
	assert_false(u64_range_within(0, 11, 0, 10));
	assert_true(u64_range_within(9, 1, 0, 10));
	assert_false(u64_range_within(10, 1, 0, 10));
	assert_false(u64_range_within(5, 0, 0, 10));
	assert_false(u64_range_within(UINT64_MAX, 2, 0, UINT64_MAX));
	assert_false(u64_range_within(5, UINT64_MAX, 5, 10));
	assert_true(u64_add_overflows(UINT64_MAX, 1, &v) && v == 1);
	assert_false(u64_add_overflows(UINT64_MAX - 1, 1, &v));
	assert_true(u64_mul_overflows(UINT64_C(1) << 32, UINT64_C(1) << 32, &v));
	assert_false(u64_mul_overflows(UINT64_C(1) << 32, (UINT64_C(1) << 32) - 1, &v));
	assert_int_equal(u64_align_up(4095, 4096), 4096);
	assert_int_equal(u64_align_up(4096, 4096), 4096);
	assert_int_equal(u64_align_down(8191, 4096), 4096);
	assert_int_equal(u64_sub_or_zero(3, 4), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(keeps_the_first_reason_and_returns_each_code),
		cmocka_unit_test(puts_the_context_before_the_reason),
		cmocka_unit_test(cuts_the_end_of_what_is_too_long),
		cmocka_unit_test(cleans_what_the_bus_would_refuse),
		cmocka_unit_test(errors_and_their_cut_ends_are_clean),
		cmocka_unit_test(writes_one_clean_line_a_call),
		cmocka_unit_test(speaks_to_the_journal_with_levels),
		cmocka_unit_test(cuts_a_huge_line_and_still_ends_it),
		cmocka_unit_test(limits_a_burst_and_counts_the_rest),
		cmocka_unit_test(clocks_advance),
		cmocka_unit_test(ranges_do_not_wrap),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
