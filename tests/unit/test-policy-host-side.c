/* What the daemon decides beside the policy: claims, the reclaim ladder, admission. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdbool.h>
#include <string.h>

#include "memd/base/units.h"
#include "policy/admission.h"
#include "policy/claims.h"
#include "policy/ladder.h"

#define S UINT64_C(1000000)

/* 1000 MiB, of which 300 in the balloon and 200 never touched: the slack is 62.5 MiB. */
static struct claims_in claim(uint64_t second, uint64_t available_mib)
{
	return (struct claims_in){
		.now_us = second * S,
		.fresh = true,
		.configured_bytes = 1000 * MIB,
		.balloon_bytes = 300 * MIB,
		.available_bytes = available_mib * MIB,
		.absent_bytes = 200 * MIB,
	};
}

static enum claims_verdict check(struct claims *c, struct claims_in in)
{
	return claims_check(c, &in);
}

static void sound_claims_are_believed(void **state)
{
	static const struct {
		uint64_t available_mib;
		enum claims_verdict verdict;
	} samples[] = {
		{0, CLAIMS_TOO_LITTLE},
		{68, CLAIMS_TOO_LITTLE}, /* (200 - 62.5) / 2 = 68.75 */
		{69, CLAIMS_SOUND},
		{700, CLAIMS_SOUND},
		{762, CLAIMS_SOUND},
		{763, CLAIMS_IMPOSSIBLE},
		{UINT64_MAX / MIB, CLAIMS_IMPOSSIBLE},
	};

	for (size_t i = 0; i < sizeof(samples) / sizeof(samples[0]); i++) {
		struct claims c = {0};

		assert_int_equal(check(&c, claim(1, samples[i].available_mib)), samples[i].verdict);
		assert_false(c.distrusted); /* once is no lie */
	}
}

static void a_full_guest_is_no_liar(void **state)
{
	struct claims c = {0};

	for (uint64_t second = 1; second < 100; second++) {
		struct claims_in in = claim(second, 0);

		in.absent_bytes = 0; /* it has touched everything */
		assert_int_equal(check(&c, in), CLAIMS_SOUND);
	}
	assert_false(c.distrusted);
}

static void three_fresh_contradictions_cost_the_trust(void **state)
{
	struct claims c = {0};
	struct claims_in stale = claim(2, 0);

	check(&c, claim(1, 0));
	stale.fresh = false;
	for (int i = 0; i < 10; i++)
		check(&c, stale);
	check(&c, claim(3, 0));
	assert_false(c.distrusted);
	check(&c, claim(4, 300)); /* sound: it begins anew */
	check(&c, claim(5, 0));
	check(&c, claim(6, 0));
	assert_false(c.distrusted);
	check(&c, claim(7, 0));
	assert_true(c.distrusted);
	/* forgiven after a minute without */
	check(&c, claim(66, 300));
	assert_true(c.distrusted);
	check(&c, claim(67, 300));
	assert_false(c.distrusted);
}

static void a_stuck_balloon_is_no_partner(void **state)
{
	struct claims c = {0};
	struct claims_in in = claim(1, 300);

	in.balloon_stuck = true;
	in.fresh = false;
	assert_int_equal(check(&c, in), CLAIMS_STUCK);
	assert_true(c.distrusted);
	assert_true(strlen(claims_verdict_text(CLAIMS_STUCK)) > 0);
	assert_string_equal(claims_verdict_text(CLAIMS_SOUND), "");
}

static void distress_has_to_be_seen(void **state)
{
	assert_true(claims_distress_is_seen(false, 0, 100 * MIB, 0));
	assert_true(claims_distress_is_seen(true, 50 * MIB, 100 * MIB, 0));
	assert_false(claims_distress_is_seen(true, 50 * MIB - 1, 100 * MIB, 99));
	assert_true(claims_distress_is_seen(true, 0, 100 * MIB, 100));
}

static void the_ladder_begins_in_the_fixed_order(void **state)
{
	struct ladder l = {0};

	ladder_init(&l, 0);
	assert_int_equal(ladder_rank(&l, LADDER_SHARE), 0);
	assert_int_equal(ladder_rank(&l, LADDER_BALLOON), 1);
	assert_int_equal(ladder_rank(&l, LADDER_PAGE_OUT), 2);
}

static void what_costs_less_goes_first(void **state)
{
	struct ladder l = {0};

	ladder_init(&l, 0);
	ladder_note_freed(&l, LADDER_PAGE_OUT, 1000000, 5000000); /* 5 us: cold memory */
	assert_int_equal(ladder_rank(&l, LADDER_PAGE_OUT), 2);
	ladder_note_freed(&l, LADDER_BALLOON, 100000, 100000);
	ladder_note_back(&l, LADDER_BALLOON, 5000000); /* the guest swaps: 50 us a page */
	assert_int_equal(ladder_rank(&l, LADDER_PAGE_OUT), 1);
	assert_int_equal(ladder_rank(&l, LADDER_BALLOON), 2);
	assert_in_range(ladder_price_ns(&l, LADDER_BALLOON), 45000, 51000);
	/* of which freeing is a small part: 1 us, and some of the start value */
	assert_in_range(ladder_free_ns(&l, LADDER_BALLOON), 1000, 1100);
	assert_int_equal(ladder_back_ns(&l, LADDER_PAGE_OUT), 0);
	l.fixed = true;
	assert_int_equal(ladder_rank(&l, LADDER_BALLOON), 1);
	l.fixed = false;
	/* and back again when it no more does */
	ladder_age(&l, 10 * LADDER_HALF_LIFE_US);
	assert_int_equal(ladder_rank(&l, LADDER_BALLOON), 1);
}

