/*
 * The caller of policies and the host states: what a policy may do to memd, which is nothing but
 * propose.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "memd/base/cleanup.h"
#include "memd/base/units.h"
#include "policy/policy-host.h"

/* What the made-up policy below does and saw; set anew for each test. */
static struct {
	int result; /* of evaluate */
	int open_result;
	uint64_t propose_bytes;
	uint8_t reason_byte; /* fills the whole reason */
	bool scribble; /* writes over what it is shown */
	unsigned n_opened, n_closed, n_evaluated;
	char settings[64];
	struct memd_guest_view seen; /* the first guest */
	struct memd_host_view seen_host;
	uint64_t seen_proposal_bytes;
} fake;

static int fake_config(const struct memd_host_calls *calls, const char *key, const char *value)
{
	if (strcmp(key, "Bad") == 0) {
		calls->log(calls->host, 3, "Bad= is bad");
		return -EINVAL;
	}
	snprintf(fake.settings + strlen(fake.settings),
		sizeof(fake.settings) - strlen(fake.settings), "%s=%s;", key, value);
	return 0;
}

static int fake_open(const struct memd_host_calls *calls, void **ret_state)
{
	if (fake.open_result < 0)
		return fake.open_result;
	fake.n_opened++;
	*ret_state = &fake;
	return 0;
}

static int fake_evaluate(
	void *state, const struct memd_host_view *view, struct memd_proposal *const *proposals)
{
	assert_ptr_equal(state, &fake);
	fake.n_evaluated++;
	fake.seen_host = *view;
	for (uint32_t i = 0; i < view->n_guests; i++) {
		if (i == 0) {
			fake.seen = *view->guests[0];
			fake.seen_proposal_bytes = proposals[0]->target_bytes;
		}
		assert_int_equal(view->guests[i]->size, sizeof(struct memd_guest_view));
		assert_int_equal(proposals[i]->size, sizeof(struct memd_proposal));
		proposals[i]->target_bytes = fake.propose_bytes;
		memset(proposals[i]->reason, fake.reason_byte, sizeof(proposals[i]->reason));
		if (fake.scribble) {
			memset((void *)(uintptr_t)view->guests[i], 0xff, sizeof(*view->guests[i]));
			proposals[i]->size = 0;
		}
	}
	return fake.result;
}

static void fake_close(void *state)
{
	assert_ptr_equal(state, &fake);
	fake.n_closed++;
}

static const struct memd_policy fake_policy = {
	.size = sizeof(fake_policy),
	.api_version = MEMD_POLICY_API_VERSION,
	.name = "fake",
	.config = fake_config,
	.open = fake_open,
	.evaluate = fake_evaluate,
	.close = fake_close,
};

static const struct memd_host_view host = {
	.now_us = 1000000,
	.tick_us = 1000000,
	.budget_bytes = 8 * GIB,
	.used_bytes = GIB,
};

static struct policy_guest guest(uint64_t id)
{
	return (struct policy_guest){
		.view =
			{
				.name = "g",
				.id = id,
				.shares = 1000,
				.configured_bytes = GIB,
				.min_bytes = 256 * MIB,
				.max_bytes = 768 * MIB,
				.target_bytes = 512 * MIB,
				.resident_bytes = 512 * MIB,
			},
	};
}

static int setup(void **state)
{
	struct policy_host *h = NULL;

	memset(&fake, 0, sizeof(fake));
	if (policy_host_new(&fake_policy, NULL, 0, NULL, &h, NULL) < 0)
		return -1;
	*state = h;
	return 0;
}

static int teardown(void **state)
{
	policy_host_free(*state);
	return fake.n_closed == fake.n_opened ? 0 : -1;
}

static void finds_builtin_policies_by_name(void **state)
{
	assert_non_null(policy_find_builtin("proportional"));
	assert_null(policy_find_builtin("Proportional"));
	assert_null(policy_find_builtin(""));
	assert_non_null(strstr(policy_builtin_names(), "proportional"));
}

