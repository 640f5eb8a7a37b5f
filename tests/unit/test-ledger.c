/* The ledger's sums, with numbers made up here. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "memd/base/units.h"
#include "memd/ledger.h"

#define PAGES(mib) ((mib)*MIB / PAGE_BYTES)

/*
 * A guest of 256 MiB whose claims and kernel figures agree: 64 private, 48 shared, 32 swapped, the
 * rest holes.
 */
static struct ledger_guest_in truthful(void)
{
	struct ledger_guest_in in = {
		.configured_bytes = 256 * MIB,
		.group = 0,
		.before =
			{
				.ram_pages = PAGES(256),
				.private_pages = PAGES(64),
				.shared_pages = PAGES(48),
				.swapped_pages = PAGES(32),
				.hole_untouched_pages = PAGES(54),
				.hole_zero_pages = PAGES(20),
				.hole_balloon_pages = PAGES(20),
				.hole_reported_pages = PAGES(10),
				.hole_hinted_pages = PAGES(8),
				.freed_zero_pages = PAGES(18),
				.freed_balloon_pages = PAGES(12),
				.freed_reported_pages = PAGES(7),
				.freed_hinted_pages = PAGES(5),
			},
		.rollup =
			{
				.anonymous_bytes = 66 * MIB,
				.pss_anon_bytes = 66 * MIB,
				.pss_file_bytes = 1 * MIB,
			},
		.page_table_bytes = 1 * MIB,
		.ram_anonymous_bytes = 64 * MIB,
		.ram_swapped_bytes = 32 * MIB,
		.ram_file_bytes = 48 * MIB,
	};

	in.after = in.before;
	return in;
}

static void a_guest_costs_private_pages_its_part_of_the_pool_and_overhead(void **state)
{
	struct ledger_guest_in in = truthful();
	struct ledger_pool_in pool = {.memfd_bytes = 16 * MIB, .referenced_bytes = 200 * MIB};
	struct ledger_host_in host = {0};
	struct ledger_guest g;
	struct ledger_host h;

	ledger_compute(&in, 1, &pool, 1, &host, &g, &h);
	assert_int_equal(g.private_bytes, 64 * MIB);
	assert_int_equal(g.shared_cost_bytes, 16 * MIB);
	assert_int_equal(g.overhead_bytes, 4 * MIB); /* 2 of heap, 1 of files, 1 of page tables */
	assert_int_equal(g.resident_bytes, 84 * MIB);
	assert_int_equal(g.saved_sharing_bytes, 32 * MIB);
	assert_int_equal(g.saved_zero_bytes, 18 * MIB);
	assert_int_equal(g.saved_balloon_bytes, 24 * MIB);
	assert_int_equal(g.mismatch_bp, 0);
}

/* Two clones map 96 and 32 MiB of a template of 100 MiB; a third guest is of none. */
static void clones_pay_for_their_template_in_proportion(void **state)
{
	struct ledger_guest_in in[3] = {truthful(), truthful(), truthful()};
	const uint64_t template_bytes[] = {100 * MIB};
	struct ledger_host_in host = {.template_bytes = template_bytes, .n_templates = 1};
	struct ledger_guest g[3];
	struct ledger_host h;

	for (unsigned i = 0; i < 3; i++) {
		in[i].group = LEDGER_NO_GROUP;
		in[i].template = LEDGER_NO_GROUP;
		in[i].before.shared_pages = in[i].after.shared_pages = 0;
		in[i].before.hole_untouched_pages = in[i].after.hole_untouched_pages = PAGES(14);
		in[i].before.template_pages = in[i].after.template_pages = PAGES(96);
	}
	in[0].template = in[1].template = 0;
	in[1].before.template_pages = in[1].after.template_pages = PAGES(32);
	ledger_compute(in, 3, NULL, 0, &host, g, &h);
	assert_int_equal(g[0].template_bytes, 96 * MIB);
	assert_int_equal(g[0].template_cost_bytes, 75 * MIB);
	assert_int_equal(g[1].template_cost_bytes, 25 * MIB);
	assert_int_equal(g[2].template_cost_bytes, 0);
	assert_int_equal(g[0].resident_bytes, 64 * MIB + 75 * MIB + g[0].overhead_bytes);
	assert_int_equal(g[0].saved_sharing_bytes, 21 * MIB);
	assert_int_equal(h.template_bytes, 100 * MIB);
	assert_int_equal(h.used_bytes,
		h.private_bytes + h.template_bytes + h.overhead_bytes + h.swap_occupied_bytes);
	assert_int_equal(g[0].mismatch_bp, 0);
	/* a page map that shows more of files than there is claimed */
	in[1].ram_file_bytes = 40 * MIB;
	ledger_compute(in, 3, NULL, 0, &host, g, &h);
	assert_int_equal(g[1].mismatch_bytes, 8 * MIB);
}

