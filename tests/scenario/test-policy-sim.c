/*
 * What holds for every built-in policy over every mix of the simulator, and what each decides: the
 * golden decisions (golden-decisions.txt; written anew with MEMD_GOLDEN_WRITE=1, and then read by a
 * person). Virtual time, fixed seeds.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "memd/base/cleanup.h"
#include "memd/base/units.h"
#include "policy/builtin.h"
#include "tests/scenario/sim.h"

#define GOLDEN_PATH MEMD_SOURCE_DIR "/tests/scenario/golden-decisions.txt"

static const struct memd_policy *const policies[] = {
	&policy_esx, &policy_proportional, &policy_pressure, &policy_balanced, &policy_static};

static uint32_t most_turns(const struct sim *s)
{
	uint32_t most = 0;

	for (size_t i = 0; i < s->n; i++)
		if (s->guests[i].turns > most)
			most = s->guests[i].turns;
	return most;
}

static void check_floors(const struct sim *s, const char *mix, const char *policy)
{
	for (size_t i = 0; i < s->n; i++) {
		const struct sim_guest *g = &s->guests[i];

		if (g->started < s->second && g->target_bytes < g->min_bytes)
			fail_msg("%s, %s: second %llu: guest %s has a target of %llu below its "
				 "floor",
				mix, policy, (unsigned long long)s->second, g->name,
				(unsigned long long)g->target_bytes);
		if (g->below_floor_s > 0)
			fail_msg("%s, %s: second %llu: guest %s is below its floor", mix, policy,
				(unsigned long long)s->second, g->name);
	}
}

/* All of it, each second. */
static void check_mix(const struct memd_policy *policy, const struct sim_mix *mix, size_t n,
	unsigned overcommit_pc, uint64_t seconds)
{
	struct sim s;

	sim_init_mix(&s, policy, mix, n, overcommit_pc, 7);
	for (uint64_t i = 0; i < seconds; i++) {
		sim_second(&s);
		check_floors(&s, mix->name, policy->name);
		if (s.over_target_s > 0)
			fail_msg("%s, %s: second %llu: targets grew beyond what is available",
				mix->name, policy->name, (unsigned long long)s.second);
	}
	/* a target that turned settles for 10 s */
	if (most_turns(&s) > seconds / 10)
		fail_msg("%s, %s: %u turns of a target in %llu s", mix->name, policy->name,
			most_turns(&s), (unsigned long long)seconds);
	sim_done(&s);
}

static void floors_and_sums_hold_over_every_mix(void **state)
{
	static const struct {
		size_t n;
		unsigned overcommit_pc;
	} sizes[] = {{2, 150}, {16, 200}, {16, 300}, {100, 250}};

	for (size_t p = 0; p < ARRAY_SIZE(policies); p++)
		for (size_t m = 0; m < sim_n_mixes; m++)
			for (size_t i = 0; i < ARRAY_SIZE(sizes); i++)
				check_mix(policies[p], &sim_mixes[m], sizes[i].n,
					sizes[i].overcommit_pc, 600);
}

static void a_thousand_guests_are_held_too(void **state)
{
	for (size_t p = 0; p < ARRAY_SIZE(policies); p++)
		check_mix(policies[p], &sim_mixes[p], 1000, 200, 120);
}

/* Guests that do the same all the time. */
static void behave_constant(struct sim_guest *g, uint64_t second)
{
	g->allocated_pm = 600;
	g->hot_pm = 100 + 40 * (uint32_t)(g->id % 8);
}

static void set_up_constant(struct sim_guest *g, size_t i, size_t n)
{
	g->configured_bytes = 256 * MIB;
	g->min_bytes = 32 * MIB;
	g->behave = behave_constant;
}

static const struct sim_mix constant = {"constant", set_up_constant};

