/*
 * Sizes, times and percentages: what is read, what is refused, and that a refusal changes nothing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "memd/base/cleanup.h"
#include "memd/base/units.h"

#define UNTOUCHED UINT64_C(0x5ca1ab1e)

struct sample {
	const char *text;
	int result;
	uint64_t value;
};

typedef int (*parser)(const char *, uint64_t *, struct error *);

static void check_samples(const struct sample *samples, size_t n, parser parse)
{
	for (size_t i = 0; i < n; i++) {
		uint64_t value = UNTOUCHED;
		struct error e = {0};
		int r = parse(samples[i].text, &value, &e);

		if (r != samples[i].result)
			fail_msg("'%s': %d, not %d", samples[i].text, r, samples[i].result);
		if (value != (r < 0 ? UNTOUCHED : samples[i].value))
			fail_msg("'%s': %" PRIu64, samples[i].text, value);
		if (r < 0 && !strstr(e.text, samples[i].text))
			fail_msg("'%s' is not named in: %s", samples[i].text, e.text);
		if (r == 0 && e.text[0])
			fail_msg("'%s' has an error: %s", samples[i].text, e.text);
	}
}

static void reads_sizes_with_every_suffix(void **state)
{
	static const struct sample samples[] = {
		{"0", 0, 0}, {"4096", 0, 4096}, {"7B", 0, 7}, {"64K", 0, 64 * KIB},
		{"64k", 0, 64 * KIB}, {"512M", 0, 512 * MIB}, {"512MiB", 0, 512 * MIB},
		{"512 mib", 0, 512 * MIB}, {"1.5G", 0, 3 * GIB / 2}, {"2T", 0, 2048 * GIB},
		{"0.1K", 0, 102}, /* 102.4, rounded down */
	};

	check_samples(samples, ARRAY_SIZE(samples), units_parse_bytes);
}

static void refuses_what_is_no_size(void **state)
{
	static const struct sample samples[] = {
		{"", -EINVAL, 0},
		{" 1", -EINVAL, 0},
		{"1 ", -EINVAL, 0},
		{"1  K", -EINVAL, 0},
		{"-1", -EINVAL, 0},
		{"+1", -EINVAL, 0},
		{"M", -EINVAL, 0},
		{"1Q", -EINVAL, 0},
		{"1KB", -EINVAL, 0},
		{"1.K", -EINVAL, 0},
		{".5K", -EINVAL, 0},
		{"1.5", -EINVAL, 0},
		{"1.0000000001K", -EINVAL, 0},
		{"0x10", -EINVAL, 0},
		{"1e3", -EINVAL, 0},
		{"25%", -EINVAL, 0},
	};

	check_samples(samples, ARRAY_SIZE(samples), units_parse_bytes);
}

static void refuses_sizes_beyond_64_bits(void **state)
{
	static const struct sample samples[] = {
		{"18446744073709551614", 0, UINT64_MAX - 1},
		{"18446744073709551615", 0, UINT64_MAX},
		{"18446744073709551616", -ERANGE, 0},
		{"99999999999999999999999999", -ERANGE, 0},
		{"16777215T", 0, UINT64_C(16777215) << 40},
		{"16777216T", -ERANGE, 0},
		{"17179869183G", 0, UINT64_C(17179869183) << 30},
		{"17179869184G", -ERANGE, 0},
	};

	check_samples(samples, ARRAY_SIZE(samples), units_parse_bytes);
}

static void reads_times(void **state)
{
	static const struct sample samples[] = {
		{"2", 0, 2000000},
		{"250us", 0, 250},
		{"500ms", 0, 500000},
		{"1.5s", 0, 1500000},
		{"2min", 0, 120000000},
		{"1h", 0, 3600000000},
		{"0.5us", -EINVAL, 0},
		{"1d", -EINVAL, 0},
		{"s", -EINVAL, 0},
		{"18446744073710s", -ERANGE, 0},
		{"18446744073709s", 0, UINT64_C(18446744073709000000)},
	};

	check_samples(samples, ARRAY_SIZE(samples), units_parse_time);
}

