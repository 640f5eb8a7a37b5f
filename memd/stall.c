/* The averages; see stall.h. */
#include "memd/stall.h"

#include <math.h>

#include "memd/base/clock.h"
#include "memd/base/overflow.h"

#define THRASHING_BP 3333
#define WELL_BP	     500

static const double windows_s[3] = {10, 60, 300};

/* The parts of one interval. */
struct parts {
	double some, full;
};

static struct parts parts_by_kernel(const struct stall *s, const struct stall_in *in)
{
	return (struct parts){
		.some = (double)u64_sub_or_zero(in->some_us, s->last_some_us) / (double)in->wall_us,
		.full = (double)u64_sub_or_zero(in->full_us, s->last_full_us) / (double)in->wall_us,
	};
}

static struct parts parts_by_faults(const struct stall *s, const struct stall_in *in)
{
	double n = in->n_vcpus ? in->n_vcpus : 1;
	double waited = (double)u64_sub_or_zero(in->faults, s->last_faults) * in->fault_us;
	double each = fmin(waited / n / (double)in->wall_us, 1);

	return (struct parts){.some = 1 - pow(1 - each, n), .full = pow(each, n)};
}

static void average(double averages[3], double part, double wall_s)
{
	for (int i = 0; i < 3; i++) {
		double k = exp(-wall_s / windows_s[i]);

		averages[i] = averages[i] * k + part * (1 - k);
	}
}

static uint32_t to_bp(double part)
{
	return (uint32_t)lround(fmin(part, 1) * 10000);
}

static void show(struct stall *s)
{
	s->figures = (struct stall_figures){
		.some_10_bp = to_bp(s->some[0]),
		.some_60_bp = to_bp(s->some[1]),
		.some_300_bp = to_bp(s->some[2]),
		.full_10_bp = to_bp(s->full[0]),
		.full_60_bp = to_bp(s->full[1]),
		.full_300_bp = to_bp(s->full[2]),
		.some_us = (uint64_t)s->some_us,
		.full_us = (uint64_t)s->full_us,
	};
}

static void remember(struct stall *s, const struct stall_in *in)
{
	s->last_some_us = in->some_us;
	s->last_full_us = in->full_us;
	s->last_faults = in->faults;
	s->last_paused_us = in->paused_us;
	s->begun = true;
}

double stall_advance(struct stall *s, const struct stall_in *in)
{
	double wall = (double)in->wall_us, paused, running, n = in->n_vcpus ? in->n_vcpus : 1;
	struct parts p;

	if (!s->begun || in->wall_us == 0) {
		remember(s, in);
		return 1;
	}
	paused = fmin((double)u64_sub_or_zero(in->paused_us, s->last_paused_us) / wall, 1);
	p = in->by_kernel ? parts_by_kernel(s, in) : parts_by_faults(s, in);
	/* Of one vCPU: from some and full of all, the middle of what is possible. */
	running = 1 - fmin((p.full + (p.some - p.full) / n), 1);
	p.some = fmin(p.some + paused, 1);
	p.full = fmin(p.full + paused, 1);
	average(s->some, p.some, wall / US_PER_S);
	average(s->full, p.full, wall / US_PER_S);
	s->some_us += p.some * wall;
	s->full_us += p.full * wall;
	remember(s, in);
	show(s);
	return running * (1 - paused);
}

uint64_t stall_critical(const struct stall *s, uint64_t now, uint64_t resident_bytes)
{
	if (s->figures.some_10_bp >= THRASHING_BP)
		return u64_max(now, resident_bytes);
	if (s->figures.some_60_bp < WELL_BP && s->figures.some_10_bp < WELL_BP)
		return u64_min(now, resident_bytes);
	return now;
}
