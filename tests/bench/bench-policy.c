/*
 * bench-policy [--json]: what a tick costs, and what the policies do to the mixes of the simulator
 * (tests/scenario/sim.h), beside the rules of MOM and Proxmox.
 *
 *   tick_ms_N      CPU time of esx and the filters for N guests, median
 *   stall_us       waiting for memory, microseconds for each honest guest and second; 64 guests of
 *                  256 MiB, 1.75 times the budget, 1200 s
 *   tight_us       the same at 2 times the budget, where not all working sets fit in some mixes
 *   worst_us       the same of the guest that waits most
 *   fit            how many such guests run on 8 GiB while they wait less than 1 % of the time
 *   below_floor    guest-seconds in which a guest had less than its floor and wanted it
 *   out_mib        paged out in all
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "memd/base/cleanup.h"
#include "memd/base/units.h"
#include "policy/builtin.h"
#include "tests/bench/rivals.h"
#include "tests/scenario/sim.h"

#define GUESTS	      64
#define OVERCOMMIT_PC 175
#define TIGHT_PC      200
#define SECONDS	      1200
#define FIT_GUESTS    32 /* of 256 MiB: 8 GiB */
#define FIT_STALL_US  10000
#define TICKS	      301

static const struct memd_policy *const policies[] = {&policy_esx, &policy_proportional,
	&policy_pressure, &policy_balanced, &policy_static, &policy_mom_like, &policy_proxmox_like};

static int compare_u64(const void *a, const void *b)
{
	uint64_t x, y;

	memcpy(&x, a, sizeof(x));
	memcpy(&y, b, sizeof(y));
	return (x > y) - (x < y);
}

static double tick_ms(size_t n)
{
	uint64_t ns[TICKS];
	struct sim s;

	sim_init_mix(&s, &policy_esx, &sim_mixes[0], n, OVERCOMMIT_PC, 1);
	sim_run(&s, n / 4 + 60); /* until all have started and are sampled */
	for (size_t i = 0; i < TICKS; i++) {
		sim_second(&s);
		ns[i] = s.evaluate_ns;
	}
	sim_done(&s);
	qsort(ns, TICKS, sizeof(ns[0]), compare_u64);
	return (double)ns[TICKS / 2] / 1e6;
}

struct figures {
	uint64_t stall_us, tight_us, worst_us, below_floor, out_mib, fit;
};

static bool fits(const struct memd_policy *policy, const struct sim_mix *mix, size_t n)
{
	struct sim s;
	bool result;

	sim_init_mix(&s, policy, mix, n, (unsigned)(n * 100 / FIT_GUESTS), 1);
	sim_run(&s, SECONDS);
	result = sim_stall_us(&s) < FIT_STALL_US;
	sim_done(&s);
	return result;
}

static uint64_t how_many_fit(const struct memd_policy *policy, const struct sim_mix *mix)
{
	size_t n = FIT_GUESTS;

	while (n < FIT_GUESTS * 8 && fits(policy, mix, n + 2))
		n += 2;
	return n;
}

static struct figures measure(const struct memd_policy *policy, const struct sim_mix *mix)
{
	struct figures f = {0};
	struct sim s;

	sim_init_mix(&s, policy, mix, GUESTS, OVERCOMMIT_PC, 1);
	sim_run(&s, SECONDS);
	f.stall_us = sim_stall_us(&s);
	for (size_t i = 0; i < s.n; i++) {
		const struct sim_guest *g = &s.guests[i];
		uint64_t stall_us = g->stall_total_us / (SECONDS - g->started);

		if (g->claim == SIM_HONEST && stall_us > f.worst_us)
			f.worst_us = stall_us;
		f.below_floor += g->below_floor_s;
		f.out_mib += g->out_total_bytes / MIB;
	}
	sim_done(&s);
	sim_init_mix(&s, policy, mix, GUESTS, TIGHT_PC, 1);
	sim_run(&s, SECONDS);
	f.tight_us = sim_stall_us(&s);
	sim_done(&s);
	f.fit = how_many_fit(policy, mix);
	return f;
}

static void print_json(const struct figures f[][ARRAY_SIZE(policies)], const double *ticks)
{
	printf("{\"tick_ms_10\":%.3f,\"tick_ms_100\":%.3f,\"tick_ms_1000\":%.3f,\"mixes\":{",
		ticks[0], ticks[1], ticks[2]);
	for (size_t m = 0; m < sim_n_mixes; m++) {
		printf("%s\"%s\":{", m ? "," : "", sim_mixes[m].name);
		for (size_t p = 0; p < ARRAY_SIZE(policies); p++) {
			const struct figures *x = &f[m][p];

			printf("%s\"%s\":{\"stall_us\":%llu,\"tight_us\":%llu,\"worst_us\":%llu,"
			       "\"fit\":%llu,"
			       "\"below_floor\":%llu,\"out_mib\":%llu}",
				p ? "," : "", policies[p]->name, (unsigned long long)x->stall_us,
				(unsigned long long)x->tight_us, (unsigned long long)x->worst_us,
				(unsigned long long)x->fit, (unsigned long long)x->below_floor,
				(unsigned long long)x->out_mib);
		}
		printf("}");
	}
	printf("}}\n");
}

static void print_table(const struct figures f[][ARRAY_SIZE(policies)], const double *ticks)
{
	printf("tick: %.3f ms for 10 guests, %.3f for 100, %.3f for 1000\n", ticks[0], ticks[1],
		ticks[2]);
	for (size_t m = 0; m < sim_n_mixes; m++) {
		printf("%-16s %10s %10s %10s %6s %12s %10s\n", sim_mixes[m].name, "stall us/s",
			"tight", "worst", "fit", "below floor", "out MiB");
		for (size_t p = 0; p < ARRAY_SIZE(policies); p++)
			printf("  %-14s %10llu %10llu %10llu %6llu %12llu %10llu\n",
				policies[p]->name, (unsigned long long)f[m][p].stall_us,
				(unsigned long long)f[m][p].tight_us,
				(unsigned long long)f[m][p].worst_us,
				(unsigned long long)f[m][p].fit,
				(unsigned long long)f[m][p].below_floor,
				(unsigned long long)f[m][p].out_mib);
	}
}

int main(int argc, char **argv)
{
	bool json = argc > 1 && strcmp(argv[1], "--json") == 0;
	double ticks[] = {tick_ms(10), tick_ms(100), tick_ms(1000)};
	struct figures(*f)[ARRAY_SIZE(policies)] = calloc(sim_n_mixes, sizeof(*f));

	if (!f || (argc > 1 && !json)) {
		fprintf(stderr, "usage: bench-policy [--json]\n");
		return 2;
	}
	for (size_t m = 0; m < sim_n_mixes; m++)
		for (size_t p = 0; p < ARRAY_SIZE(policies); p++)
			f[m][p] = measure(policies[p], &sim_mixes[m]);
	if (json)
		print_json(f, ticks);
	else
		print_table(f, ticks);
	free(f);
	return 0;
}
