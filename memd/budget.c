/* Arithmetic of the wall; see budget.h. */
#include "memd/budget.h"

#include <math.h>

#include "memd/base/clock.h"
#include "memd/base/overflow.h"
#include "memd/base/units.h"

/* Parts of the budget, in basis points. */
#define RESERVE_BP	100 /* between the wall and the budget */
#define NEAR_BP		3000 /* closer than this to the budget: fast ticks, since a fill is fast */
#define OVER_BP		50 /* less than this left: pause */
#define ROOM_BP		200 /* more than this left: resume */
/* From a decision to its effect: one fast tick, and paging out. */
#define LEAD_US		(200 * US_PER_MS)
#define PAUSE_MIN_US	(100 * US_PER_MS)
/* What is expected at least, and at most, of the host (budget_note). */
#define LOOK_MIN_US	(10 * US_PER_MS)
#define PARK_MIN_US	(5 * US_PER_MS)
#define REACTION_MAX_US (200 * US_PER_MS)
#define SLOWEST_HALF_US (10 * US_PER_S)
/* Growth is measured over no less: the kernel counts in batches. */
#define GROWTH_MIN_US	(2 * US_PER_MS)

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

static void measure_used(struct budget *b, uint64_t now_us, uint64_t used_bytes)
{
	uint64_t elapsed_us = now_us - b->last_used_us;
	double rate = 0;

	if (b->last_used_us && elapsed_us < GROWTH_MIN_US)
		return;
	if (b->last_used_us)
		rate = (double)u64_sub_or_zero(used_bytes, b->last_used_bytes) * US_PER_S /
		       (double)elapsed_us;
	b->growth = fmax(rate, b->growth * exp2(-(double)elapsed_us / US_PER_S));
	b->last_used_us = now_us;
	b->last_used_bytes = used_bytes;
}

static double slowest_now(const struct slowest *s, uint64_t now_us)
{
	return s->us * exp2(-(double)u64_sub_or_zero(now_us, s->at_us) / SLOWEST_HALF_US);
}

void budget_note(struct slowest *s, uint64_t now_us, uint64_t took_us)
{
	s->us = fmax(fmin((double)took_us, REACTION_MAX_US), slowest_now(s, now_us));
	s->at_us = now_us;
}

/* In which a guest goes on growing after a reading that let it. */
static double reaction_us(const struct budget *b, uint64_t now_us)
{
	return fmax(slowest_now(&b->look, now_us), LOOK_MIN_US) +
	       fmax(slowest_now(&b->pause, now_us), PARK_MIN_US);
}

void budget_decide(struct budget *b, const struct budget_figures *in, struct budget_decision *ret)
{
	uint64_t ahead, beside, left, room, reaction;

	measure_growth(b, in);
	ahead = (uint64_t)((unsigned __int128)b->zram_growth * LEAD_US / US_PER_S);
	beside = in->outside_bytes + in->zram_bytes;
	*ret = (struct budget_decision){.used_bytes = in->usage_bytes + beside};
	ret->limit_bytes = u64_sub_or_zero(
		in->budget_bytes, beside + ahead + part(in->budget_bytes, RESERVE_BP));
	ret->excess_bytes = u64_sub_or_zero(in->usage_bytes, ret->limit_bytes);
	measure_used(b, in->now_us, ret->used_bytes);
	reaction = u64_min((uint64_t)(b->growth * reaction_us(b, in->now_us) / US_PER_S),
		in->budget_bytes / 8);
	left = u64_sub_or_zero(in->budget_bytes, ret->used_bytes);
	ret->near = left < part(in->budget_bytes, NEAR_BP);
	ret->over = left < part(in->budget_bytes, OVER_BP) + reaction;
	room = part(in->budget_bytes, ROOM_BP) + u64_max(ahead, 3 * reaction);
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
