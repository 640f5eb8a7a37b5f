/*
 * memd and the agent in a guest, with real parts: memd in the process of the test, memd-vmm, the
 * freestanding guest that speaks the protocol, well or badly.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "memd/base/clock.h"
#include "memd/base/units.h"
#include "memd/guest-agent.h"
#include "tests/guest/host-run.h"
#include "tests/guest/vmm-run.h"

#define WAIT_US (60 * US_PER_S)

static struct host_run h;

static int setup(void **state)
{
	host_run_start(&h, "HostMemoryBudget=1G\nTickInterval=250ms\n[Share]\nMode=off\n", 0);
	return 0;
}

static int teardown(void **state)
{
	host_run_end(&h);
	return 0;
}

static struct guest *start(const char *cmdline)
{
	return host_run_guest(&h, "g", 128 * MIB, 1, cmdline);
}

static bool until(bool (*is_so)(const struct guest *g), const struct guest *g)
{
	uint64_t end_us = clock_monotonic_us() + WAIT_US;

	while (!is_so(g)) {
		if (clock_monotonic_us() > end_us)
			return false;
		host_run_for(&h, 10 * US_PER_MS);
	}
	return true;
}

static bool reports(const struct guest *g)
{
	uint64_t us;

	return guest_agent_report(g, &us) != NULL;
}

static bool has_balloon(const struct guest *g)
{
	return g->sample.after.balloon_actual_pages >= 16 * MIB / PAGE_BYTES;
}

static bool has_no_balloon(const struct guest *g)
{
	return g->sample.after.balloon_actual_pages == 0;
}

static bool is_throttled(const struct guest *g)
{
	return agent_session_counters(g->agent->session)->throttled > 0;
}

static bool has_sent_all_kinds_of_garbage(const struct guest *g)
{
	const struct agent_counters *c = agent_session_counters(g->agent->session);

	return c->garbage_bytes && c->nonsense && c->ignored;
}

static bool has_refused(const struct guest *g)
{
	return g->agent->refusals > 0;
}

static bool has_cried(const struct guest *g)
{
	return g->agent->distresses > 0;
}

static bool has_asked(const struct guest *g)
{
	return g->agent->asks > 0;
}

static bool is_silent(const struct guest *g)
{
	return strcmp(guest_agent_state(g), "silent") == 0;
}

static bool is_incompatible(const struct guest *g)
{
	return strcmp(guest_agent_state(g), "incompatible") == 0;
}

static void set_target(struct guest *g, uint64_t bytes)
{
	struct refusal refusal = {0};

	assert_int_equal(manager_set_target(h.m, g, bytes, &refusal), 0);
}

static void assert_nothing_corrupt(const struct guest *g)
{
	assert_int_equal(host_run_value(g, "corrupt"), 0);
}

static void figures_come_and_the_balloon_takes_what_is_granted(void **state)
{
	struct guest *g = start("seed=1 unique_mib=16 verify_per_s=500 agent=polite "
				"agent_floor_mib=24 report_ms=200");
	const struct agent_message *m;
	uint64_t us;

	assert_true(until(reports, g));
	m = guest_agent_report(g, &us);
	/* of 128 MiB, 16 are in use, and what the guest needs for itself */
	assert_in_range(agent_get(m, AGENT_AVAILABLE, 0), 90 * MIB, 112 * MIB);
	assert_int_equal(guest_agent_floor_bytes(g), 24 * MIB);
	assert_string_equal(agent_session_program(g->agent->session), "memd-guest");
	set_target(g, 64 * MIB);
	assert_true(until(has_balloon, g));
	assert_in_range(g->agent->grants, 1, UINT64_MAX);
	assert_in_range(host_run_value(g, "agent_shrinks"), 1, UINT64_MAX);
	assert_nothing_corrupt(g);
}

static void a_floor_is_honoured_only_between_min_and_max(void **state)
{
	struct guest *g =
		start("seed=1 unique_mib=16 verify_per_s=500 agent=polite agent_floor_mib=4096");

	assert_true(until(reports, g));
	assert_int_equal(guest_agent_floor_bytes(g), 128 * MIB);
	g->max_bytes = 100 * MIB;
	assert_int_equal(guest_agent_floor_bytes(g), 100 * MIB);
	g->judge.claims.distrusted = true;
	assert_int_equal(guest_agent_floor_bytes(g), 0);
}

static void a_refusal_is_respected_and_its_reason_kept(void **state)
{
	struct guest *g =
		start("seed=1 unique_mib=16 verify_per_s=500 agent=refuses report_ms=200");

	assert_true(until(reports, g));
	set_target(g, 64 * MIB);
	assert_true(until(has_refused, g));
	assert_string_equal(g->agent->refusal, "it is a test?[31m"); /* clean, for a terminal */
	host_run_for(&h, 1500 * US_PER_MS); /* six ticks in which it would have grown */
	assert_int_equal(g->sample.after.balloon_actual_pages, 0);
	assert_int_equal(g->balloon_target_bytes, 0);
	assert_int_equal(g->agent->refusals, 1); /* and is not asked again meanwhile */
}

