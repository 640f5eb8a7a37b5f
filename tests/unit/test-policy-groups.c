/* Groups of guests with a policy of their own: who divides what, and that nobody else pays for it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "memd/base/cleanup.h"
#include "memd/base/overflow.h"
#include "memd/base/units.h"
#include "policy/groups.h"
#include "policy/policy-host.h"

#define N_GUESTS 6

/* Guests 0 to 3 in groups, two and two; 4 and 5 in none. */
static const char *const names[N_GUESTS] = {"db-0", "db-1", "lab-0", "lab-1", "web-0", "web-1"};
static const char *const groups_of[N_GUESTS] = {"db", "db", "lab", "lab", NULL, "none-such"};

static const struct memd_host_view host = {
	.now_us = 1000000,
	.tick_us = 20000000, /* a step of the whole guest */
	.budget_bytes = 3100 * MIB,
	.used_bytes = 2900 * MIB,
	.overhead_bytes = 100 * MIB,
	.state = MEMD_HOST_HARD, /* no rate, no settling */
};

static void make_guests(struct policy_guest *guests)
{
	for (size_t i = 0; i < N_GUESTS; i++)
		guests[i] = (struct policy_guest){
			.view = {.name = names[i],
				.id = i + 1,
				.flags = MEMD_GUEST_CAN_PAGE,
				.shares = 1000,
				.configured_bytes = GIB,
				.min_bytes = 64 * MIB,
				.max_bytes = GIB,
				.target_bytes = 500 * MIB,
				.resident_bytes = 480 * MIB,
				.swapped_bytes = 400 * MIB},
			.group = groups_of[i],
		};
}

struct world {
	struct policy_groups *groups;
	struct policy_host *h;
	struct policy_guest guests[N_GUESTS];
	struct policy_decision decisions[N_GUESTS];
};

static void open_world(struct world *w, const char *policy,
	const struct policy_group_options *options, size_t n)
{
	struct error e = {0};

	*w = (struct world){0};
	make_guests(w->guests);
	assert_int_equal(policy_host_new(policy_find_builtin(policy), NULL, 0, NULL, &w->h, &e), 0);
	if (n > 0 && policy_groups_new(options, n, NULL, &w->groups, &e) < 0)
		fail_msg("%s", e.text);
	policy_host_set_groups(w->h, w->groups);
}

static void close_world(struct world *w)
{
	policy_host_free(w->h);
	policy_groups_free(w->groups);
}

static void decide(struct world *w)
{
	struct error e = {0};

	assert_int_equal(
		policy_host_evaluate(w->h, &host, w->guests, N_GUESTS, w->decisions, &e), 0);
}

static uint64_t sum_of(const struct world *w, size_t from, size_t to)
{
	uint64_t sum = 0;

	for (size_t i = from; i < to; i++)
		sum += w->decisions[i].proposed_bytes;
	return sum;
}

static void says(const struct world *w, size_t guest, const char *text)
{
	if (!strstr(w->decisions[guest].reason, text))
		fail_msg("not said '%s' but '%s'", text, w->decisions[guest].reason);
}

static void a_group_divides_what_the_hosts_policy_gives_its_guests(void **state)
{
	static const struct policy_setting lab[] = {{"Target@lab-0", "200M"}, {"Target@lab-1", "300M"}};
	static const struct policy_group_options options[] = {
		{"db", "proportional", NULL, 0}, {"lab", "static", lab, 2}};
	struct world w, without;

	open_world(&w, "proportional", options, 2);
	open_world(&without, "proportional", NULL, 0);
	/* by shares within the group: one of three parts of it, and two */
	w.guests[1].view.shares = without.guests[1].view.shares = 2000;
	w.guests[1].view.configured_bytes = without.guests[1].view.configured_bytes = 2 * GIB;
	decide(&w);
	decide(&without);
	assert_in_range(sum_of(&w, 0, 2), sum_of(&without, 0, 2) - PAGE_BYTES,
		sum_of(&without, 0, 2) + PAGE_BYTES);
	assert_int_equal(w.decisions[2].proposed_bytes, 200 * MIB);
	assert_int_equal(w.decisions[3].proposed_bytes, 300 * MIB);
	assert_true(sum_of(&w, 2, 4) <= sum_of(&without, 2, 4));
	for (size_t i = 4; i < N_GUESTS; i++) { /* nobody else notices */
		assert_int_equal(
			w.decisions[i].proposed_bytes, without.decisions[i].proposed_bytes);
		assert_string_equal(w.decisions[i].reason, without.decisions[i].reason);
	}
	says(&w, 0, "group db has ");
	says(&w, 0, " for 2 guests, by proportional: ");
	says(&w, 2, " for 2 guests, by static: fixed at 200 MiB");
	close_world(&w);
	close_world(&without);
}