static void the_states_of_a_guest_add_up_to_its_memory(void **state)
{
	struct ledger_guest_in in = truthful();
	struct ledger_pool_in pool = {.memfd_bytes = 16 * MIB, .referenced_bytes = 200 * MIB};
	struct ledger_host_in host = {0};
	struct ledger_guest g;
	struct ledger_host h;

	ledger_compute(&in, 1, &pool, 1, &host, &g, &h);
	assert_int_equal(g.private_bytes + g.shared_bytes + g.swapped_bytes +
				 g.hole_untouched_bytes + g.hole_zero_bytes + g.hole_balloon_bytes +
				 g.hole_reported_bytes + g.hole_hinted_bytes,
		256 * MIB);
}

static void the_host_uses_the_sum_of_everything(void **state)
{
	struct ledger_guest_in in[2] = {truthful(), truthful()};
	struct ledger_pool_in pool = {
		.memfd_bytes = 50 * MIB, .referenced_bytes = 200 * MIB, .process_bytes = 3 * MIB};
	struct ledger_host_in host = {
		.own_bytes = 5 * MIB,
		.swap_used_bytes = 128 * MIB, /* half of it ours */
		.zram_occupied_bytes = 40 * MIB,
	};
	struct ledger_guest g[2];
	struct ledger_host h;

	ledger_compute(in, 2, &pool, 1, &host, g, &h);
	assert_int_equal(h.private_bytes, 128 * MIB);
	assert_int_equal(h.pool_bytes, 50 * MIB);
	assert_int_equal(h.swap_used_bytes, 64 * MIB);
	assert_int_equal(h.swap_occupied_bytes, 20 * MIB);
	assert_int_equal(h.overhead_bytes, (5 + 3 + 4 + 4) * MIB);
	assert_int_equal(h.used_bytes, (128 + 50 + 20 + 16) * MIB);
	assert_int_equal(h.saved_paging_bytes, 44 * MIB);
	assert_int_equal(h.saved_sharing_bytes, (96 - 50) * MIB);
	assert_int_equal(h.configured_bytes, 512 * MIB);
	/* Guests' parts add up to the host's. */
	assert_int_equal(g[0].shared_cost_bytes + g[1].shared_cost_bytes, 50 * MIB);
	assert_int_equal(g[0].saved_paging_bytes + g[1].saved_paging_bytes, 44 * MIB);
	assert_int_equal(g[0].resident_bytes + g[1].resident_bytes + h.swap_occupied_bytes +
				 host.own_bytes + pool.process_bytes,
		h.used_bytes);
}

static void parts_of_a_pool_add_up_whatever_does_not_divide(void **state)
{
	struct ledger_guest_in in[3] = {truthful(), truthful(), truthful()};
	struct ledger_pool_in pool = {
		.memfd_bytes = 10 * MIB + PAGE_BYTES, .referenced_bytes = 200 * MIB};
	struct ledger_host_in host = {0};
	struct ledger_guest g[3];
	struct ledger_host h;

	in[1].ram_file_bytes = 7 * PAGE_BYTES;
	in[1].after.shared_pages = 7;
	ledger_compute(in, 3, &pool, 1, &host, g, &h);
	assert_int_equal(g[0].shared_cost_bytes + g[1].shared_cost_bytes + g[2].shared_cost_bytes,
		pool.memfd_bytes);
}

static void a_pool_is_split_among_its_own_group_only(void **state)
{
	struct ledger_guest_in in[2] = {truthful(), truthful()};
	struct ledger_pool_in pools[2] = {{.memfd_bytes = 8 * MIB, .referenced_bytes = 200 * MIB},
		{.memfd_bytes = 24 * MIB, .referenced_bytes = 200 * MIB}};
	struct ledger_host_in host = {0};
	struct ledger_guest g[2];
	struct ledger_host h;

	in[1].group = 1;
	ledger_compute(in, 2, pools, 2, &host, g, &h);
	assert_int_equal(g[0].shared_cost_bytes, 8 * MIB);
	assert_int_equal(g[1].shared_cost_bytes, 24 * MIB);
}

