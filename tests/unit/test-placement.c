/* Which CPUs guests get: claims about the decision, in made-up time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "memd/placement.h"

#define SECOND UINT64_C(1000000)

static cpu_set_t cpus_0_to(int last)
{
	cpu_set_t s;

	CPU_ZERO(&s);
	for (int i = 0; i <= last; i++)
		CPU_SET(i, &s);
	return s;
}

static void decide(struct placement *g, unsigned n, int last_cpu, uint64_t now_us)
{
	struct placement *list[8];
	cpu_set_t online = cpus_0_to(last_cpu);

	for (unsigned i = 0; i < n; i++)
		list[i] = &g[i];
	placement_decide(&online, list, n, now_us);
}

static void assert_cpus(const struct placement *p, const char *expected)
{
	char text[PLACEMENT_TEXT_MAX];

	placement_text(&p->cpus, text);
	assert_string_equal(text, expected);
}

static void shared_guests_have_all_that_nobody_has_alone(void **state)
{
	struct placement g[3] = {
		{.n_vcpus = 8}, {.mode = PLACEMENT_PINNED, .n_vcpus = 2}, {.n_vcpus = 1}};

	decide(g, 3, 7, SECOND);
	assert_cpus(&g[0], "0-5");
	assert_cpus(&g[1], "6-7");
	assert_cpus(&g[2], "0-5");
	assert_true(g[1].exclusive);
	assert_false(g[0].exclusive);
	g[1].mode = PLACEMENT_SHARED; /* taken back */
	decide(g, 3, 7, 2 * SECOND);
	assert_cpus(&g[0], "0-7");
	assert_cpus(&g[1], "0-7");
	assert_false(g[1].exclusive);
}

static void sets_do_not_overlap_and_one_cpu_stays_for_all(void **state)
{
	struct placement g[4] = {{.mode = PLACEMENT_PINNED, .n_vcpus = 2},
		{.mode = PLACEMENT_PINNED, .n_vcpus = 2}, {.mode = PLACEMENT_PINNED, .n_vcpus = 1},
		{.n_vcpus = 1}};

	decide(g, 4, 4, SECOND);
	assert_cpus(&g[0], "3-4");
	assert_cpus(&g[1], "1-2");
	assert_false(g[2].exclusive);
	assert_cpus(&g[2], "0");
	assert_non_null(strstr(g[2].reason, "do not fit"));
	assert_cpus(&g[3], "0");
	decide(g, 4, 5, 2 * SECOND); /* one more: who has a set keeps it */
	assert_cpus(&g[0], "3-4");
	assert_cpus(&g[1], "1-2");
	assert_cpus(&g[2], "5");
}

static void a_set_with_a_cpu_that_is_gone_is_given_anew(void **state)
{
	struct placement g = {.mode = PLACEMENT_PINNED, .n_vcpus = 2};

	decide(&g, 1, 3, SECOND);
	assert_cpus(&g, "2-3");
	decide(&g, 1, 2, 2 * SECOND);
	assert_cpus(&g, "1-2");
	assert_true(g.exclusive);
}

static void auto_is_pinned_while_busy(void **state)
{
	struct placement g = {.mode = PLACEMENT_AUTO, .n_vcpus = 1, .load_bp = PLACEMENT_BUSY_BP};

	decide(&g, 1, 1, SECOND);
	assert_false(g.exclusive);
	decide(&g, 1, 1, SECOND + PLACEMENT_BUSY_US - 1);
	assert_false(g.exclusive);
	decide(&g, 1, 1, SECOND + PLACEMENT_BUSY_US);
	assert_true(g.exclusive);
	assert_cpus(&g, "1");
	/* between the two loads nothing changes, however long */
	g.load_bp = PLACEMENT_IDLE_BP + 1;
	decide(&g, 1, 1, 1000 * SECOND);
	assert_true(g.exclusive);
	g.load_bp = PLACEMENT_IDLE_BP;
	decide(&g, 1, 1, 1001 * SECOND);
	decide(&g, 1, 1, 1001 * SECOND + PLACEMENT_IDLE_US - 1);
	assert_true(g.exclusive);
	decide(&g, 1, 1, 1001 * SECOND + PLACEMENT_IDLE_US);
	assert_false(g.exclusive);
	assert_cpus(&g, "0-1");
}

static void an_unknown_load_changes_nothing(void **state)
{
	struct placement g = {.mode = PLACEMENT_AUTO, .n_vcpus = 1, .load_bp = PLACEMENT_BUSY_BP};

	decide(&g, 1, 1, SECOND);
	g.load_bp = PLACEMENT_LOAD_UNKNOWN;
	decide(&g, 1, 1, SECOND + PLACEMENT_BUSY_US / 2);
	g.load_bp = PLACEMENT_BUSY_BP;
	decide(&g, 1, 1, SECOND + PLACEMENT_BUSY_US);
	assert_true(g.exclusive);
}

static void sets_are_written_as_ranges(void **state)
{
	char text[PLACEMENT_TEXT_MAX];
	cpu_set_t s;

	CPU_ZERO(&s);
	placement_text(&s, text);
	assert_string_equal(text, "");
	CPU_SET(0, &s);
	CPU_SET(2, &s);
	CPU_SET(3, &s);
	CPU_SET(1023, &s);
	placement_text(&s, text);
	assert_string_equal(text, "0,2-3,1023");
	for (int i = 0; i < CPU_SETSIZE; i += 2)
		CPU_SET(i, &s);
	placement_text(&s, text);
	assert_true(strlen(text) < PLACEMENT_TEXT_MAX);
	assert_non_null(strstr(text, ",..."));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(shared_guests_have_all_that_nobody_has_alone),
		cmocka_unit_test(sets_do_not_overlap_and_one_cpu_stays_for_all),
		cmocka_unit_test(a_set_with_a_cpu_that_is_gone_is_given_anew),
		cmocka_unit_test(auto_is_pinned_while_busy),
		cmocka_unit_test(an_unknown_load_changes_nothing),
		cmocka_unit_test(sets_are_written_as_ranges),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