/* What esx keeps free for the host is not kept free a second time by a group. */
static void what_is_kept_free_is_kept_once(void **state)
{
	static const struct policy_group_options all[] = {
		{"db", "esx", NULL, 0}, {"lab", "esx", NULL, 0}};
	struct world w, without;

	open_world(&w, "esx", all, 2);
	open_world(&without, "esx", NULL, 0);
	decide(&w);
	decide(&without);
	assert_in_range(sum_of(&w, 0, N_GUESTS), sum_of(&without, 0, N_GUESTS) / 100 * 98,
		host.budget_bytes - host.overhead_bytes);
	close_world(&w);
	close_world(&without);
}

static void targets_fit_and_floors_hold_whatever_the_policies_are(void **state)
{
	static const char *const policies[] = {
		"esx", "proportional", "pressure", "balanced", "static"};
	uint64_t floors[] = {64 * MIB, 600 * MIB};

	for (size_t a = 0; a < 5; a++)
		for (size_t b = 0; b < 5; b++)
			for (size_t f = 0; f < 2; f++) {
				struct policy_group_options options[] = {
					{"db", policies[a], NULL, 0}, {"lab", policies[b], NULL, 0}};
				uint64_t sum = 0, min = 0;
				struct world w;

				open_world(&w, policies[(a + b) % 5], options, 2);
				for (size_t i = 0; i < N_GUESTS; i++)
					w.guests[i].view.min_bytes = floors[f];
				decide(&w);
				for (size_t i = 0; i < N_GUESTS; i++) {
					sum += w.decisions[i].target_bytes;
					min += floors[f];
					assert_true(w.decisions[i].target_bytes >= floors[f]);
				}
				assert_true(sum <= u64_max(min, host.budget_bytes -
									host.overhead_bytes));
				close_world(&w);
			}
}

static void a_group_without_guests_is_no_trouble(void **state)
{
	static const struct policy_group_options options[] = {
		{"db", "pressure", NULL, 0}, {"empty", "balanced", NULL, 0}};
	struct world w;

	open_world(&w, "esx", options, 2);
	decide(&w);
	for (size_t i = 0; i < N_GUESTS; i++)
		w.guests[i].group = NULL;
	decide(&w);
	assert_null(strstr(w.decisions[0].reason, "group"));
	assert_int_equal(policy_host_evaluate(w.h, &host, NULL, 0, NULL, NULL), 0);
	close_world(&w);
}

static void bad_groups_are_refused_with_the_reason(void **state)
{
	static const struct {
		const char *policy, *key, *value, *says;
		int r;
	} samples[] = {
		{"even", NULL, NULL, "[Group db]: Policy=even: the policy of a group is one of", -EINVAL},
		{"exec", NULL, NULL, "esx, proportional, pressure, balanced, static", -EINVAL},
		{"pressure", "StallBudgt", "1%",
			"[Group db]: StallBudgt=1%: there is no setting StallBudgt=; there are StallBudget, Probe",
			-EINVAL},
		{"pressure", "StallBudget", "60%", "StallBudget=60% is out of bounds: 0.01% to 50%",
			-ERANGE},
		{"esx", "IdleTax", "much", "[Group db]: IdleTax=much: ", -EINVAL},
		{"proportional", "IdleTax", "1%", "the policy proportional takes no settings",
			-EINVAL},
	};

	for (size_t i = 0; i < ARRAY_SIZE(samples); i++) {
		struct policy_setting setting = {samples[i].key, samples[i].value};
		struct policy_group_options options[] = {{"fine", "esx", NULL, 0},
			{"db", samples[i].policy, &setting, samples[i].key != NULL}};
		struct policy_groups *g = NULL;
		struct error e = {0};

		assert_int_equal(policy_groups_new(options, 2, NULL, &g, &e), samples[i].r);
		assert_null(g);
		if (!strstr(e.text, samples[i].says))
			fail_msg("not said '%s' but '%s'", samples[i].says, e.text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_group_divides_what_the_hosts_policy_gives_its_guests),
		cmocka_unit_test(what_is_kept_free_is_kept_once),
		cmocka_unit_test(targets_fit_and_floors_hold_whatever_the_policies_are),
		cmocka_unit_test(a_group_without_guests_is_no_trouble),
		cmocka_unit_test(bad_groups_are_refused_with_the_reason),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