static void a_figure_between_two_claims_is_no_mismatch(void **state)
{
	assert_int_equal(ledger_bracket_distance(10, 20, 9), 1);
	assert_int_equal(ledger_bracket_distance(10, 20, 10), 0);
	assert_int_equal(ledger_bracket_distance(20, 10, 20), 0);
	assert_int_equal(ledger_bracket_distance(20, 10, 21), 1);
}

static void false_claims_show_as_mismatch(void **state)
{
	struct ledger_guest_in in = truthful();
	struct ledger_pool_in pool = {.memfd_bytes = 16 * MIB, .referenced_bytes = 200 * MIB};
	struct ledger_host_in host = {0};
	struct ledger_guest g;
	struct ledger_host h;

	/* 2.88 MiB of 144 compared are 2 %: not flagged; a page more is. */
	in.before.private_pages = in.after.private_pages = PAGES(64) - 737;
	in.before.hole_untouched_pages = in.after.hole_untouched_pages = PAGES(62) + 737;
	ledger_compute(&in, 1, &pool, 1, &host, &g, &h);
	assert_in_range(g.mismatch_bp, 190, LEDGER_MISMATCH_LIMIT_BP);
	in.before.private_pages = in.after.private_pages = PAGES(64) - 745;
	ledger_compute(&in, 1, &pool, 1, &host, &g, &h);
	assert_true(g.mismatch_bp > LEDGER_MISMATCH_LIMIT_BP);
	assert_true(h.mismatch_bp > LEDGER_MISMATCH_LIMIT_BP);
	assert_int_equal(g.private_bytes, 64 * MIB); /* the kernel is believed */
	in.moved_bytes = 745 * PAGE_BYTES; /* page-out explains it */
	ledger_compute(&in, 1, &pool, 1, &host, &g, &h);
	assert_int_equal(g.mismatch_bp, 0);
}

static void more_private_memory_in_the_pagemap_than_anonymous_is_a_mismatch(void **state)
{
	struct ledger_guest_in in = truthful();
	struct ledger_pool_in pool = {.memfd_bytes = 16 * MIB, .referenced_bytes = 200 * MIB};
	struct ledger_host_in host = {0};
	struct ledger_guest g;
	struct ledger_host h;

	in.rollup.anonymous_bytes = 54 * MIB;
	ledger_compute(&in, 1, &pool, 1, &host, &g, &h);
	assert_int_equal(g.mismatch_bytes, 10 * MIB);
}

static void more_shared_pages_than_the_pool_gave_are_a_mismatch(void **state)
{
	struct ledger_guest_in in = truthful();
	struct ledger_pool_in pool = {.memfd_bytes = 16 * MIB, .referenced_bytes = 48 * MIB};
	struct ledger_host_in host = {0};
	struct ledger_guest g;
	struct ledger_host h;

	in.ram_file_bytes = 10 * MIB; /* the rest was not touched yet */
	ledger_compute(&in, 1, &pool, 1, &host, &g, &h);
	assert_int_equal(g.shared_bytes, 48 * MIB);
	assert_int_equal(h.mismatch_bp, 0);
	pool.referenced_bytes = 40 * MIB;
	ledger_compute(&in, 1, &pool, 1, &host, &g, &h);
	assert_int_equal(h.mismatch_bp, 10000 * 8 / 144);
	in.ram_file_bytes = 50 * MIB;
	ledger_compute(&in, 1, &pool, 1, &host, &g, &h);
	assert_int_equal(g.mismatch_bytes, 2 * MIB);
}

static void swap_of_others_is_not_counted_as_ours(void **state)
{
	struct ledger_guest_in in = truthful();
	struct ledger_pool_in pool = {0};
	struct ledger_host_in host = {.swap_used_bytes = 16 * MIB, .zram_occupied_bytes = 6 * MIB};
	struct ledger_guest g;
	struct ledger_host h;

	/* More swapped than the device says is in use: never more than all of it. */
	ledger_compute(&in, 1, &pool, 1, &host, &g, &h);
	assert_int_equal(h.swap_occupied_bytes, 6 * MIB);
	host.swap_used_bytes = 0;
	ledger_compute(&in, 1, &pool, 1, &host, &g, &h);
	assert_int_equal(h.swap_occupied_bytes, 0);
}

