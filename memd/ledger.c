/* The sums. See ledger.h for what is believed and why. */
#include "memd/ledger.h"

#include "memd/base/overflow.h"
#include "memd/base/units.h"

#define BP_ONE 10000

/*
 * Mismatch is given as a part of the memory that was compared, but not of less than this part of
 * the configured memory: a guest that has just begun shall not be flagged for a few pages.
 */
#define COMPARED_MIN_PART 16

/* v * part / whole, 0 for nothing; part <= whole. */
static uint64_t scale(uint64_t v, uint64_t part, uint64_t whole)
{
	return whole ? (uint64_t)((unsigned __int128)v * part / whole) : 0;
}

uint64_t ledger_process_bytes(const struct smaps_rollup *rollup, uint64_t page_table_bytes)
{
	return rollup->pss_anon_bytes + rollup->pss_file_bytes + page_table_bytes;
}

uint64_t ledger_bracket_distance(uint64_t a, uint64_t b, uint64_t value)
{
	uint64_t low = u64_min(a, b), high = u64_max(a, b);

	if (value < low)
		return low - value;
	return value > high ? value - high : 0;
}

static uint64_t pages_distance(uint64_t before_pages, uint64_t after_pages, uint64_t kernel_bytes)
{
	return ledger_bracket_distance(
		before_pages * PAGE_BYTES, after_pages * PAGE_BYTES, kernel_bytes);
}

static uint64_t backed_bytes(const struct vmm_stats *s)
{
	return (s->private_pages + s->swapped_pages) * PAGE_BYTES;
}

/*
 * Three claims against three figures of the pagemap, and the pagemap's private pages against the
 * process's anonymous memory, which is never less.
 */
static void compare(const struct ledger_guest_in *in, struct ledger_guest *g)
{
	const struct vmm_stats *a = &in->before, *b = &in->after;
	uint64_t wrong, compared;

	/* A page that is in the wrong state is missing in one and too much in another: once. */
	wrong = u64_max(pages_distance(a->private_pages, b->private_pages, in->ram_anonymous_bytes),
		u64_sub_or_zero(in->ram_file_bytes, u64_max(a->shared_pages + a->template_pages,
							    b->shared_pages + b->template_pages) *
							    PAGE_BYTES));
	wrong = u64_max(
		wrong, pages_distance(a->swapped_pages, b->swapped_pages, in->ram_swapped_bytes));
	wrong += u64_sub_or_zero(in->ram_anonymous_bytes, in->rollup.anonymous_bytes);
	g->mismatch_bytes = u64_sub_or_zero(wrong, in->moved_bytes);
	g->kernel_bytes = in->ram_anonymous_bytes + in->ram_swapped_bytes;
	g->bracket_low_bytes = u64_min(backed_bytes(a), backed_bytes(b));
	g->bracket_high_bytes = u64_max(backed_bytes(a), backed_bytes(b));
	compared = in->ram_anonymous_bytes + (b->shared_pages + b->template_pages) * PAGE_BYTES +
		   in->ram_swapped_bytes;
	compared = u64_max(compared, in->configured_bytes / COMPARED_MIN_PART);
	g->mismatch_bp = (uint32_t)u64_min(scale(BP_ONE, g->mismatch_bytes, compared), BP_ONE);
}

static void fill_guest(const struct ledger_guest_in *in, struct ledger_guest *g)
{
	const struct vmm_stats *s = &in->after;

	*g = (struct ledger_guest){
		.private_bytes = u64_min(in->ram_anonymous_bytes, in->rollup.pss_anon_bytes),
		.shared_bytes = s->shared_pages * PAGE_BYTES,
		.template_bytes = s->template_pages * PAGE_BYTES,
		.swapped_bytes = in->ram_swapped_bytes,
		.hole_untouched_bytes = s->hole_untouched_pages * PAGE_BYTES,
		.hole_zero_bytes = s->hole_zero_pages * PAGE_BYTES,
		.hole_balloon_bytes = s->hole_balloon_pages * PAGE_BYTES,
		.hole_reported_bytes = s->hole_reported_pages * PAGE_BYTES,
		.hole_hinted_bytes = s->hole_hinted_pages * PAGE_BYTES,
		.saved_zero_bytes = s->freed_zero_pages * PAGE_BYTES,
		.saved_balloon_bytes = (s->freed_balloon_pages + s->freed_reported_pages +
					       s->freed_hinted_pages) *
				       PAGE_BYTES,
	};
	g->overhead_bytes = u64_sub_or_zero(
		ledger_process_bytes(&in->rollup, in->page_table_bytes), g->private_bytes);
	/* What of memd-vmm itself is in swap: its tables and stacks are in the guest's cgroup, too. */
	g->overhead_swapped_bytes =
		u64_sub_or_zero(in->rollup.swap_pss_bytes, in->ram_swapped_bytes);
	g->tables_bytes = in->page_table_bytes;
	if (s->guest_stats_time_us && s->guest_free_bytes != UINT64_MAX)
		g->freeable_bytes = u64_min(s->guest_free_bytes, g->private_bytes);
	compare(in, g);
}

static uint64_t group_shared_bytes(const struct ledger_guest *guests,
	const struct ledger_guest_in *in, size_t n, uint32_t group)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < n; i++)
		if (in[i].group == group)
			sum += guests[i].shared_bytes;
	return sum;
}

/*
 * Splits the pool of one group over its members, in proportion to what they map; the parts add up
 * to all of it.
 */