static void targets_come_to_rest_when_guests_do(void **state)
{
	for (size_t p = 0; p < ARRAY_SIZE(policies); p++) {
		struct sim s;

		sim_init_mix(&s, policies[p], &constant, 16, 180, 3);
		sim_run(&s, 300);
		for (size_t i = 0; i < s.n; i++)
			s.guests[i].turns = 0;
		sim_run(&s, 900);
		if (most_turns(&s) > 4)
			fail_msg("%s: %u turns in 900 s", policies[p]->name, most_turns(&s));
		sim_done(&s);
	}
}

static void behave_greedy(struct sim_guest *g, uint64_t second)
{
	g->allocated_pm = 1000;
	g->hot_pm = 1000;
}

static void set_up_greedy(struct sim_guest *g, size_t i, size_t n)
{
	g->configured_bytes = 1024 * MIB;
	g->min_bytes = 16 * MIB;
	g->shares = 1000 << i;
	g->behave = behave_greedy;
}

static const struct sim_mix greedy = {"greedy", set_up_greedy};

/* static is by its targets alone, pressure and balanced by shares only while there is no stall. */
static void shares_are_honoured_in_steady_state(void **state)
{
	static const struct memd_policy *const by_shares[] = {
		&policy_esx, &policy_proportional, &policy_pressure, &policy_balanced};

	for (size_t p = 0; p < ARRAY_SIZE(by_shares); p++) {
		struct sim s;

		sim_init(&s, by_shares[p], NULL, 0, 3, 5);
		for (size_t i = 0; i < 3; i++)
			greedy.set_up(&s.guests[i], i, 3);
		s.budget_bytes = 2000 * MIB; /* what is out takes 40 % of itself */
		sim_run(&s, 900);
		for (size_t i = 1; i < 3; i++) {
			double ratio = (double)s.guests[i].target_bytes /
				       (double)s.guests[i - 1].target_bytes;

			if (ratio < 1.9 || ratio > 2.1)
				fail_msg("%s: twice the shares have %.2f times the memory",
					by_shares[p]->name, ratio);
		}
		sim_done(&s);
	}
}

/* The spike is the first guest's, from second 200 to 260. */
static void behave_spike(struct sim_guest *g, uint64_t second)
{
	bool spike = g->id == 1 && second >= 200 && second < 260;

	g->allocated_pm = spike ? 950 : 600;
	g->hot_pm = spike ? 900 : 250;
}

static void set_up_spike(struct sim_guest *g, size_t i, size_t n)
{
	set_up_constant(g, i, n);
	g->behave = behave_spike;
}

static const struct sim_mix spike = {"spike", set_up_spike};

static void everybody_recovers_within_a_minute_of_a_spike(void **state)
{
	for (size_t p = 0; p < ARRAY_SIZE(policies); p++) {
		struct sim s;

		sim_init_mix(&s, policies[p], &spike, 16, 180, 3);
		sim_run(&s, 320);
		for (size_t i = 0; i < s.n; i++)
			if (s.guests[i].stall_10_bp > 100)
				fail_msg("%s: guest %s waits %u bp a minute after the spike",
					policies[p]->name, s.guests[i].name,
					s.guests[i].stall_10_bp);
		sim_done(&s);
	}
}

/* A hundred pages of an idle guest, a busy one: equal shares, little memory. */
static void behave_idle_or_busy(struct sim_guest *g, uint64_t second)
{
	g->allocated_pm = 950;
	g->hot_pm = g->id == 1 ? 50 : 900;
}

