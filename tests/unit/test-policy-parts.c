/* What the built-in policies are made of: settings, vessels, records by guest. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "memd/base/cleanup.h"
#include "memd/base/units.h"
#include "policy/by-guest.h"
#include "policy/policy-host.h"
#include "policy/settings.h"
#include "policy/vessels.h"

static char logged[256];

static void log_line(void *host, int level, const char *line)
{
	snprintf(logged, sizeof(logged), "%s", line);
}

static const struct memd_host_calls calls = {.size = sizeof(calls), .log = log_line};

static const struct setting keys[] = {
	{"Part", SETTING_PERCENT, 100, 1, 5000},
	{"Time", SETTING_TIME, 6000000, 0, UINT64_MAX},
	{"Size", SETTING_BYTES, 0, 0, GIB},
};

static void settings_hold_for_all_or_for_those_that_match(void **state)
{
	struct settings draft = {.keys = keys, .n_keys = 3}, s;

	assert_int_equal(settings_get(&draft, 0, "db-1"), 100);
	assert_int_equal(settings_set(&draft, &calls, "Part", "5%"), 0);
	assert_int_equal(settings_set(&draft, &calls, "Part@db-*", "10%"), 0);
	assert_int_equal(settings_set(&draft, &calls, "Part@db-1", "0.5%"), 0);
	assert_int_equal(settings_set(&draft, &calls, "Time", "500ms"), 0);
	assert_int_equal(settings_set(&draft, &calls, "Size@web", "1G"), 0);
	settings_take(&draft, &s);
	assert_int_equal(settings_get(&draft, 0, "db-1"), 100); /* the next one begins anew */
	assert_int_equal(settings_get(&s, 0, NULL), 500);
	assert_int_equal(settings_get(&s, 0, "web"), 500);
	assert_int_equal(settings_get(&s, 0, "db-2"), 1000);
	assert_int_equal(settings_get(&s, 0, "db-1"), 50);
	assert_int_equal(settings_get(&s, 1, "db-1"), 500000);
	assert_int_equal(settings_get(&s, 2, "db-1"), 0);
	assert_int_equal(settings_get(&s, 2, "web"), GIB);
	settings_done(&s);
}

static void a_refused_setting_says_why_and_leaves_the_defaults(void **state)
{
	static const struct {
		const char *key, *value, *says;
		int r;
	} samples[] = {
		{"Parts", "5%", "Part, Time, Size", -EINVAL},
		{"Par", "5%", "no setting Par=", -EINVAL},
		{"Part", "5", "percentage", -EINVAL},
		{"Part", "51%", "out of bounds", -ERANGE},
		{"Part", "0%", "out of bounds", -ERANGE},
		{"Size", "1025M", "out of bounds", -ERANGE},
		{"Part@", "5%", "name of a guest", -EINVAL},
		{"@x", "5%", "no setting =", -EINVAL},
	};
	struct settings draft = {.keys = keys, .n_keys = 3};

	for (size_t i = 0; i < ARRAY_SIZE(samples); i++) {
		assert_int_equal(settings_set(&draft, &calls, "Part", "7%"), 0);
		assert_int_equal(settings_set(&draft, &calls, "Part@a", "8%"), 0);
		assert_int_equal(settings_set(&draft, &calls, samples[i].key, samples[i].value),
			samples[i].r);
		if (!strstr(logged, samples[i].says))
			fail_msg("%s=%s: %s", samples[i].key, samples[i].value, logged);
		assert_int_equal(settings_get(&draft, 0, "a"), 100);
	}
}

static void rules_are_bounded(void **state)
{
	struct settings draft = {.keys = keys, .n_keys = 3};

	for (int i = 0; i < SETTING_RULES_MAX; i++)
		assert_int_equal(settings_set(&draft, &calls, "Part@a", "8%"), 0);
	assert_int_equal(settings_set(&draft, &calls, "Part@a", "8%"), -ERANGE);
}

static void builtin_policies_take_their_settings(void **state)
{
	static const struct {
		const char *policy, *key, *value;
		int r;
	} samples[] = {
		{"esx", "IdleTax", "0%", 0},
		{"esx", "IdleTax@a", "99.99%", 0},
		{"esx", "IdleTax", "100%", -ERANGE},
		{"esx", "MinFree", "50%", 0},
		{"esx", "MinFree", "51%", -ERANGE},
		{"pressure", "StallBudget", "0.01%", 0},
		{"pressure", "StallBudget@a", "0%", -ERANGE},
		{"pressure", "Probe", "5%", 0},
		{"pressure", "Interval", "1s", 0},
		{"pressure", "Interval", "999ms", -ERANGE},
		{"balanced", "Margin", "25%", 0},
		{"balanced", "StallLimit", "1%", 0},
		{"static", "Target@a", "512M", 0},
		{"static", "IdleTax", "1%", -EINVAL},
	};

	for (size_t i = 0; i < ARRAY_SIZE(samples); i++) {
		struct policy_setting setting = {samples[i].key, samples[i].value};
		struct policy_host *h = NULL;

		assert_int_equal(policy_host_new(policy_find_builtin(samples[i].policy), &setting,
					 1, &calls, &h, NULL),
			samples[i].r);
		policy_host_free(h);
	}
}