static void split_pool(struct ledger_guest *guests, const struct ledger_guest_in *in, size_t n,
	uint32_t group, uint64_t pool_bytes)
{
	uint64_t whole = group_shared_bytes(guests, in, n, group);
	uint64_t mapped = 0, given = 0;

	for (size_t i = 0; i < n; i++) {
		if (in[i].group != group)
			continue;
		mapped += guests[i].shared_bytes;
		guests[i].shared_cost_bytes = scale(pool_bytes, mapped, whole) - given;
		given += guests[i].shared_cost_bytes;
		guests[i].saved_sharing_bytes =
			u64_sub_or_zero(guests[i].shared_bytes, guests[i].shared_cost_bytes);
	}
}

/* The same for what a template takes. */
static void split_template(struct ledger_guest *guests, const struct ledger_guest_in *in, size_t n,
	uint32_t template, uint64_t memfd_bytes)
{
	uint64_t whole = 0, mapped = 0, given = 0;

	for (size_t i = 0; i < n; i++)
		whole += in[i].template == template ? guests[i].template_bytes : 0;
	for (size_t i = 0; i < n; i++) {
		struct ledger_guest *g = &guests[i];

		if (in[i].template != template)
			continue;
		mapped += g->template_bytes;
		g->template_cost_bytes = scale(memfd_bytes, mapped, whole) - given;
		given += g->template_cost_bytes;
		g->saved_sharing_bytes +=
			u64_sub_or_zero(g->template_bytes, g->template_cost_bytes);
	}
}

static void add_guest(struct ledger_host *h, const struct ledger_guest *g)
{
	h->private_bytes += g->private_bytes;
	h->overhead_bytes += g->overhead_bytes;
	h->swap_used_bytes += g->swapped_bytes + g->overhead_swapped_bytes;
	/* less the pools and the templates: ledger_compute */
	h->saved_sharing_bytes += g->shared_bytes + g->template_bytes;
	h->saved_zero_bytes += g->saved_zero_bytes;
	h->saved_balloon_bytes += g->saved_balloon_bytes;
	h->freeable_bytes += g->freeable_bytes;
	h->bracket_low_bytes += g->bracket_low_bytes;
	h->bracket_high_bytes += g->bracket_high_bytes;
	h->kernel_bytes += g->kernel_bytes;
}

void ledger_compute(const struct ledger_guest_in *guests, size_t n,
	const struct ledger_pool_in *pools, size_t n_pools, const struct ledger_host_in *host,
	struct ledger_guest *ret_guests, struct ledger_host *ret_host)
{
	struct ledger_host h = {.overhead_bytes = host->own_bytes};
	uint64_t mismatch = 0, compared = 0;

	for (size_t i = 0; i < n; i++)
		fill_guest(&guests[i], &ret_guests[i]);
	for (uint32_t p = 0; p < n_pools; p++) {
		split_pool(ret_guests, guests, n, p, pools[p].memfd_bytes);
		mismatch += u64_sub_or_zero(
			group_shared_bytes(ret_guests, guests, n, p), pools[p].referenced_bytes);
		h.pool_bytes += pools[p].memfd_bytes;
		/* A slot that is mapped many times is referenced as often: only without any is it known. */
		h.pool_unmapped_bytes +=
			u64_sub_or_zero(pools[p].memfd_bytes, pools[p].referenced_bytes);
		h.overhead_bytes += pools[p].process_bytes;
	}
	for (uint32_t t = 0; t < host->n_templates; t++) {
		split_template(ret_guests, guests, n, t, host->template_bytes[t]);
		h.template_bytes += host->template_bytes[t];
	}
	for (size_t i = 0; i < n; i++) {
		struct ledger_guest *g = &ret_guests[i];

		g->resident_bytes = g->private_bytes + g->shared_cost_bytes +
				    g->template_cost_bytes + g->overhead_bytes;
		add_guest(&h, g);
		h.configured_bytes += guests[i].configured_bytes;
		mismatch += g->mismatch_bytes;
		compared +=
			g->private_bytes + g->shared_bytes + g->template_bytes + g->swapped_bytes;
	}
	h.saved_sharing_bytes =
		u64_sub_or_zero(h.saved_sharing_bytes, h.pool_bytes + h.template_bytes);
	/* Our part of what zram holds, by the swap slots used. */
	h.swap_occupied_bytes = scale(host->zram_occupied_bytes,
		u64_min(h.swap_used_bytes, host->swap_used_bytes), host->swap_used_bytes);
	h.saved_paging_bytes = u64_sub_or_zero(h.swap_used_bytes, h.swap_occupied_bytes);
	for (size_t i = 0; i < n; i++) {
		struct ledger_guest *g = &ret_guests[i];
		uint64_t swapped = g->swapped_bytes + g->overhead_swapped_bytes;

		g->saved_paging_bytes = scale(h.saved_paging_bytes, swapped, h.swap_used_bytes);
		g->swapped_occupied_bytes =
			scale(h.swap_occupied_bytes, swapped, h.swap_used_bytes);
	}
	h.freeable_bytes += h.pool_unmapped_bytes;
	h.mismatch_bytes = mismatch;
	h.used_bytes = h.private_bytes + h.pool_bytes + h.template_bytes + h.swap_occupied_bytes +
		       h.overhead_bytes;
	compared = u64_max(compared, h.configured_bytes / COMPARED_MIN_PART);
	h.mismatch_bp = (uint32_t)u64_min(scale(BP_ONE, mismatch, compared), BP_ONE);
	*ret_host = h;
}
