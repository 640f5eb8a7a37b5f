/* Arithmetic of the wall; see budget.h. */
#include "memd/budget.h"

#include "memd/base/clock.h"
#include "memd/base/overflow.h"
#include "memd/base/units.h"

/* Parts of the budget, in basis points. */
#define RESERVE_BP   100 /* between the wall and the budget */
#define NEAR_BP	     3000 /* closer than this to the budget: fast ticks, since a fill is fast */
#define OVER_BP	     50 /* less than this left: pause */
#define ROOM_BP	     200 /* more than this left: resume */
/* From a decision to its effect: one fast tick, and paging out. */
#define LEAD_US	     (200 * US_PER_MS)
#define PAUSE_MIN_US (500 * US_PER_MS)

static uint64_t part(uint64_t whole, uint64_t bp)
{
	return whole / 10000 * bp;
}

static void measure_growth(struct budget *b, const struct budget_figures *in)
{
	uint64_t elapsed_us = in->now_us - b->last_us;
	uint64_t grown = u64_sub_or_zero(in->zram_bytes, b->last_zram_bytes);
	uint64_t rate = 0;

	if (b->last_us && elapsed_us)
		rate = (uint64_t)((unsigned __int128)grown * US_PER_S / elapsed_us);
	b->zram_growth = u64_max(rate, b->zram_growth / 2);
	b->last_us = in->now_us;
	b->last_zram_bytes = in->zram_bytes;
}

void budget_decide(struct budget *b, const struct budget_figures *in, struct budget_decision *ret)
{
	uint64_t ahead, beside, left, room;

	measure_growth(b, in);
	ahead = (uint64_t)((unsigned __int128)b->zram_growth * LEAD_US / US_PER_S);
	beside = in->outside_bytes + in->zram_bytes;
	*ret = (struct budget_decision){.used_bytes = in->usage_bytes + beside};
	ret->limit_bytes = u64_sub_or_zero(
		in->budget_bytes, beside + ahead + part(in->budget_bytes, RESERVE_BP));
	ret->excess_bytes = u64_sub_or_zero(in->usage_bytes, ret->limit_bytes);
	left = u64_sub_or_zero(in->budget_bytes, ret->used_bytes);
	ret->near = left < part(in->budget_bytes, NEAR_BP);
	ret->over = left < part(in->budget_bytes, OVER_BP);
	room = part(in->budget_bytes, ROOM_BP) + ahead;
	ret->room = left > room;
	ret->to_room_bytes = ret->room ? 0 : room + PAGE_BYTES - left;
	if (ret->used_bytes > in->budget_bytes)
		ret->to_room_bytes += ret->used_bytes - in->budget_bytes;
}

/* How much of it is over the target; negative when under. */
static int64_t over_target(const struct budget_guest *g)
{
	return (int64_t)g->cost_bytes - (int64_t)g->target_bytes;
}

size_t budget_choose_pause(const struct budget_guest *guests, size_t n)
{
	size_t best = BUDGET_NOBODY;

	for (size_t i = 0; i < n; i++) {
		const struct budget_guest *g = &guests[i];

		if (!g->running)
			continue;
		if (best == BUDGET_NOBODY || over_target(g) > over_target(&guests[best]))
			best = i;
	}
	return best;
}

size_t budget_choose_resume(const struct budget_guest *guests, size_t n, uint64_t now_us)
{
	size_t best = BUDGET_NOBODY;

	for (size_t i = 0; i < n; i++) {
		const struct budget_guest *g = &guests[i];

		if (!g->paused || now_us < g->since_us + PAUSE_MIN_US)
			continue;
		if (best == BUDGET_NOBODY || over_target(g) < over_target(&guests[best]))
			best = i;
	}
	return best;
}
