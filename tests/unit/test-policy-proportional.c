/*
 * The proportional policy: what it gives in cases worked out by hand, and what holds for any
 * guests. The random mixes come from a generator with fixed seeds, printed; time is virtual.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "memd/base/cleanup.h"
#include "memd/base/overflow.h"
#include "memd/base/units.h"
#include "policy/policy-host.h"

typedef unsigned __int128 u128;

#define TICK_US 1000000

/* splitmix64 (Steele, Lea, Flood 2014). */
static uint64_t random_state;

static uint64_t random_u64(void)
{
	uint64_t z = random_state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

/* low..high, both included. */
static uint64_t random_in(uint64_t low, uint64_t high)
{
	return low + random_u64() % (high - low + 1);
}

struct world {
	struct policy_host *h;
	struct memd_host_view host;
	size_t n;
	struct policy_guest *guests;
	struct policy_decision *decisions;
	/* the virtual guests: what each would have if nobody asked */
	uint64_t *wanted_bytes;
};

static void world_init(struct world *w, size_t n)
{
	*w = (struct world){.n = n, .host = {.tick_us = TICK_US}};
	assert_int_equal(
		policy_host_new(policy_find_builtin("proportional"), NULL, 0, NULL, &w->h, NULL),
		0);
	w->guests = calloc(n, sizeof(*w->guests));
	w->decisions = calloc(n, sizeof(*w->decisions));
	w->wanted_bytes = calloc(n, sizeof(*w->wanted_bytes));
	assert_true(w->guests && w->decisions && w->wanted_bytes);
}

static void world_done(struct world *w)
{
	policy_host_free(w->h);
	free(w->guests);
	free(w->decisions);
	free(w->wanted_bytes);
}

static void evaluate(struct world *w)
{
	struct error e = {0};

	if (policy_host_evaluate(w->h, &w->host, w->guests, w->n, w->decisions, &e) != 0)
		fail_msg("%s", e.text);
}

/* A guest that is new and uses used_mib. */
static struct policy_guest guest(
	uint64_t id, uint32_t shares, uint64_t min_mib, uint64_t max_mib, uint64_t used_mib)
{
	return (struct policy_guest){
		.view =
			{
				.name = "g",
				.id = id,
				.shares = shares,
				.configured_bytes = max_mib * MIB,
				.min_bytes = min_mib * MIB,
				.max_bytes = max_mib * MIB,
				.resident_bytes = used_mib * MIB,
			},
	};
}

static uint64_t sum_of_targets(const struct world *w)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < w->n; i++)
		sum += w->decisions[i].target_bytes;
	return sum;
}

static uint64_t sum_of_proposals(const struct world *w)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < w->n; i++)
		sum += w->decisions[i].proposed_bytes;
	return sum;
}

static uint64_t available_of(const struct world *w)
{
	return u64_sub_or_zero(w->host.budget_bytes, w->host.overhead_bytes);
}

static void gives_everyone_his_most_when_all_fits(void **state)
{
	struct world w;

	world_init(&w, 2);
	w.guests[0] = guest(1, 1, 64, 256, 10);
	w.guests[1] = guest(2, 1000, 64, 512, 500);
	w.host.budget_bytes = 868 * MIB;
	w.host.overhead_bytes = 100 * MIB;
	evaluate(&w);
	assert_int_equal(w.decisions[0].proposed_bytes, 256 * MIB);
	assert_int_equal(w.decisions[1].proposed_bytes, 512 * MIB);
	assert_non_null(strstr(w.decisions[0].reason, "768 MiB"));
	world_done(&w);
}

static void parts_by_shares_when_all_want_more(void **state)
{
	struct world w;

	world_init(&w, 3);
	w.guests[0] = guest(1, 1000, 64, 1024, 1000);
	w.guests[1] = guest(2, 2000, 64, 1024, 1000);
	w.guests[2] = guest(3, 1000, 64, 1024, 1000);
	w.host.budget_bytes = 1000 * MIB;
	w.host.overhead_bytes = 200 * MIB;
	evaluate(&w);
	assert_in_range(w.decisions[0].proposed_bytes, 200 * MIB - 2, 200 * MIB);
	assert_in_range(w.decisions[1].proposed_bytes, 400 * MIB - 2, 400 * MIB);
	assert_in_range(w.decisions[2].proposed_bytes, 200 * MIB - 2, 200 * MIB);
	assert_non_null(strstr(w.decisions[1].reason, "2000 of 4000 shares of 800 MiB"));
	world_done(&w);
}

