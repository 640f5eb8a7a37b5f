/* The reclaim ladder; see ladder.h. */
#include "policy/ladder.h"

#include "memd/base/overflow.h"

/* Start values in nanoseconds a page: the fixed order, and about what the test machines measured. */
static const uint64_t prior_ns[LADDER_RUNGS] = {
	[LADDER_SHARE] = 1000,
	[LADDER_BALLOON] = 3000,
	[LADDER_PAGE_OUT] = 15000,
};

#define HALVINGS_MAX 63

void ladder_init(struct ladder *l, uint64_t now_us)
{
	*l = (struct ladder){.halved_us = now_us, .fixed = l->fixed};
}

void ladder_note_freed(struct ladder *l, enum ladder_rung rung, uint64_t pages, uint64_t us)
{
	l->rungs[rung].pages += pages;
	l->rungs[rung].free_us += us;
}

void ladder_note_back(struct ladder *l, enum ladder_rung rung, uint64_t us)
{
	l->rungs[rung].back_us += us;
}

void ladder_age(struct ladder *l, uint64_t now_us)
{
	uint64_t halvings = (now_us - l->halved_us) / LADDER_HALF_LIFE_US;

	if (halvings == 0)
		return;
	l->halved_us += halvings * LADDER_HALF_LIFE_US;
	for (int i = 0; i < LADDER_RUNGS; i++) {
		l->rungs[i].pages >>= u64_min(halvings, HALVINGS_MAX);
		l->rungs[i].free_us >>= u64_min(halvings, HALVINGS_MAX);
		l->rungs[i].back_us >>= u64_min(halvings, HALVINGS_MAX);
	}
}

static uint64_t a_page(const struct ladder *l, enum ladder_rung rung, unsigned __int128 ns)
{
	ns /= (unsigned __int128)l->rungs[rung].pages + LADDER_PRIOR_PAGES;
	return ns > UINT64_MAX / 2 ? UINT64_MAX / 2 : (uint64_t)ns;
}

uint64_t ladder_free_ns(const struct ladder *l, enum ladder_rung rung)
{
	return a_page(l, rung,
		(unsigned __int128)l->rungs[rung].free_us * 1000 +
			prior_ns[rung] * LADDER_PRIOR_PAGES);
}

uint64_t ladder_back_ns(const struct ladder *l, enum ladder_rung rung)
{
	return a_page(l, rung, (unsigned __int128)l->rungs[rung].back_us * 1000);
}

uint64_t ladder_price_ns(const struct ladder *l, enum ladder_rung rung)
{
	return ladder_free_ns(l, rung) + ladder_back_ns(l, rung);
}

const char *ladder_rung_name(enum ladder_rung rung)
{
	static const char *const names[LADDER_RUNGS] = {
		[LADDER_SHARE] = "sharing",
		[LADDER_BALLOON] = "balloon",
		[LADDER_PAGE_OUT] = "page-out",
	};

	return names[rung];
}

bool ladder_before(const struct ladder *l, enum ladder_rung a, enum ladder_rung b)
{
	uint64_t price_a = ladder_price_ns(l, a), price_b = ladder_price_ns(l, b);

	if (l->fixed || a == b)
		return a < b;
	/* clearly dearer: by more than a quarter */
	if (a < b)
		return price_a - price_a / 5 <= price_b;
	return price_b - price_b / 5 > price_a;
}

unsigned ladder_rank(const struct ladder *l, enum ladder_rung rung)
{
	unsigned rank = 0;

	for (int i = 0; i < LADDER_RUNGS; i++)
		rank += ladder_before(l, (enum ladder_rung)i, rung);
	return rank;
}
