/* The simulated host; see sim.h. */
#include "tests/scenario/sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "memd/base/overflow.h"
#include "memd/base/units.h"

#define US_PER_SECOND	 1000000
#define COLD_PERIOD_S	 300
#define COLD_BIAS	 9
/* Measured: a page from zram takes 6 to 10 us, one to it about 10. */
#define FAULT_US	 8
#define OUT_US		 8
/* Of what is out, what it takes in zram. */
#define COMPRESSED_PC	 40
#define GUEST_OVERHEAD	 (4 * MIB)
#define HOST_OVERHEAD	 (16 * MIB)
/* What memd pages out of one guest in a second. */
#define PAGE_OUT_PER_S	 (64 * MIB)
/* The sampler: ready after so long, falls by 1/FALL a second, is off by up to ERROR_PC. */
#define SAMPLED_AFTER_S	 30
#define SAMPLED_FALL	 30
#define SAMPLED_ERROR_PC 4
#define SAMPLED_WINDOW_S 15
/* Thrashing, by which the critical level is found. */
#define THRASH_BP	 2000

uint64_t sim_random(struct sim_guest *g, uint64_t below)
{
	uint64_t z = g->random += UINT64_C(0x9e3779b97f4a7c15); /* splitmix64 */

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return (z ^ (z >> 31)) % below;
}

uint64_t sim_resident(const struct sim_guest *g)
{
	return g->hot_in + g->cold_in + g->garbage;
}

static uint64_t cost_of(const struct sim_guest *g)
{
	return sim_resident(g) + GUEST_OVERHEAD;
}

static uint64_t out_of(const struct sim_guest *g)
{
	return g->hot_out + g->cold_out;
}

static uint64_t allocated_of(const struct sim_guest *g)
{
	return g->hot_in + g->cold_in + out_of(g);
}

static void stall(struct sim_guest *g, uint64_t bytes, uint64_t us_per_page)
{
	g->stall_us += bytes / PAGE_BYTES * us_per_page;
}

static uint64_t part_of(uint64_t bytes, uint64_t numerator, uint64_t denominator)
{
	return denominator ? (uint64_t)((unsigned __int128)bytes * numerator / denominator) : 0;
}

/* Moves up to bytes from one to the other; how many. */
static uint64_t move(uint64_t *from, uint64_t *to, uint64_t bytes)
{
	bytes = u64_min(bytes, *from);
	*from -= bytes;
	*to += bytes;
	return bytes;
}

/* The guest gives pages back to itself: what was resident becomes garbage. */
static void free_pages(struct sim_guest *g, uint64_t bytes)
{
	uint64_t nowhere = 0, left = bytes;

	left -= move(&g->cold_out, &nowhere, part_of(bytes, g->cold_out, allocated_of(g)));
	left -= move(&g->cold_in, &g->garbage, left);
	left -= move(&g->hot_in, &g->garbage, left);
	left -= move(&g->cold_out, &nowhere, left);
	move(&g->hot_out, &nowhere, left);
}

static void allocate_pages(struct sim_guest *g, uint64_t bytes)
{
	bytes -= move(&g->garbage, &g->hot_in, bytes);
	g->hot_in += bytes;
}

/* What the guest allocates, and how much of it is hot. */
static void apply_behaviour(struct sim_guest *g)
{
	uint64_t allocated = g->configured_bytes / 1000 * g->allocated_pm;
	uint64_t hot = u64_min(g->configured_bytes / 1000 * g->hot_pm, allocated), now;

	if (allocated > allocated_of(g))
		allocate_pages(g, allocated - allocated_of(g));
	else
		free_pages(g, allocated_of(g) - allocated);
	now = g->hot_in + g->hot_out;
	if (hot < now) {
		uint64_t cooled = now - hot;

		cooled -= move(&g->hot_out, &g->cold_out, part_of(cooled, g->hot_out, now));
		cooled -= move(&g->hot_in, &g->cold_in, cooled);
		move(&g->hot_out, &g->cold_out, cooled);
	} else {
		uint64_t warmed = hot - now, cold = g->cold_in + g->cold_out;

		warmed -= move(&g->cold_out, &g->hot_out, part_of(warmed, g->cold_out, cold));
		warmed -= move(&g->cold_in, &g->hot_in, warmed);
		move(&g->cold_out, &g->hot_out, warmed);
	}
}