static void esx_is_the_tax_formula_of_the_paper(void **state)
{
	/* by tax: k = 1 / (1 - tax) */
	static const struct {
		const char *tax;
		double k;
	} taxes[] = {{"0%", 1}, {"50%", 2}, {"75%", 4}, {"90%", 10}};

	for (size_t t = 0; t < ARRAY_SIZE(taxes); t++) {
		struct policy_setting settings[] = {{"IdleTax", taxes[t].tax}, {"MinFree", "0%"}};
		double k = taxes[t].k, p1, p2, w1, w2, sum, predicted;
		struct sim s;

		sim_init(&s, &policy_esx, settings, 2, 2, 5);
		for (size_t i = 0; i < 2; i++) {
			set_up_constant(&s.guests[i], i, 2);
			s.guests[i].min_bytes = 16 * MIB;
			s.guests[i].behave = behave_idle_or_busy;
		}
		s.budget_bytes = 360 * MIB; /* the paper's figure 7 */
		sim_run(&s, 900);
		p1 = (double)s.guests[0].target_bytes;
		p2 = (double)s.guests[1].target_bytes;
		w1 = 0.05 * 256 * MIB + 0.9 * 256 * MIB / 300 * 15; /* touched in 15 s */
		w2 = 0.9 * 256 * MIB;
		sum = p1 + p2;
		/* rho equal: P1 * (f1 + k (1 - f1)) = P2 * (f2 + k (1 - f2)), with P f = min(P, W) */
		predicted = (sum + (k - 1) * w1) / (k + 1); /* the busy one is all in use */
		if (sum - predicted > w2)
			predicted = sum / 2 + (k - 1) * (w1 - w2) / k / 2;
		print_message("# tax %s: idle %.1f MiB, by the formula %.1f; busy %.1f\n",
			taxes[t].tax, p1 / MIB, predicted / MIB, p2 / MIB);
		assert_true(p1 > predicted * 0.95 && p1 < predicted * 1.05);
		assert_true(p2 > (sum - predicted) * 0.95 && p2 < (sum - predicted) * 1.05);
		sim_done(&s);
	}
}

static void golden_lines(FILE *f)
{
	static const uint64_t seconds[] = {5, 50, 120, 300, 600};

	for (size_t p = 0; p < ARRAY_SIZE(policies); p++)
		for (size_t m = 0; m < sim_n_mixes; m++) {
			struct sim s;

			sim_init_mix(&s, policies[p], &sim_mixes[m], 4, 180, 11);
			for (size_t i = 0; i < ARRAY_SIZE(seconds); i++) {
				sim_run(&s, seconds[i] - s.second);
				fprintf(f, "%s %s %llu:", policies[p]->name, sim_mixes[m].name,
					(unsigned long long)seconds[i]);
				for (size_t g = 0; g < s.n; g++)
					fprintf(f, " %llu",
						(unsigned long long)(s.guests[g].target_bytes /
								     MIB));
				fprintf(f, "\n");
			}
			sim_done(&s);
		}
}

static void decides_as_written_down(void **state)
{
	_cleanup_free_ char *now = NULL;
	_cleanup_fclose_ FILE *golden = NULL;
	char line[256], *rest;
	size_t bytes, number = 0;
	FILE *f = open_memstream(&now, &bytes);

	assert_non_null(f);
	golden_lines(f);
	fclose(f);
	if (getenv("MEMD_GOLDEN_WRITE")) {
		golden = fopen(GOLDEN_PATH, "we");
		assert_non_null(golden);
		assert_int_equal(fwrite(now, 1, bytes, golden), bytes);
		return;
	}
	golden = fopen(GOLDEN_PATH, "re");
	assert_non_null(golden);
	rest = now;
	while (fgets(line, sizeof(line), golden)) {
		char *end = strchr(rest, '\n');

		number++;
		assert_non_null(end);
		if (strncmp(line, rest, (size_t)(end - rest) + 1) != 0)
			fail_msg("golden-decisions.txt:%zu: was '%.*s', is '%.*s'", number,
				(int)strcspn(line, "\n"), line, (int)(end - rest), rest);
		rest = end + 1;
	}
	assert_string_equal(rest, "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(floors_and_sums_hold_over_every_mix),
		cmocka_unit_test(a_thousand_guests_are_held_too),
		cmocka_unit_test(targets_come_to_rest_when_guests_do),
		cmocka_unit_test(shares_are_honoured_in_steady_state),
		cmocka_unit_test(everybody_recovers_within_a_minute_of_a_spike),
		cmocka_unit_test(esx_is_the_tax_formula_of_the_paper),
		cmocka_unit_test(decides_as_written_down),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