static void lets_what_one_does_not_need_go_to_others(void **state)
{
	struct world w;

	world_init(&w, 2);
	w.guests[0] = guest(1, 1000, 64, 1024, 80); /* with an eighth: 90 MiB */
	w.guests[1] = guest(2, 1000, 64, 1024, 1000);
	w.host.budget_bytes = 800 * MIB;
	evaluate(&w);
	assert_int_equal(w.decisions[0].proposed_bytes, 90 * MIB);
	assert_in_range(w.decisions[1].proposed_bytes, 710 * MIB - 2, 710 * MIB);
	assert_non_null(strstr(w.decisions[0].reason, "whole demand"));
	world_done(&w);
}

static void counts_what_is_swapped_or_shared_as_demand(void **state)
{
	struct world w;

	world_init(&w, 2);
	w.guests[0] = guest(1, 1000, 64, 1024, 80);
	w.guests[0].view.swapped_bytes = 40 * MIB;
	w.guests[0].view.saved_sharing_bytes = 40 * MIB;
	w.guests[1] = guest(2, 1000, 64, 1024, 1000);
	w.host.budget_bytes = 800 * MIB;
	evaluate(&w);
	assert_int_equal(w.decisions[0].proposed_bytes, 180 * MIB);
	world_done(&w);
}

static void hands_out_what_is_spare_by_shares(void **state)
{
	struct world w;

	world_init(&w, 3);
	w.guests[0] = guest(1, 1000, 64, 1024, 160); /* demand 180 */
	w.guests[1] = guest(2, 3000, 64, 1024, 320); /* 360 */
	w.guests[2] = guest(3, 9000, 64, 100, 96); /* its most is 100 */
	w.host.budget_bytes = 1040 * MIB; /* 400 MiB spare, by 1 : 3 */
	evaluate(&w);
	assert_in_range(w.decisions[0].proposed_bytes, 280 * MIB - 2, 280 * MIB);
	assert_in_range(w.decisions[1].proposed_bytes, 660 * MIB - 2, 660 * MIB);
	assert_int_equal(w.decisions[2].proposed_bytes, 100 * MIB);
	assert_non_null(strstr(w.decisions[0].reason, "400 MiB spare"));
	world_done(&w);
}

static void keeps_floors_even_when_they_do_not_fit(void **state)
{
	struct world w;

	world_init(&w, 2);
	w.guests[0] = guest(1, 1, 300, 1024, 1000);
	w.guests[1] = guest(2, 1000, 300, 1024, 1000);
	w.host.budget_bytes = 600 * MIB;
	evaluate(&w); /* they just fit */
	assert_int_equal(w.decisions[0].proposed_bytes, 300 * MIB);
	assert_int_equal(w.decisions[1].proposed_bytes, 300 * MIB);
	assert_null(strstr(w.decisions[0].reason, "do not fit"));
	w.host.budget_bytes--;
	evaluate(&w);
	assert_int_equal(w.decisions[0].proposed_bytes, 300 * MIB);
	assert_int_equal(w.decisions[1].proposed_bytes, 300 * MIB);
	assert_non_null(strstr(w.decisions[0].reason, "do not fit in 600 MiB"));
	w.host.overhead_bytes = UINT64_MAX; /* more than the budget: nothing is available */
	evaluate(&w);
	assert_int_equal(w.decisions[0].proposed_bytes, 300 * MIB);
	world_done(&w);
}

static void leaves_the_others_the_rest_of_a_fixed_guest(void **state)
{
	struct world w;

	world_init(&w, 2);
	w.guests[0] = guest(1, 1000, 64, 1024, 1000);
	w.guests[0].view.flags = MEMD_GUEST_TARGET_FIXED;
	w.guests[0].fixed_bytes = 600 * MIB;
	w.guests[1] = guest(2, 1000, 64, 1024, 1000);
	w.host.budget_bytes = 800 * MIB;
	evaluate(&w);
	assert_int_equal(w.decisions[0].proposed_bytes, 600 * MIB);
	assert_in_range(w.decisions[1].proposed_bytes, 200 * MIB - 2, 200 * MIB);
	world_done(&w);
}

static void endures_the_largest_figures(void **state)
{
	struct world w;

	world_init(&w, 50);
	w.host.budget_bytes = UINT64_MAX;
	for (size_t i = 0; i < w.n; i++) {
		w.guests[i].view = (struct memd_guest_view){
			.id = i,
			.shares = UINT32_MAX,
			.configured_bytes = UINT64_MAX,
			.min_bytes = UINT64_MAX / 100,
			.max_bytes = UINT64_MAX,
			.resident_bytes = UINT64_MAX,
			.swapped_bytes = UINT64_MAX,
			.saved_sharing_bytes = UINT64_MAX,
		};
	}
	evaluate(&w);
	/* 2^32 shares are 4096 times what the configuration allows, and so is the rounding */
	for (size_t i = 0; i < w.n; i++)
		assert_in_range(w.decisions[i].proposed_bytes, UINT64_MAX / 50 - 2 * 4096,
			UINT64_MAX / 50 + 1);
	world_done(&w);
}