/* Garbage goes out like cold memory: the host does not know better. */
static uint64_t page_out(struct sim_guest *g, uint64_t bytes, unsigned bias)
{
	uint64_t weight, hot, cold, done;

	bytes = u64_min(bytes, sim_resident(g));
	weight = g->hot_in + bias * (g->cold_in + g->garbage);
	hot = part_of(bytes, g->hot_in, weight);
	done = move(&g->hot_in, &g->hot_out, hot);
	cold = part_of(bytes - done, g->garbage, g->cold_in + g->garbage);
	cold = u64_min(cold, g->garbage);
	g->garbage -= cold; /* out, and never asked for again: counted as traffic only */
	done += cold;
	done += move(&g->cold_in, &g->cold_out, bytes - done);
	done += move(&g->hot_in, &g->hot_out, bytes - done);
	g->out_total_bytes += done;
	return done;
}

static void balloon(struct sim_guest *g, uint64_t bytes)
{
	if (g->claim != SIM_CLAIMS_NOTHING_FREE)
		g->garbage -= u64_min(bytes, g->garbage);
}

static uint64_t over_target(const struct sim_guest *g)
{
	return u64_sub_or_zero(cost_of(g), g->target_bytes);
}

static uint64_t above_floor(const struct sim_guest *g)
{
	return u64_sub_or_zero(cost_of(g), g->min_bytes);
}

/* What memd does about a guest over its target. */
static void act(struct sim_guest *g)
{
	balloon(g, over_target(g));
	page_out(g, u64_min(over_target(g), PAGE_OUT_PER_S), COLD_BIAS);
}

/* One second of the guest. */
static void run_guest(struct sim_guest *g, uint64_t second)
{
	uint64_t before = over_target(g), wanted, grown;

	g->stall_us = 0;
	if (g->behave)
		g->behave(g, second - g->started);
	apply_behaviour(g);
	wanted = g->hot_out;
	wanted = u64_min(wanted, (uint64_t)US_PER_SECOND / FAULT_US * PAGE_BYTES);
	g->refault_bytes = move(&g->hot_out, &g->hot_in, wanted);
	g->refault_bytes += move(&g->cold_out, &g->cold_in, g->cold_out / COLD_PERIOD_S);
	stall(g, g->refault_bytes, FAULT_US);
	grown = u64_sub_or_zero(over_target(g), before);
	if (grown) {
		balloon(g, grown);
		grown = u64_sub_or_zero(over_target(g), before);
		stall(g, page_out(g, grown, COLD_BIAS), OUT_US);
	}
}

static uint64_t compressed_of(const struct sim *s)
{
	uint64_t out = 0;

	for (size_t i = 0; i < s->n; i++)
		out += out_of(&s->guests[i]);
	return out / 100 * COMPRESSED_PC;
}

static uint64_t used_of(const struct sim *s)
{
	uint64_t used = HOST_OVERHEAD + compressed_of(s);

	for (size_t i = 0; i < s->n; i++)
		used += cost_of(&s->guests[i]);
	return used;
}

/*
 * The wall: the host may not use more than its budget. Who is over its target pays, in proportion;
 * when nobody is, all do who have more than their floor.
 */
static void hold_budget(struct sim *s)
{
	/* each page out makes zram grow */
	for (int round = 0; round < 8 && used_of(s) > s->budget_bytes; round++) {
		uint64_t excess = (used_of(s) - s->budget_bytes) / (100 - COMPRESSED_PC) * 100;
		uint64_t over = 0, all = 0;

		for (size_t i = 0; i < s->n; i++) {
			over += over_target(&s->guests[i]);
			all += above_floor(&s->guests[i]);
		}
		for (size_t i = 0; i < s->n; i++) {
			struct sim_guest *g = &s->guests[i];
			uint64_t own = over ? over_target(g) : above_floor(g);
			uint64_t part = u64_min(part_of(excess, own, over ? over : all), own);

			stall(g, page_out(g, part, 1), OUT_US);
		}
	}
}