static void no_guests_cost_what_memd_costs(void **state)
{
	struct ledger_host_in host = {.own_bytes = 5 * MIB};
	struct ledger_host h;

	ledger_compute(NULL, 0, NULL, 0, &host, NULL, &h);
	assert_int_equal(h.used_bytes, 5 * MIB);
	assert_int_equal(h.mismatch_bp, 0);
}

static void what_swapped_pages_take_adds_up_by_the_ratio_of_the_swap(void **state)
{
	struct ledger_guest_in in[2] = {truthful(), truthful()};
	struct ledger_host_in host = {
		.swap_used_bytes = 160 * MIB,
		.zram_occupied_bytes = 40 * MIB,
	};
	struct ledger_guest g[2];
	struct ledger_host h;

	in[0].group = in[1].group = LEDGER_NO_GROUP;
	in[1].ram_swapped_bytes = 64 * MIB;
	in[1].before.swapped_pages = in[1].after.swapped_pages = PAGES(64);
	ledger_compute(in, 2, NULL, 0, &host, g, &h);
	assert_int_equal(g[0].swapped_occupied_bytes, 8 * MIB);
	assert_int_equal(g[1].swapped_occupied_bytes, 16 * MIB);
	assert_int_equal(g[0].tables_bytes, 1 * MIB);
}

static void what_can_be_freed_now_is_claimed_free_or_mapped_by_nobody(void **state)
{
	struct ledger_guest_in in[2] = {truthful(), truthful()};
	struct ledger_pool_in pool = {.memfd_bytes = 110 * MIB, .referenced_bytes = 100 * MIB};
	struct ledger_host_in host = {0};
	struct ledger_guest g[2];
	struct ledger_host h;

	for (int i = 0; i < 2; i++)
		in[i].after.guest_free_bytes = UINT64_MAX;
	in[0].after.guest_free_bytes = 1000 * MIB; /* no more than it has */
	in[0].after.guest_stats_time_us = 1;
	in[1].after.guest_stats_time_us = 1;
	ledger_compute(in, 2, &pool, 1, &host, g, &h);
	assert_int_equal(g[0].freeable_bytes, 64 * MIB);
	assert_int_equal(g[1].freeable_bytes, 0);
	assert_int_equal(h.pool_unmapped_bytes, 10 * MIB);
	assert_int_equal(h.freeable_bytes, 74 * MIB);
}

static void shows_the_bracket_and_what_lies_outside(void **state)
{
	struct ledger_guest_in in = truthful();
	struct ledger_host_in host = {0};
	struct ledger_guest g;
	struct ledger_host h;

	in.group = LEDGER_NO_GROUP;
	in.after.private_pages = PAGES(62);
	in.ram_anonymous_bytes = 60 * MIB;
	ledger_compute(&in, 1, NULL, 0, &host, &g, &h);
	assert_int_equal(h.bracket_low_bytes, 94 * MIB);
	assert_int_equal(h.bracket_high_bytes, 96 * MIB);
	assert_int_equal(h.kernel_bytes, 92 * MIB);
	assert_int_equal(g.mismatch_bytes, 2 * MIB);
	assert_true(h.mismatch_bytes >= 2 * MIB);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_guest_costs_private_pages_its_part_of_the_pool_and_overhead),
		cmocka_unit_test(clones_pay_for_their_template_in_proportion),
		cmocka_unit_test(the_states_of_a_guest_add_up_to_its_memory),
		cmocka_unit_test(the_host_uses_the_sum_of_everything),
		cmocka_unit_test(parts_of_a_pool_add_up_whatever_does_not_divide),
		cmocka_unit_test(a_pool_is_split_among_its_own_group_only),
		cmocka_unit_test(a_figure_between_two_claims_is_no_mismatch),
		cmocka_unit_test(false_claims_show_as_mismatch),
		cmocka_unit_test(more_private_memory_in_the_pagemap_than_anonymous_is_a_mismatch),
		cmocka_unit_test(more_shared_pages_than_the_pool_gave_are_a_mismatch),
		cmocka_unit_test(swap_of_others_is_not_counted_as_ours),
		cmocka_unit_test(what_swapped_pages_take_adds_up_by_the_ratio_of_the_swap),
		cmocka_unit_test(what_can_be_freed_now_is_claimed_free_or_mapped_by_nobody),
		cmocka_unit_test(shows_the_bracket_and_what_lies_outside),
		cmocka_unit_test(no_guests_cost_what_memd_costs),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