static void hands_settings_over_before_it_opens(void **state)
{
	static const struct policy_setting good[] = {{"A", "1"}, {"B", "2"}};
	static const struct policy_setting bad[] = {{"A", "1"}, {"Bad", "x"}};
	struct policy_host *h = NULL;
	struct error e = {0};

	assert_int_equal(policy_host_new(&fake_policy, good, 2, NULL, &h, &e), 0);
	assert_string_equal(fake.settings, "A=1;B=2;");
	policy_host_free(h);
	h = NULL;
	assert_int_equal(policy_host_new(&fake_policy, bad, 2, NULL, &h, &e), -EINVAL);
	assert_null(h);
	assert_non_null(strstr(e.text, "[Policy fake]: Bad= is bad"));
	/* proportional has none */
	e.text[0] = '\0';
	assert_int_equal(
		policy_host_new(policy_find_builtin("proportional"), good, 1, NULL, &h, &e),
		-EINVAL);
	assert_non_null(strstr(e.text, "takes no settings"));
}

static void does_not_close_what_did_not_open(void **state)
{
	struct policy_host *h = NULL;
	struct error e = {0};
	unsigned n_closed = fake.n_closed;

	fake.open_result = -ENOENT;
	assert_int_equal(policy_host_new(&fake_policy, NULL, 0, NULL, &h, &e), -ENOENT);
	assert_null(h);
	assert_non_null(strstr(e.text, "fake"));
	assert_int_equal(fake.n_closed, n_closed);
}

static void refuses_another_interface(void **state)
{
	struct memd_policy other = fake_policy;
	struct policy_host *h = NULL;

	other.api_version++;
	assert_int_equal(policy_host_new(&other, NULL, 0, NULL, &h, NULL), -EINVAL);
	other = fake_policy;
	other.size--;
	assert_int_equal(policy_host_new(&other, NULL, 0, NULL, &h, NULL), -EINVAL);
	other = fake_policy;
	other.evaluate = NULL;
	assert_int_equal(policy_host_new(&other, NULL, 0, NULL, &h, NULL), -EINVAL);
}

static void shows_the_figures_as_they_are(void **state)
{
	struct policy_guest guests[] = {guest(1), guest(5)};
	struct policy_decision d[2];

	fake.propose_bytes = 600 * MIB;
	fake.reason_byte = 'r';
	assert_int_equal(policy_host_evaluate(*state, &host, guests, 2, d, NULL), 0);
	assert_int_equal(fake.seen_host.size, sizeof(struct memd_host_view));
	assert_int_equal(fake.seen_host.n_guests, 2);
	assert_int_equal(fake.seen_host.budget_bytes, 8 * GIB);
	assert_int_equal(fake.seen.max_bytes, 768 * MIB);
	assert_int_equal(fake.seen_proposal_bytes, 512 * MIB);
	for (size_t i = 0; i < 2; i++) {
		assert_int_equal(d[i].proposed_bytes, 600 * MIB);
		assert_int_equal(d[i].target_bytes, 600 * MIB);
		assert_int_equal(d[i].clamps, 0);
		assert_memory_equal(d[i].reason, "rrr", 3);
	}
	assert_int_equal(policy_host_evaluate(*state, &host, NULL, 0, NULL, NULL), 0);
}

static void shows_a_fixed_guest_with_no_choice(void **state)
{
	static const struct {
		uint64_t fixed, shown;
		uint32_t clamps;
	} samples[] = {
		{256 * MIB - 1, 256 * MIB, POLICY_CLAMP_FIXED | POLICY_CLAMP_FLOOR},
		{256 * MIB, 256 * MIB, POLICY_CLAMP_FIXED},
		{768 * MIB, 768 * MIB, POLICY_CLAMP_FIXED},
		{768 * MIB + 1, 768 * MIB, POLICY_CLAMP_FIXED | POLICY_CLAMP_CEILING},
	};

	for (size_t i = 0; i < ARRAY_SIZE(samples); i++) {
		struct policy_guest g = guest(1);
		struct policy_decision d;

		g.view.flags = MEMD_GUEST_TARGET_FIXED;
		g.view.resident_bytes = 0; /* nothing to give up: no step */
		g.fixed_bytes = samples[i].fixed;
		fake.propose_bytes = 600 * MIB;
		assert_int_equal(policy_host_evaluate(*state, &host, &g, 1, &d, NULL), 0);
		assert_int_equal(fake.seen.min_bytes, samples[i].shown);
		assert_int_equal(fake.seen.max_bytes, samples[i].shown);
		assert_int_equal(d.target_bytes, samples[i].shown);
		assert_int_equal(d.clamps, samples[i].clamps);
	}
}