/* Any guests whose floors fit. */
static void make_random(struct world *w, uint64_t seed, size_t n)
{
	uint64_t sum_min = 0, sum_max = 0;

	random_state = seed;
	world_init(w, n);
	for (size_t i = 0; i < n; i++) {
		struct memd_guest_view *g = &w->guests[i].view;

		g->name = "g";
		g->id = i * 3;
		g->shares = (uint32_t)random_in(1, random_in(0, 1) ? 10 : 10000);
		g->configured_bytes = random_in(8, 4096) * 2 * MIB;
		g->max_bytes = random_in(g->configured_bytes / 2, g->configured_bytes);
		g->min_bytes = random_in(0, g->max_bytes);
		g->resident_bytes = random_in(0, g->configured_bytes);
		g->swapped_bytes = random_in(0, g->configured_bytes - g->resident_bytes);
		g->saved_sharing_bytes = random_in(0, g->configured_bytes / 4);
		w->wanted_bytes[i] = random_in(g->configured_bytes / 10, g->configured_bytes);
		sum_min += g->min_bytes;
		sum_max += g->max_bytes;
	}
	w->host.overhead_bytes = random_in(0, GIB);
	w->host.budget_bytes = w->host.overhead_bytes + random_in(sum_min, sum_max + sum_max / 10);
}

/* The demand, as the policy documents it. */
static uint64_t demand_of(const struct memd_guest_view *g)
{
	uint64_t demand = g->resident_bytes + g->swapped_bytes + g->saved_sharing_bytes;

	return u64_max(u64_min(demand + demand / 8, g->max_bytes), g->min_bytes);
}

struct result {
	bool contended; /* the demands do not fit */
	uint64_t sum_max;
};

static struct result result_of(const struct world *w)
{
	uint64_t sum_demand = 0, sum_max = 0;

	for (size_t i = 0; i < w->n; i++) {
		sum_demand += demand_of(&w->guests[i].view);
		sum_max += w->guests[i].view.max_bytes;
	}
	return (struct result){sum_demand > available_of(w), sum_max};
}

static void check_bounds(const struct world *w)
{
	for (size_t i = 0; i < w->n; i++) {
		const struct memd_guest_view *g = &w->guests[i].view;

		assert_in_range(w->decisions[i].proposed_bytes, g->min_bytes, g->max_bytes);
	}
}

/*
 * Everything that is available is handed out, and not a byte more: rounding costs at most 2 bytes a
 * guest.
 */
static void check_sum(const struct world *w, const struct result *r)
{
	uint64_t sum = sum_of_proposals(w), most = u64_min(available_of(w), r->sum_max);

	assert_true(sum <= most);
	assert_true(sum + 2 * w->n >= most);
}

/*
 * Under contention there is one level for all: a guest between its bounds has level * shares; one
 * at its floor would have less, one at its demand more. Compared by pairs, exact but for the
 * rounding.
 */
static void check_shares(const struct world *w)
{
	for (size_t i = 0; i < w->n; i++) {
		const struct memd_guest_view *a = &w->guests[i].view;
		uint64_t target_a = w->decisions[i].proposed_bytes;

		if (target_a == demand_of(a))
			continue; /* its part would be more, but it has no use for it */
		for (size_t j = 0; j < w->n; j++) {
			const struct memd_guest_view *b = &w->guests[j].view;
			uint64_t target_b = w->decisions[j].proposed_bytes;

			if (target_b == b->min_bytes)
				continue;
			if ((u128)(target_a + 2) * b->shares + a->shares <
				(u128)target_b * a->shares)
				fail_msg("%zu has %" PRIu64 " for %u shares, %zu has %" PRIu64
					 " for %u",
					i, target_a, a->shares, j, target_b, b->shares);
		}
	}
}

static const size_t sizes[] = {2, 3, 10, 100, 1000};
#define SEEDS_PER_SIZE(n) ((n) <= 10 ? 200 : (n) <= 100 ? 20 : 2)