static void a_few_pages_turn_nothing_over(void **state)
{
	struct ladder l = {0};

	ladder_init(&l, 0);
	ladder_note_freed(&l, LADDER_BALLOON, 10, 10000); /* 1 ms a page */
	assert_int_equal(ladder_rank(&l, LADDER_BALLOON), 1);
	ladder_age(&l, UINT64_MAX); /* a clock gone mad */
	assert_int_equal(ladder_price_ns(&l, LADDER_BALLOON), 3000);
}

static void the_order_is_total_at_any_prices(void **state)
{
	struct ladder l = {0};

	for (uint64_t seed = 1; seed < 5000; seed++) {
		unsigned first = 0;

		ladder_init(&l, 0);
		for (int r = 0; r < LADDER_RUNGS; r++)
			ladder_note_freed(&l, (enum ladder_rung)r, seed * 7919 % 100000,
				seed * (unsigned)(r + 3) * 104729 % 5000000);
		for (int r = 0; r < LADDER_RUNGS; r++) {
			first += ladder_rank(&l, (enum ladder_rung)r) == 0;
			assert_true(ladder_rank(&l, (enum ladder_rung)r) < LADDER_RUNGS);
			for (int o = 0; o < r; o++)
				assert_true(ladder_before(
						    &l, (enum ladder_rung)r, (enum ladder_rung)o) !=
					    ladder_before(
						    &l, (enum ladder_rung)o, (enum ladder_rung)r));
		}
		assert_true(first <= 1);
	}
}

/* A budget of 1000 MiB: 100 are no guest's, 500 are promised. */
static const struct admission_host host = {
	.budget_bytes = 1000 * MIB,
	.used_bytes = 880 * MIB,
	.fixed_bytes = 100 * MIB,
	.reserved_bytes = 500 * MIB,
	.backed_bytes = 1000 * MIB,
	.swap_bytes = 1500 * MIB,
	.working_set_bytes = 650 * MIB,
};
static const struct admission_guest template = {
	.floor_bytes = 92 * MIB,
	.overhead_bytes = 8 * MIB,
	.max_bytes = 392 * MIB,
};

static void floors_are_promised_and_then_freed(void **state)
{
	struct admission_host h = host;

	assert_int_equal(admission_check(&h, &template), ADMISSION_FITS);
	h.used_bytes = 901 * MIB;
	assert_int_equal(admission_check(&h, &template), ADMISSION_ROOM);
	h.used_bytes = 900 * MIB;
	h.waiting_bytes = 1; /* somebody else waits for it */
	assert_int_equal(admission_check(&h, &template), ADMISSION_ROOM);
	h.reserved_bytes = 800 * MIB;
	assert_int_equal(admission_check(&h, &template), ADMISSION_ROOM);
	h.reserved_bytes++;
	assert_int_equal(admission_check(&h, &template), ADMISSION_FLOORS);
}

static void the_forecast_counts_what_would_start(void **state)
{
	struct admission_guest endless = template, nothing = {0};
	struct admission_forecast f;

	admission_forecast(&host, &template, &f);
	assert_int_equal(f.n, 4); /* 400 of 1000 are not promised */
	assert_int_equal(f.n_now, 1); /* 120 are free */
	assert_int_equal(f.n_comfortable, 2); /* 250 are beside the working sets */
	assert_int_equal(f.n_backed, 2); /* 2500 - 1600, by 400 */
	assert_int_equal(f.missing_bytes, 100 * MIB);
	endless.floor_bytes = UINT64_MAX;
	admission_forecast(&host, &endless, &f);
	assert_int_equal(f.n, 0);
	assert_true(f.missing_bytes > UINT64_MAX / 2);
	admission_forecast(&host, &nothing, &f);
	assert_int_equal(f.n, ADMISSION_MANY);
	assert_string_equal(admission_limit_name(ADMISSION_FLOORS), "floors");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sound_claims_are_believed),
		cmocka_unit_test(a_full_guest_is_no_liar),
		cmocka_unit_test(three_fresh_contradictions_cost_the_trust),
		cmocka_unit_test(a_stuck_balloon_is_no_partner),
		cmocka_unit_test(distress_has_to_be_seen),
		cmocka_unit_test(the_ladder_begins_in_the_fixed_order),
		cmocka_unit_test(what_costs_less_goes_first),
		cmocka_unit_test(a_few_pages_turn_nothing_over),
		cmocka_unit_test(the_order_is_total_at_any_prices),
		cmocka_unit_test(floors_are_promised_and_then_freed),
		cmocka_unit_test(the_forecast_counts_what_would_start),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