static int parse_at_most_1000(const char *text, uint64_t *ret, struct error *e)
{
	return units_parse_u64(text, 1000, ret, e);
}

static void reads_whole_numbers_up_to_a_bound(void **state)
{
	static const struct sample samples[] = {
		{"0", 0, 0},
		{"999", 0, 999},
		{"1000", 0, 1000},
		{"1001", -ERANGE, 0},
		{"1.0", -EINVAL, 0},
		{"1K", -EINVAL, 0},
		{"-1", -EINVAL, 0},
		{" 1", -EINVAL, 0},
		{"", -EINVAL, 0},
	};

	check_samples(samples, ARRAY_SIZE(samples), parse_at_most_1000);
}

static int parse_percent(const char *text, uint64_t *ret, struct error *e)
{
	uint32_t bp = (uint32_t)UNTOUCHED;
	int r = units_parse_percent(text, &bp, e);

	*ret = r < 0 && bp == (uint32_t)UNTOUCHED ? UNTOUCHED : bp;
	return r;
}

static void reads_percentages_as_basis_points(void **state)
{
	static const struct sample samples[] = {
		{"0%", 0, 0},
		{"0.01%", 0, 1},
		{"0.001%", -EINVAL, 0},
		{"70%", 0, 7000},
		{"12.5%", 0, 1250},
		{"99.99%", 0, 9999},
		{"100%", 0, 10000},
		{"100.01%", -ERANGE, 0},
		{"70", -EINVAL, 0},
		{"70 %", -EINVAL, 0},
		{"-1%", -EINVAL, 0},
		{"%", -EINVAL, 0},
	};

	check_samples(samples, ARRAY_SIZE(samples), parse_percent);
}

static void takes_percentages_of_the_whole(void **state)
{
	uint64_t bytes;

	assert_int_equal(units_parse_bytes_or_percent("25%", 4 * GIB, &bytes, NULL), 0);
	assert_int_equal(bytes, GIB);
	assert_int_equal(units_parse_bytes_or_percent("3G", 4 * GIB, &bytes, NULL), 0);
	assert_int_equal(bytes, 3 * GIB);
	/* no overflow on the way: all of all */
	assert_int_equal(units_parse_bytes_or_percent("100%", UINT64_MAX, &bytes, NULL), 0);
	assert_true(bytes == UINT64_MAX);
	bytes = UNTOUCHED;
	assert_int_equal(units_parse_bytes_or_percent("101%", GIB, &bytes, NULL), -ERANGE);
	assert_int_equal(bytes, UNTOUCHED);
}

static void prints_sizes_with_one_decimal_at_most(void **state)
{
	assert_string_equal(UNITS_BYTES(0), "0 B");
	assert_string_equal(UNITS_BYTES(1023), "1023 B");
	assert_string_equal(UNITS_BYTES(1024), "1 KiB");
	assert_string_equal(UNITS_BYTES(512 * MIB), "512 MiB");
	assert_string_equal(UNITS_BYTES(1536 * MIB), "1.5 GiB");
	/* rounds up to the next unit, not to 1024 of this one */
	assert_string_equal(UNITS_BYTES(MIB - 1), "1 MiB");
	assert_string_equal(UNITS_BYTES(GIB - 51 * MIB), "973 MiB");
	assert_string_equal(UNITS_BYTES(UINT64_MAX), "16 EiB");
}

static void cuts_a_print_to_the_buffer(void **state)
{
	char small[4] = "xxx";

	units_format_bytes(512 * MIB, small, sizeof(small));
	assert_string_equal(small, "512");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_sizes_with_every_suffix),
		cmocka_unit_test(refuses_what_is_no_size),
		cmocka_unit_test(refuses_sizes_beyond_64_bits),
		cmocka_unit_test(reads_times),
		cmocka_unit_test(reads_whole_numbers_up_to_a_bound),
		cmocka_unit_test(reads_percentages_as_basis_points),
		cmocka_unit_test(takes_percentages_of_the_whole),
		cmocka_unit_test(prints_sizes_with_one_decimal_at_most),
		cmocka_unit_test(cuts_a_print_to_the_buffer),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