static void distress_brings_the_whole_balloon_back_within_two_seconds(void **state)
{
	struct guest *g = start("seed=1 unique_mib=16 verify_per_s=500 agent=polite "
				"agent_distress_mib=16 report_ms=100");
	uint64_t cried_us;

	assert_true(until(reports, g));
	set_target(g, 32 * MIB);
	assert_true(until(has_cried, g));
	cried_us = clock_monotonic_us();
	assert_int_equal(g->balloon_target_bytes, 0);
	/* the guest itself says that it has back what it had given */
	while ((host_run_value(g, "returned") < 16 * MIB / PAGE_BYTES ||
		       host_run_value(g, "balloon") > 0) &&
		clock_monotonic_us() - cried_us < WAIT_US)
		host_run_for(&h, 10 * US_PER_MS);
	printf("# empty %llu ms after the cry\n",
		(unsigned long long)(clock_monotonic_us() - cried_us) / 1000);
	assert_true(clock_monotonic_us() - cried_us < 2 * US_PER_S);
	host_run_for(&h, US_PER_S);
	assert_int_equal(g->balloon_target_bytes, 0); /* and stays so for a while */
	assert_nothing_corrupt(g);
}

static void who_asks_gets_that_much_back(void **state)
{
	struct guest *g = start("seed=1 unique_mib=16 verify_per_s=500 agent=polite "
				"agent_ask_mib=16 report_ms=200");
	uint64_t asked_bytes;

	assert_true(until(reports, g));
	set_target(g, 64 * MIB);
	assert_true(until(has_asked, g));
	asked_bytes = g->balloon_target_bytes;
	host_run_for(&h, US_PER_S);
	assert_true(g->balloon_target_bytes <= asked_bytes);
	assert_in_range(g->agent->hold_until_us, clock_monotonic_us(), UINT64_MAX);
}

static void a_flood_makes_only_the_guest_wait(void **state)
{
	struct guest *g = start("seed=1 unique_mib=16 verify_per_s=500 agent=flood report_ms=200");
	const struct agent_counters *c;
	uint64_t cpu_us, begin_us, before, ticks;

	assert_true(until(reports, g));
	c = agent_session_counters(g->agent->session);
	assert_true(until(is_throttled, g)); /* what may come at once is over */
	cpu_us = clock_thread_cpu_us();
	begin_us = clock_monotonic_us();
	before = c->reports;
	ticks = h.m->figures.ticks;
	host_run_for(&h, 2 * US_PER_S);
	begin_us = clock_monotonic_us() - begin_us;
	printf("# %llu reports a second are read, throttled %llu times, memd used %llu us of CPU\n",
		(unsigned long long)((c->reports - before) * US_PER_S / begin_us),
		(unsigned long long)c->throttled,
		(unsigned long long)(clock_thread_cpu_us() - cpu_us));
	/* a report has 66 bytes; the rate, and what had been saved up */
	assert_in_range((c->reports - before) * 66 * US_PER_S / begin_us, 1,
		SESSION_RATE_BYTES + SESSION_BURST_BYTES / 4);
	assert_in_range(h.m->figures.ticks - ticks, 4, UINT64_MAX);
	assert_true(reports(g));
	set_target(g, 64 * MIB);
	assert_true(until(has_balloon, g));
	assert_nothing_corrupt(g);
}

static void garbage_costs_nothing_but_itself(void **state)
{
	struct guest *g =
		start("seed=1 unique_mib=16 verify_per_s=500 agent=garbage report_ms=200");
	uint64_t before, end_us = clock_monotonic_us() + WAIT_US;
	const struct agent_counters *c;

	assert_true(until(reports, g));
	c = agent_session_counters(g->agent->session);
	assert_true(until(has_sent_all_kinds_of_garbage, g));
	before = c->reports;
	while (c->reports == before && clock_monotonic_us() < end_us)
		host_run_for(&h, 10 * US_PER_MS);
	assert_in_range(c->reports, before + 1, UINT64_MAX); /* what was right among it is heard */
	assert_nothing_corrupt(g);
}

static void without_its_agent_a_guest_is_as_any_other(void **state)
{
	struct guest *g = start(
		"seed=1 unique_mib=16 verify_per_s=500 agent=polite agent_reports=3 report_ms=200");
	uint64_t us;

	assert_true(until(is_silent, g));
	assert_null(guest_agent_report(g, &us));
	assert_int_equal(guest_agent_floor_bytes(g), 0);
	set_target(g, 64 * MIB);
	assert_true(until(has_balloon, g)); /* nobody is asked */
	assert_int_equal(g->agent->requests, 0);
	set_target(g, 0); /* automatic, and there is plenty */
	assert_true(until(has_no_balloon, g));
	assert_nothing_corrupt(g);
}

static void an_agent_of_another_version_is_left_alone(void **state)
{
	struct guest *g = start(
		"seed=1 unique_mib=16 verify_per_s=500 agent=polite agent_version=2 report_ms=200");

	assert_true(until(is_incompatible, g));
	set_target(g, 64 * MIB);
	assert_true(until(has_balloon, g));
	assert_int_equal(g->agent->requests, 0);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(figures_come_and_the_balloon_takes_what_is_granted),
		T(a_floor_is_honoured_only_between_min_and_max),
		T(a_refusal_is_respected_and_its_reason_kept),
		T(distress_brings_the_whole_balloon_back_within_two_seconds),
		T(who_asks_gets_that_much_back),
		T(a_flood_makes_only_the_guest_wait),
		T(garbage_costs_nothing_but_itself),
		T(without_its_agent_a_guest_is_as_any_other),
		T(an_agent_of_another_version_is_left_alone),
	};
	const char *unusable = vmm_run_unusable();

	if (unusable) {
		printf("1..0 # SKIP %s\n", unusable);
		return 0;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