static uint32_t average(uint32_t old_bp, uint64_t now_bp, unsigned seconds)
{
	return (uint32_t)((old_bp * (uint64_t)(seconds - 1) + now_bp) / seconds);
}

static void measure_guest(struct sim_guest *g, uint64_t second)
{
	uint64_t cold = g->cold_in + g->cold_out, active, floor, bp;

	g->stall_us = u64_min(g->stall_us, US_PER_SECOND);
	g->stall_total_us += g->stall_us;
	bp = g->stall_us / (US_PER_SECOND / 10000);
	g->stall_10_bp = average(g->stall_10_bp, bp, 10);
	g->stall_60_bp = average(g->stall_60_bp, bp, 60);
	active = g->hot_in + g->hot_out + cold / COLD_PERIOD_S * SAMPLED_WINDOW_S;
	active = active / 100 * (100 - SAMPLED_ERROR_PC + sim_random(g, 2 * SAMPLED_ERROR_PC + 1));
	g->sampled_fast = (g->sampled_fast + active) / 2;
	g->sampled_slow =
		g->sampled_fast > g->sampled_slow
			? g->sampled_fast
			: g->sampled_slow - (g->sampled_slow - g->sampled_fast) / SAMPLED_FALL;
	floor = u64_min(g->min_bytes, allocated_of(g));
	if (second > g->started && cost_of(g) + 2 * MIB < floor && out_of(g) > 0)
		g->below_floor_s++;
	if (g->stall_10_bp > THRASH_BP)
		g->critical_bytes = u64_max(g->critical_bytes, cost_of(g));
	else
		g->critical_bytes -= g->critical_bytes / 600;
}

/* A change of direction counts when it went further than 2 % of the guest. */
static void count_turns(struct sim_guest *g, uint64_t target_bytes)
{
	uint64_t least = g->configured_bytes / 50;

	if (g->direction >= 0 && target_bytes > g->turn_bytes) {
		g->turn_bytes = target_bytes;
	} else if (g->direction <= 0 && target_bytes < g->turn_bytes) {
		g->turn_bytes = target_bytes;
	} else if (target_bytes > g->turn_bytes + least || target_bytes + least < g->turn_bytes) {
		if (g->direction)
			g->turns++;
		g->direction = target_bytes > g->turn_bytes ? 1 : -1;
		g->turn_bytes = target_bytes;
	}
}

static struct memd_guest_view view_of(const struct sim_guest *g, uint64_t second)
{
	struct memd_guest_view v = {
		.name = g->name,
		.id = g->id,
		.flags = MEMD_GUEST_BALLOON_READY | MEMD_GUEST_CAN_PAGE | MEMD_GUEST_CLAIMS_VALID,
		.shares = g->shares,
		.configured_bytes = g->configured_bytes,
		.min_bytes = g->min_bytes,
		.max_bytes = g->configured_bytes,
		.target_bytes = g->target_bytes,
		.resident_bytes = cost_of(g),
		.swapped_bytes = out_of(g),
		.refault_bytes = g->refault_bytes,
		.working_set_bytes = g->sampled_slow,
		.working_set_slow_bytes = g->sampled_slow,
		.working_set_fast_bytes = g->sampled_fast,
		.stall_some_10_bp = g->stall_10_bp,
		.stall_some_60_bp = g->stall_60_bp,
		.critical_bytes = g->critical_bytes,
	};

	v.hole_bytes = u64_sub_or_zero(g->configured_bytes, sim_resident(g) + out_of(g));
	v.balloon_bytes =
		u64_min(u64_sub_or_zero(g->configured_bytes, g->target_bytes), v.hole_bytes);
	v.claimed_available_bytes =
		u64_sub_or_zero(g->configured_bytes, allocated_of(g) + v.balloon_bytes);
	if (g->claim == SIM_CLAIMS_NOTHING_FREE)
		v.claimed_available_bytes = 0;
	if (g->claim == SIM_CLAIMS_ALL_FREE)
		v.claimed_available_bytes = g->configured_bytes;
	if (second >= g->started + SAMPLED_AFTER_S)
		v.flags |= MEMD_GUEST_WORKING_SET_VALID;
	return v;
}

