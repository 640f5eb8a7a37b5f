/*
 * bench-wss [--json]: estimated against true working sets. Four guests of 512 MiB, 384 of them
 * filled, at the default settings of memd, beside each other:
 *
 *   steady     128 MiB are walked all the time
 *   growing    64 MiB, then evenly more within 40 s, up to 256
 *   shrinking  256 MiB, then evenly less within 40 s, down to 64
 *   phases     128 MiB, then at once 128 others
 *
 * The truth is what was walked within the last 15 s, from the guest's plan. Settled is what comes
 * SETTLE_S after the truth has last changed, and after the start. Errors are in percent of guest
 * RAM; lag_s is the time from the turn of `phases` (of the others: from the end of the change) until
 * the estimate stays within 5 %.
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "memd/base/clock.h"
#include "tests/guest/host-run.h"

#define RAM_MIB	   512
#define FILLED_MIB 384
#define WINDOW_S   15
#define SETTLE_S   30
#define TURN_S	   60
#define RUN_S	   160
#define BOUND_PCT  5.0

struct workload {
	const char *name;
	double at_mib, mib, to_at_mib, to_mib;
	double turn_s, turn_for_s; /* 0: no turn */
	/* measured */
	struct guest *guest;
	double start_s;
	double settled_max, settled_sum, settled_squares;
	unsigned n_settled;
	double moving_max;
	double last_wrong_s; /* since the change ended (phases: began) */
	double first_cpu_us, cpu_s;
};

static struct workload workloads[] = {
	{.name = "steady", .mib = 128, .to_mib = 128},
	{.name = "growing", .mib = 64, .to_mib = 256, .turn_s = TURN_S, .turn_for_s = 40},
	{.name = "shrinking", .mib = 256, .to_mib = 64, .turn_s = TURN_S, .turn_for_s = 40},
	{.name = "phases", .mib = 128, .to_at_mib = 192, .to_mib = 128, .turn_s = TURN_S},
};

static double now_s(void)
{
	return (double)clock_monotonic_us() / US_PER_S;
}

static void start(struct host_run *h, struct workload *w)
{
	char line[512];

	snprintf(line, sizeof(line),
		"common_mib=0 unique_mib=%d sweep_pages_per_s=0 verify_per_s=60000 hot_mib=%.0f "
		"hot_at_mib=%.0f hot2_mib=%.0f hot2_at_mib=%.0f hot_turn_ms=%.0f "
		"hot_turn_for_ms=%.0f seed=%zu",
		FILLED_MIB, w->mib, w->at_mib, w->to_mib, w->to_at_mib, w->turn_s * 1000,
		w->turn_for_s * 1000, (size_t)(w - workloads) + 1);
	w->guest = host_run_guest(h, w->name, RAM_MIB * MIB, 1, line);
}

/* Size of what was walked within the window: the hot parts only grow, shrink or jump. */
static double truth_mib(const struct workload *w, double t)
{
	double into = t - w->turn_s, from = into - WINDOW_S, here, before;

	if (!(w->turn_s > 0) || into <= 0)
		return w->mib;
	if (!(w->turn_for_s > 0))
		return from < 0 ? w->mib + w->to_mib : w->to_mib;
	here = w->mib + (w->to_mib - w->mib) * fmin(into / w->turn_for_s, 1);
	before = w->mib + (w->to_mib - w->mib) * fmin(fmax(from, 0) / w->turn_for_s, 1);
	return fmax(here, before);
}

static double change_ends_s(const struct workload *w)
{
	return w->turn_s > 0 ? w->turn_s + w->turn_for_s + WINDOW_S : 0;
}

static bool is_settled(const struct workload *w, double t)
{
	bool before = t >= SETTLE_S && (!(w->turn_s > 0) || t < w->turn_s);

	return before || t >= change_ends_s(w) + SETTLE_S;
}