static void vessels_fill_to_one_level(void **state)
{
	struct vessels vs = {0};
	vessel_level_t level;

	assert_int_equal(vessels_reserve(&vs, 3), 0);
	vs.v[0] = (struct vessel){0, 10 * MIB, 1000 * MIB, VESSEL_NO_KNEE, 1, VESSEL_NO_TAX_BP};
	vs.v[1] = (struct vessel){0, 10 * MIB, 1000 * MIB, VESSEL_NO_KNEE, 3, VESSEL_NO_TAX_BP};
	vs.v[2] = (struct vessel){50 * MIB, 0, 1000 * MIB, 20 * MIB, 1, 40000};
	level = vessels_level(&vs, 3, 495 * MIB);
	/* 100 + 300 + 50 + 20 + (100 - 20) / 4 = 490; the rest by 1 + 3 + 1/4 */
	assert_in_range(vessel_amount(&vs.v[0], level), 101 * MIB, 102 * MIB);
	assert_in_range(vessel_amount(&vs.v[1], level), 303 * MIB, 304 * MIB);
	assert_in_range(vessel_amount(&vs.v[2], level), 90 * MIB, 91 * MIB);
	level = vessels_level(&vs, 3, 0);
	assert_int_equal(vessel_amount(&vs.v[0], level), 10 * MIB);
	level = vessels_level(&vs, 3, UINT64_MAX);
	assert_int_equal(vessel_amount(&vs.v[2], level), 1000 * MIB);
	assert_int_equal(vessels_low(&vs, 3), 20 * MIB);
	assert_int_equal(vessels_high(&vs, 3), 3000 * MIB);
	vessels_done(&vs);
}

static void vessels_endure_the_largest_figures(void **state)
{
	struct vessels vs = {0};
	vessel_level_t level;

	assert_int_equal(vessels_reserve(&vs, 2), 0);
	vs.v[0] = vs.v[1] =
		(struct vessel){UINT64_MAX, 0, UINT64_MAX, 0, VESSEL_WEIGHT_MAX, 100000000};
	vs.v[1].base_bytes = 0;
	level = vessels_level(&vs, 2, UINT64_MAX);
	assert_int_equal(vessel_amount(&vs.v[0], level), UINT64_MAX);
	assert_true(vessels_high(&vs, 2) > UINT64_MAX);
	vessels_done(&vs);
}

struct record {
	uint64_t id;
	uint64_t value;
};

static uint64_t id_of(const void *guests, size_t i)
{
	const uint64_t *ids = guests;

	return ids[i];
}

static void records_follow_their_guests(void **state)
{
	static const uint64_t first[] = {1, 5, 9}, then[] = {0, 5, 6, 9, 12}, last[] = {12};
	struct by_guest b = {.record_bytes = sizeof(struct record)};
	struct record *r = by_guest_match(&b, 3, id_of, first);

	for (size_t i = 0; i < 3; i++) {
		assert_int_equal(r[i].id, first[i]);
		assert_int_equal(r[i].value, 0);
		r[i].value = 100 + first[i];
	}
	r = by_guest_match(&b, 5, id_of, then);
	for (size_t i = 0; i < 5; i++) {
		assert_int_equal(r[i].id, then[i]);
		assert_int_equal(r[i].value, then[i] == 5 || then[i] == 9 ? 100 + then[i] : 0);
	}
	r[4].value = 7;
	by_guest_match(&b, 0, id_of, NULL);
	r = by_guest_match(&b, 1, id_of, last);
	assert_int_equal(r[0].value, 0); /* it was gone */
	by_guest_done(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(settings_hold_for_all_or_for_those_that_match),
		cmocka_unit_test(a_refused_setting_says_why_and_leaves_the_defaults),
		cmocka_unit_test(rules_are_bounded),
		cmocka_unit_test(builtin_policies_take_their_settings),
		cmocka_unit_test(vessels_fill_to_one_level),
		cmocka_unit_test(vessels_endure_the_largest_figures),
		cmocka_unit_test(records_follow_their_guests),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