static void survives_any_proposal(void **state)
{
	static const uint64_t proposals[] = {0, 1, UINT64_MAX};

	for (size_t i = 0; i < ARRAY_SIZE(proposals); i++) {
		struct policy_guest g = guest(1);
		struct policy_decision d;

		fake.propose_bytes = proposals[i];
		fake.scribble = true;
		fake.reason_byte = 0xff; /* no end, no UTF-8 */
		assert_int_equal(policy_host_evaluate(*state, &host, &g, 1, &d, NULL), 0);
		assert_in_range(d.target_bytes, 256 * MIB, 768 * MIB);
		assert_true(d.clamps != 0);
		assert_true(strlen(d.reason) < sizeof(d.reason));
		for (const char *c = d.reason; *c; c++)
			assert_in_range(*c, 0x20, 0x7e);
	}
}

static void keeps_present_targets_when_the_policy_fails(void **state)
{
	struct policy_guest guests[] = {guest(1), guest(2)};
	struct policy_decision d[2];
	struct error e = {0};

	guests[1].view.target_bytes = 0; /* new */
	guests[1].view.resident_bytes = 0;
	fake.result = -EDOM;
	fake.propose_bytes = 300 * MIB;
	assert_int_equal(policy_host_evaluate(*state, &host, guests, 2, d, &e), POLICY_FAILED);
	assert_non_null(strstr(e.text, "fake"));
	assert_int_equal(d[0].target_bytes, 512 * MIB);
	assert_int_equal(d[1].target_bytes, 768 * MIB);
	assert_true(d[0].clamps & POLICY_CLAMP_IGNORED);
	assert_non_null(strstr(d[0].reason, "failed"));
}

static void refuses_guests_out_of_order(void **state)
{
	struct policy_guest guests[] = {guest(2), guest(2)};
	struct policy_decision d[2];

	assert_int_equal(policy_host_evaluate(*state, &host, guests, 2, d, NULL), -EINVAL);
	guests[1].view.id = 1;
	assert_int_equal(policy_host_evaluate(*state, &host, guests, 2, d, NULL), -EINVAL);
	assert_int_equal(fake.n_evaluated, 0);
}

/* The target of the first of two guests, of which nothing is proposed to be left. */
static uint64_t target_with_floor(struct policy_host *h, uint64_t claimed, uint64_t budget)
{
	struct policy_guest guests[] = {guest(1), guest(2)};
	struct memd_host_view small = host;
	struct policy_decision d[2];

	small.budget_bytes = budget;
	guests[0].view.claimed_floor_bytes = claimed;
	assert_int_equal(policy_host_evaluate(h, &small, guests, 2, d, NULL), 0);
	assert_int_equal(fake.seen.claimed_floor_bytes, claimed);
	return d[0].target_bytes;
}

static void a_claimed_floor_gets_no_more_than_the_shares_entitle_to(void **state)
{
	uint64_t unclaimed = target_with_floor(*state, 0, 8 * GIB);

	assert_in_range(unclaimed, 256 * MIB, 500 * MIB); /* one step down */
	assert_int_equal(target_with_floor(*state, 500 * MIB, 8 * GIB), 500 * MIB);
	/* all that there is: half of the budget, which is less than one step down */
	assert_int_equal(target_with_floor(*state, UINT64_MAX, 600 * MIB),
		target_with_floor(*state, 0, 600 * MIB));
}

static void names_every_clamp(void **state)
{
	char text[128], small[8];

	assert_string_equal(policy_clamps_format(0, text, sizeof(text)), "");
	assert_string_equal(
		policy_clamps_format(POLICY_CLAMP_FLOOR | POLICY_CLAMP_STEP, text, sizeof(text)),
		"floor, step");
	policy_clamps_format(UINT32_MAX, text, sizeof(text));
	assert_non_null(strstr(text, "distress")); /* the last: all fit */
	policy_clamps_format(UINT32_MAX, small, sizeof(small));
	assert_string_equal(small, "proposa");
}

static enum memd_host_state next(enum memd_host_state now, uint64_t free_per_mille)
{
	return host_state_next(now, 1000, 1000 - free_per_mille);
}