static void measure(struct workload *w, bool verbose)
{
	const struct wss_figures *f = &w->guest->wss.figures;
	double t = now_s() - w->start_s, truth = truth_mib(w, t);
	double error = ((double)f->bytes / MIB - truth) / RAM_MIB * 100, size = fabs(error);

	if (verbose)
		fprintf(stderr,
			"%s t=%.1f true=%.0f est=%.0f slow=%.0f fast=%.0f err3s=%.0f n=%" PRIu64
			" rate=%.1f cost_bp=%u stall_bp=%u idle=%.0f/%.0f/%.0f/%.0f/%.0f\n",
			w->name, t, truth, (double)f->bytes / MIB, (double)f->slow_bytes / MIB,
			(double)f->fast_bytes / MIB, (double)f->error_bytes / MIB, f->samples,
			f->per_second_milli / 1000.0, f->cost_bp,
			w->guest->stall.figures.some_10_bp, (double)f->idle_bytes[0] / MIB,
			(double)f->idle_bytes[1] / MIB, (double)f->idle_bytes[2] / MIB,
			(double)f->idle_bytes[3] / MIB, (double)f->idle_bytes[4] / MIB);
	if (w->turn_s > 0 && t >= w->turn_s && size > BOUND_PCT)
		w->last_wrong_s = t - w->turn_s - w->turn_for_s;
	if (is_settled(w, t)) {
		w->settled_max = fmax(w->settled_max, size);
		w->settled_sum += error;
		w->settled_squares += error * error;
		w->n_settled++;
	} else if (t >= SETTLE_S) {
		w->moving_max = fmax(w->moving_max, size);
	}
}

static double cost_pct(const struct workload *w)
{
	double cpu_us = (double)w->guest->wss.figures.cpu_us - w->first_cpu_us;

	return cpu_us / US_PER_S / (now_s() - w->cpu_s) * 100;
}

static void print_workload(const struct workload *w, bool json)
{
	double mean = w->settled_sum / w->n_settled, rms = sqrt(w->settled_squares / w->n_settled);

	printf(json ? ",\"%s\":{\"error_pct\":%.2f,\"mean_pct\":%.2f,\"rms_pct\":%.2f,"
		      "\"moving_error_pct\":%.2f,\"lag_s\":%.1f,\"cost_core_pct\":%.3f}"
		    : "%-10s worst settled %.2f %%, mean %.2f %%, rms %.2f %%; worst while moving "
		      "%.2f %%, lag %.1f s, cost %.3f %% of a core\n",
		w->name, w->settled_max, mean, rms, w->moving_max, w->last_wrong_s, cost_pct(w));
}

int main(int argc, char *argv[])
{
	bool json = argc > 1 && strcmp(argv[1], "--json") == 0;
	bool verbose = argc > 1 && strcmp(argv[1], "--verbose") == 0;
	double error = 0, cost = 0;
	struct host_run h;

	if (argc > 1 && !json && !verbose)
		host_run_fail("bench-wss [--json | --verbose]");
	host_run_start(&h, "HostMemoryBudget=4G", 2 * GIB);
	for (size_t i = 0; i < ARRAY_SIZE(workloads); i++)
		start(&h, &workloads[i]);
	for (size_t i = 0; i < ARRAY_SIZE(workloads); i++) {
		struct workload *w = &workloads[i];

		host_run_until_text(&h, w->guest, "phase=run", 60 * US_PER_S);
		/* The line says how long it had run for, to one report. */
		w->start_s = now_s();
		w->cpu_s = w->start_s;
		w->first_cpu_us = (double)w->guest->wss.figures.cpu_us;
	}
	for (double end_s = now_s() + RUN_S; now_s() < end_s;) {
		host_run_for(&h, US_PER_S);
		for (size_t i = 0; i < ARRAY_SIZE(workloads); i++)
			measure(&workloads[i], verbose);
	}
	for (size_t i = 0; i < ARRAY_SIZE(workloads); i++) {
		error = fmax(error, workloads[i].settled_max);
		cost = fmax(cost, cost_pct(&workloads[i]));
	}
	if (json)
		printf("{\"error_pct\":%.2f,\"cost_core_pct\":%.3f,\"lag_s\":%.1f", error, cost,
			workloads[3].last_wrong_s);
	for (size_t i = 0; i < ARRAY_SIZE(workloads); i++)
		print_workload(&workloads[i], json);
	if (json)
		puts("}");
	for (size_t i = 0; i < ARRAY_SIZE(workloads); i++)
		if (host_run_value(workloads[i].guest, "corrupt"))
			host_run_fail("guest %s found wrong bytes", workloads[i].name);
	host_run_end(&h);
	return 0;
}
