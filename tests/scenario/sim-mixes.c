/* What guests do: the mixes that policies are tried on. Numbers are per mille of the guest's memory. */
#include "tests/scenario/sim.h"

#include "memd/base/cleanup.h"
#include "memd/base/units.h"

#define GUEST_BYTES (256 * MIB)

static uint32_t ramp(uint64_t second, uint64_t seconds, uint32_t from, uint32_t to)
{
	if (second >= seconds)
		return to;
	return (uint32_t)(from +
			  (int64_t)(to - (int64_t)from) * (int64_t)second / (int64_t)seconds);
}

/* 0 to 1000 to 0 over the period, linear. */
static uint32_t triangle(uint64_t second, uint64_t period)
{
	uint64_t x = second % period * 2000 / period;

	return (uint32_t)(x <= 1000 ? x : 2000 - x);
}

/* Starts programs, then does little; now and then somebody works for 20 s. */
static void behave_office(struct sim_guest *g, uint64_t second)
{
	g->allocated_pm = ramp(second, 40, 100, 600);
	g->hot_pm = second < 40 ? g->allocated_pm / 2 : 80;
	if ((second + g->phase) % 240 < 20 && second >= 40)
		g->hot_pm = 350;
}

/* Compiles for 60 of 150 s with nearly all memory, and frees it. */
static void behave_build(struct sim_guest *g, uint64_t second)
{
	uint64_t at = (second + g->phase) % 150;

	g->allocated_pm = 250;
	g->hot_pm = 100;
	if (at < 60 && second > 20) {
		g->allocated_pm = ramp(at, 30, 250, 850);
		g->hot_pm = g->allocated_pm * 7 / 10;
	}
}

/* Follows the day, 600 s long; half of the guests live on the other side of the world. */
static void behave_web(struct sim_guest *g, uint64_t second)
{
	uint32_t load = triangle(second + (g->id % 2 ? 300 : 0), 600);

	g->allocated_pm = ramp(second, 60, 200, 750);
	g->hot_pm = 100 + load * 35 / 100;
	if (g->hot_pm > g->allocated_pm)
		g->hot_pm = g->allocated_pm;
}

static void behave_steady(struct sim_guest *g, uint64_t second)
{
	g->allocated_pm = ramp(second, 30, 100, 600);
	g->hot_pm = g->allocated_pm / 2;
}

static void behave_noisy(struct sim_guest *g, uint64_t second)
{
	g->allocated_pm = second % 50 < 25 ? 950 : 150;
	g->hot_pm = g->allocated_pm;
}

static void behave_hog(struct sim_guest *g, uint64_t second)
{
	g->allocated_pm = ramp(second, 60, 100, 1000);
	g->hot_pm = g->allocated_pm;
}

static void behave_leak(struct sim_guest *g, uint64_t second)
{
	g->allocated_pm = ramp(second, 600, 200, 1000);
	g->hot_pm = 150;
}

/* Boots with much of its memory in use, then settles. */
static void behave_boot(struct sim_guest *g, uint64_t second)
{
	g->allocated_pm = second < 25 ? ramp(second, 20, 50, 800) : 500;
	g->hot_pm = second < 25 ? g->allocated_pm * 9 / 10 : 200;
}

static void basic(struct sim_guest *g, sim_behave_fn behave)
{
	g->configured_bytes = GUEST_BYTES;
	g->min_bytes = GUEST_BYTES / 8;
	g->behave = behave;
}

static void set_up_office(struct sim_guest *g, size_t i, size_t n)
{
	basic(g, behave_office);
	g->started = i / 4;
}

static void set_up_build(struct sim_guest *g, size_t i, size_t n)
{
	basic(g, behave_build);
}

static void set_up_web(struct sim_guest *g, size_t i, size_t n)
{
	basic(g, behave_web);
}

/* The odd one out: one guest of eight. */
static void set_up_noisy(struct sim_guest *g, size_t i, size_t n)
{
	basic(g, i % 8 == 0 ? behave_noisy : behave_office);
}

static void set_up_hog(struct sim_guest *g, size_t i, size_t n)
{
	basic(g, i % 8 == 0 ? behave_hog : behave_office);
}

static void set_up_leak(struct sim_guest *g, size_t i, size_t n)
{
	basic(g, i % 4 == 0 ? behave_leak : behave_steady);
}

static void set_up_boot(struct sim_guest *g, size_t i, size_t n)
{
	basic(g, behave_boot);
	g->started = i * 30 / n;
}

static void set_up_liar(struct sim_guest *g, size_t i, size_t n)
{
	basic(g, i % 8 == 0 ? behave_office : behave_steady);
	if (i % 8 == 0)
		g->claim = i % 16 == 0 ? SIM_CLAIMS_NOTHING_FREE : SIM_CLAIMS_ALL_FREE;
}

const struct sim_mix sim_mixes[] = {
	{"idle-office", set_up_office},
	{"build-farm", set_up_build},
	{"diurnal-web", set_up_web},
	{"noisy-neighbour", set_up_noisy},
	{"memory-hog", set_up_hog},
	{"leak", set_up_leak},
	{"boot-storm", set_up_boot},
	{"lying-guest", set_up_liar},
};
const size_t sim_n_mixes = ARRAY_SIZE(sim_mixes);

void sim_init_mix(struct sim *s, const struct memd_policy *policy, const struct sim_mix *mix,
	size_t n, unsigned overcommit_pc, uint64_t seed)
{
	sim_init(s, policy, NULL, 0, n, seed);
	s->budget_bytes = n * GUEST_BYTES * 100 / overcommit_pc;
	for (size_t i = 0; i < n; i++)
		mix->set_up(&s->guests[i], i, n);
}