static void falls_at_4_2_1_and_rises_at_6_4_2(void **state)
{
	assert_int_equal(next(MEMD_HOST_HIGH, 41), MEMD_HOST_HIGH);
	assert_int_equal(next(MEMD_HOST_HIGH, 40), MEMD_HOST_HIGH);
	assert_int_equal(next(MEMD_HOST_HIGH, 39), MEMD_HOST_SOFT);
	assert_int_equal(next(MEMD_HOST_SOFT, 59), MEMD_HOST_SOFT);
	assert_int_equal(next(MEMD_HOST_SOFT, 60), MEMD_HOST_HIGH);
	assert_int_equal(next(MEMD_HOST_SOFT, 20), MEMD_HOST_SOFT);
	assert_int_equal(next(MEMD_HOST_SOFT, 19), MEMD_HOST_HARD);
	assert_int_equal(next(MEMD_HOST_HARD, 39), MEMD_HOST_HARD);
	assert_int_equal(next(MEMD_HOST_HARD, 40), MEMD_HOST_SOFT);
	assert_int_equal(next(MEMD_HOST_HARD, 10), MEMD_HOST_HARD);
	assert_int_equal(next(MEMD_HOST_HARD, 9), MEMD_HOST_LOW);
	assert_int_equal(next(MEMD_HOST_LOW, 19), MEMD_HOST_LOW);
	assert_int_equal(next(MEMD_HOST_LOW, 20), MEMD_HOST_HARD);
}

static void crosses_several_states_at_once(void **state)
{
	assert_int_equal(next(MEMD_HOST_HIGH, 0), MEMD_HOST_LOW);
	assert_int_equal(next(MEMD_HOST_LOW, 60), MEMD_HOST_HIGH);
	assert_int_equal(next(MEMD_HOST_LOW, 59), MEMD_HOST_SOFT);
	assert_int_equal(host_state_next(MEMD_HOST_HIGH, 1000, 5000), MEMD_HOST_LOW);
	assert_int_equal(host_state_next(MEMD_HOST_HIGH, 0, 0), MEMD_HOST_LOW);
	/* no overflow: 1 % of the largest budget should be free, four sixths of that are soft */
	assert_int_equal(host_state_next(MEMD_HOST_HIGH, UINT64_MAX, UINT64_MAX / 1000 * 993),
		MEMD_HOST_HIGH);
	assert_int_equal(host_state_next(MEMD_HOST_HIGH, UINT64_MAX, UINT64_MAX / 1000 * 994),
		MEMD_HOST_SOFT);
}

static void large_budgets_keep_a_smaller_part_free(void **state)
{
	assert_int_equal(host_min_free_bytes(0), 0);
	assert_int_equal(host_min_free_bytes(GIB) / MIB, 61); /* 6 % */
	assert_int_equal(host_min_free_bytes(4 * GIB) / MIB, 245);
	assert_int_equal(host_min_free_bytes(12 * GIB) / MIB, 573); /* and 4 % of 8 GiB */
	assert_int_equal(host_min_free_bytes(28 * GIB) / MIB, 901); /* and 2 % of 16 */
	assert_int_equal(host_min_free_bytes(128 * GIB) / MIB, 1925); /* and 1 % of 100 */
}

static void is_stable_at_any_figure(void **state)
{
	/* what a state leads to, the same figure leads to again: it cannot swing */
	for (int now = MEMD_HOST_HIGH; now <= MEMD_HOST_LOW; now++)
		for (unsigned f = 0; f <= 1000; f++) {
			enum memd_host_state once = next((enum memd_host_state)now, f);

			assert_int_equal(next(once, f), once);
		}
	assert_string_equal(host_state_name(MEMD_HOST_HIGH), "high");
	assert_string_equal(host_state_name(MEMD_HOST_LOW), "low");
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(finds_builtin_policies_by_name),
		TEST(hands_settings_over_before_it_opens),
		TEST(does_not_close_what_did_not_open),
		TEST(refuses_another_interface),
		TEST(shows_the_figures_as_they_are),
		TEST(shows_a_fixed_guest_with_no_choice),
		TEST(survives_any_proposal),
		TEST(keeps_present_targets_when_the_policy_fails),
		TEST(refuses_guests_out_of_order),
		TEST(a_claimed_floor_gets_no_more_than_the_shares_entitle_to),
		cmocka_unit_test(names_every_clamp),
		cmocka_unit_test(falls_at_4_2_1_and_rises_at_6_4_2),
		cmocka_unit_test(crosses_several_states_at_once),
		cmocka_unit_test(large_budgets_keep_a_smaller_part_free),
		cmocka_unit_test(is_stable_at_any_figure),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