static void decide(struct sim *s)
{
	struct memd_host_view host = {
		.now_us = (s->second + 1) * US_PER_SECOND,
		.tick_us = US_PER_SECOND,
		.budget_bytes = s->budget_bytes,
		.used_bytes = used_of(s),
		.swap_occupied_bytes = compressed_of(s),
		.overhead_bytes = HOST_OVERHEAD + compressed_of(s),
	};
	uint64_t available = u64_sub_or_zero(s->budget_bytes, host.overhead_bytes), before = 0,
		 after = 0;
	struct timespec t0, t1;
	size_t n = 0;

	s->state = host_state_next(s->state, s->budget_bytes, host.used_bytes);
	host.state = (uint32_t)s->state;
	while (n < s->n && s->guests[n].started <= s->second) {
		s->in[n] = (struct policy_guest){.view = view_of(&s->guests[n], s->second)};
		n++;
	}
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t0);
	if (policy_host_evaluate(s->h, &host, s->in, n, s->decisions, NULL) != 0)
		abort();
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t1);
	s->evaluate_ns =
		(uint64_t)((t1.tv_sec - t0.tv_sec) * INT64_C(1000000000) + t1.tv_nsec - t0.tv_nsec);
	for (size_t i = 0; i < n; i++) {
		struct sim_guest *g = &s->guests[i];

		before += u64_max(g->target_bytes, g->min_bytes);
		after += s->decisions[i].target_bytes;
		g->target_bytes = s->decisions[i].target_bytes;
		count_turns(g, g->target_bytes);
	}
	if (after > u64_max(available, before))
		s->over_target_s++;
}

void sim_second(struct sim *s)
{
	decide(s);
	for (size_t i = 0; i < s->n && s->guests[i].started <= s->second; i++) {
		act(&s->guests[i]);
		run_guest(&s->guests[i], s->second);
	}
	hold_budget(s);
	for (size_t i = 0; i < s->n && s->guests[i].started <= s->second; i++)
		measure_guest(&s->guests[i], s->second);
	s->second++;
}

void sim_run(struct sim *s, uint64_t seconds)
{
	while (seconds-- > 0)
		sim_second(s);
}

uint64_t sim_stall_us(const struct sim *s)
{
	uint64_t sum = 0, guests_s = 0;

	for (size_t i = 0; i < s->n; i++) {
		if (s->guests[i].claim != SIM_HONEST)
			continue;
		sum += s->guests[i].stall_total_us;
		guests_s += s->second - s->guests[i].started;
	}
	return guests_s ? sum / guests_s : 0;
}

static void *allocate(size_t n, size_t bytes)
{
	void *p = calloc(n, bytes);

	if (!p)
		abort();
	return p;
}

void sim_init(struct sim *s, const struct memd_policy *policy,
	const struct policy_setting *settings, size_t n_settings, size_t n, uint64_t seed)
{
	struct error e = {0};

	*s = (struct sim){.n = n};
	if (policy_host_new(policy, settings, n_settings, NULL, &s->h, &e) < 0) {
		fprintf(stderr, "%s\n", e.text);
		abort();
	}
	s->guests = allocate(n, sizeof(*s->guests));
	s->in = allocate(n, sizeof(*s->in));
	s->decisions = allocate(n, sizeof(*s->decisions));
	for (size_t i = 0; i < n; i++) {
		struct sim_guest *g = &s->guests[i];

		snprintf(g->name, sizeof(g->name), "g%zu", i);
		g->id = i + 1;
		g->shares = 1000;
		g->random = seed * 1000003 + i;
		g->phase = sim_random(g, 1000000);
	}
}

void sim_done(struct sim *s)
{
	policy_host_free(s->h);
	free(s->guests);
	free(s->in);
	free(s->decisions);
}
