/* What options say of a device: words between commas, and everything that is not one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "kvm-glue/device.h"

static void words_are_split_at_commas_and_the_first_equals(void **state)
{
	const char *cursor = "/srv/a b.img,ro,queues=4,serial=x=y";
	struct device_spec_word w;
	struct error e = {0};
	char first[32];

	assert_int_equal(device_spec_first(cursor, first, sizeof(first), &e), 0);
	assert_string_equal(first, "/srv/a b.img");
	assert_int_equal(device_spec_next(&cursor, &w, &e), 1);
	assert_string_equal(w.text, "ro");
	assert_null(w.value);
	assert_int_equal(device_spec_next(&cursor, &w, &e), 1);
	assert_string_equal(w.text, "queues");
	assert_string_equal(w.value, "4");
	assert_int_equal(device_spec_next(&cursor, &w, &e), 1);
	assert_string_equal(w.value, "x=y");
	assert_int_equal(device_spec_next(&cursor, &w, &e), 0);
	assert_int_equal(device_spec_next(&cursor, &w, &e), 0);
}

static void empty_words_are_errors(void **state)
{
	static const char *const specs[] = {"a,", "a,,b", ","};
	struct device_spec_word w;
	struct error e = {0};
	char first[8];

	assert_int_equal(device_spec_first("", first, sizeof(first), &e), -EINVAL);
	assert_int_equal(device_spec_first(",a", first, sizeof(first), &e), -EINVAL);
	for (size_t i = 0; i < ARRAY_SIZE(specs); i++) {
		const char *cursor = specs[i];

		assert_int_equal(device_spec_next(&cursor, &w, &e), -EINVAL);
	}
}

static void first_word_fits_or_is_refused(void **state)
{
	struct error e = {0};
	char first[4];

	assert_int_equal(device_spec_first("abc,x", first, sizeof(first), &e), 0);
	assert_string_equal(first, "abc");
	assert_int_equal(device_spec_first("abcd,x", first, sizeof(first), &e), -ENAMETOOLONG);
}

static void later_word_fits_or_is_refused(void **state)
{
	char spec[2 + sizeof(((struct device_spec_word *)NULL)->text) + 1] = "a,";
	struct device_spec_word w;
	const char *cursor = spec;
	struct error e = {0};

	memset(spec + 2, 'x', sizeof(w.text) - 1);
	assert_int_equal(device_spec_next(&cursor, &w, &e), 1);
	memset(spec + 2, 'x', sizeof(w.text));
	cursor = spec;
	assert_int_equal(device_spec_next(&cursor, &w, &e), -ENAMETOOLONG);
}

static int number(const char *word, uint64_t *ret)
{
	struct device_spec_word w;
	struct error e = {0};

	assert_int_equal(device_spec_next(&word, &w, &e), 1);
	return device_spec_number(&w, 2, 8, ret, &e);
}

static void numbers_have_bounds(void **state)
{
	uint64_t n = 0;

	assert_int_equal(number(",queues", &n), -EINVAL);
	assert_int_equal(number(",queues=", &n), -EINVAL);
	assert_int_equal(number(",queues=x", &n), -EINVAL);
	assert_int_equal(number(",queues=1", &n), -ERANGE);
	assert_int_equal(n, 0);
	assert_int_equal(number(",queues=2", &n), 0);
	assert_int_equal(n, 2);
	assert_int_equal(number(",queues=8", &n), 0);
	assert_int_equal(n, 8);
	assert_int_equal(number(",queues=9", &n), -ERANGE);
	assert_int_equal(n, 8);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(words_are_split_at_commas_and_the_first_equals),
		cmocka_unit_test(empty_words_are_errors),
		cmocka_unit_test(first_word_fits_or_is_refused),
		cmocka_unit_test(later_word_fits_or_is_refused),
		cmocka_unit_test(numbers_have_bounds),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("device-spec", tests, NULL, NULL);
}