static void holds_its_promises_for_any_guests(void **state)
{
	unsigned n_contended = 0, n_mixes = 0;

	for (size_t s = 0; s < ARRAY_SIZE(sizes); s++)
		for (uint64_t seed = 1; seed <= SEEDS_PER_SIZE(sizes[s]); seed++) {
			struct world w;
			struct result r;

			make_random(&w, seed * 1000003 + sizes[s], sizes[s]);
			r = result_of(&w);
			evaluate(&w);
			check_bounds(&w);
			check_sum(&w, &r);
			if (r.contended)
				check_shares(&w);
			n_contended += r.contended;
			n_mixes++;
			world_done(&w);
		}
	print_message(
		"# seeds k * 1000003 + n: %u mixes, %u of them contended\n", n_mixes, n_contended);
	assert_in_range(n_contended, n_mixes / 5, n_mixes - n_mixes / 20);
}

/*
 * One second of the virtual guests: each wants wanted_bytes, holds what its target lets it, and the
 * rest is in swap. Memory beyond the target goes out at 64 MiB a second, and comes in as fast as it
 * likes.
 */
static void live_a_second(struct world *w)
{
	for (size_t i = 0; i < w->n; i++) {
		struct memd_guest_view *g = &w->guests[i].view;
		uint64_t target = w->decisions[i].target_bytes;
		uint64_t holds = u64_min(w->wanted_bytes[i], target);

		if (g->resident_bytes > holds)
			holds = u64_max(holds, u64_sub_or_zero(g->resident_bytes, 64 * MIB));
		g->resident_bytes = holds;
		g->swapped_bytes = u64_sub_or_zero(w->wanted_bytes[i], holds);
		g->saved_sharing_bytes = 0;
		g->target_bytes = target;
	}
	w->host.now_us += TICK_US;
}

/* A guest never has to give up more than a step of what it holds. */
static void check_step(const struct world *w)
{
	for (size_t i = 0; i < w->n; i++) {
		const struct memd_guest_view *g = &w->guests[i].view;
		uint64_t held = u64_min(g->target_bytes, g->resident_bytes);

		assert_true(w->decisions[i].target_bytes + g->configured_bytes / 20 + 1 >= held);
	}
}

/* Runs until the targets have not moved for 20 ticks; fails when they still do after 600. */
static void settle(struct world *w, uint64_t seed)
{
	unsigned quiet = 0;

	for (unsigned tick = 0; quiet < 20; tick++) {
		uint64_t before = u64_max(sum_of_targets(w), available_of(w));
		bool moved = false;

		if (tick == 600)
			fail_msg("seed %" PRIu64 ", %zu guests: the targets do not settle", seed,
				w->n);
		evaluate(w);
		check_step(w);
		/* never more than is available, or, when it already was more, than before */
		assert_true(sum_of_targets(w) <= before);
		for (size_t i = 0; i < w->n; i++)
			moved |= w->decisions[i].target_bytes != w->guests[i].view.target_bytes;
		quiet = moved ? 0 : quiet + 1;
		live_a_second(w);
	}
	check_bounds(w);
	assert_true(sum_of_targets(w) <= available_of(w));
}

static void settles_and_stays_for_any_guests(void **state)
{
	static const size_t counts[] = {2, 12, 100, 1000};

	for (size_t s = 0; s < ARRAY_SIZE(counts); s++)
		for (uint64_t seed = 1; seed <= (counts[s] < 100 ? 20 : 2); seed++) {
			uint64_t sum_min = 0;
			struct world w;

			make_random(&w, seed * 7919 + counts[s], counts[s]);
			settle(&w, seed);

			/* the guests change their minds */
			for (size_t i = 0; i < w.n; i += 2)
				w.wanted_bytes[i] = random_in(0, w.guests[i].view.configured_bytes);
			settle(&w, seed);

			/* the operator lowers the budget to half of what is above the floors */
			for (size_t i = 0; i < w.n; i++)
				sum_min += w.guests[i].view.min_bytes;
			w.host.budget_bytes -= (available_of(&w) - sum_min) / 2;
			settle(&w, seed);
			world_done(&w);
		}
	print_message("# seeds k * 7919 + n\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(gives_everyone_his_most_when_all_fits),
		cmocka_unit_test(parts_by_shares_when_all_want_more),
		cmocka_unit_test(lets_what_one_does_not_need_go_to_others),
		cmocka_unit_test(counts_what_is_swapped_or_shared_as_demand),
		cmocka_unit_test(hands_out_what_is_spare_by_shares),
		cmocka_unit_test(keeps_floors_even_when_they_do_not_fit),
		cmocka_unit_test(leaves_the_others_the_rest_of_a_fixed_guest),
		cmocka_unit_test(endures_the_largest_figures),
		cmocka_unit_test(holds_its_promises_for_any_guests),
		cmocka_unit_test(settles_and_stays_for_any_guests),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
