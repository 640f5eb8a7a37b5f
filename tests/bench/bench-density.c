/*
 * bench-density [--json] [--density 2|3]: guests configured to 2 or 3 times the budget, half of what
 * they have filled being cold: the throughput of their working-set loops under memd, under the
 * kernel alone, and without a limit. Four guests of 512 MiB with one vCPU each:
 *
 *   density 2   288 MiB filled, 144 of them hot; pages compress 2:1
 *   density 3   224 MiB filled, 112 of them hot; pages compress about 4:1
 *
 * Three runs. Each warms up, measures, then the cold half becomes the hot one, and the time is taken
 * until the throughput is back at 90 % of what it was, for 3 s. The budget of memd holds everything:
 * guests, what zram occupies, memd itself. The kernel's limit is a memory cgroup of the same size
 * around the guests, so that what zram occupies comes on top (used_mib_kernel shows it); its OOM
 * killer is as the kernel has it, and a guest it kills counts as no throughput.
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "memd/base/clock.h"
#include "memd/base/procfs.h"
#include "tests/guest/host-run.h"

#define N_GUESTS  4
#define RAM_MIB	  512
#define WARM_S	  30
#define MEASURE_S 12
/* Each guest counts from the end of its own fill, which under a limit may be seconds before the last one's. */
#define TURN_S	  (WARM_S + MEASURE_S + 15)
#define AFTER_S	  25
#define STEP_S	  0.5
#define BACK_PART 0.9
#define BACK_S	  3

struct setting {
	unsigned density, filled_mib, noise_bits;
};

static const struct setting settings[] = {
	{.density = 2, .filled_mib = 288, .noise_bits = 64},
	{.density = 3, .filled_mib = 224, .noise_bits = 12},
};

enum mode { NO_LIMIT, MEMD, KERNEL };

struct outcome {
	double pages_per_s;
	double stall_pct;
	double recovery_s; /* AFTER_S: not within the time */
	double used_mib;
	double others_cpu_pct; /* what others took of both cores meanwhile */
	unsigned killed;
};

struct run {
	const struct setting *setting;
	enum mode mode;
	struct host_run host;
	struct guest *guests[N_GUESTS];
	uint64_t ids[N_GUESTS];
	struct cgroup *limit; /* KERNEL */
	double start_s;
};

static double now_s(void)
{
	return (double)clock_monotonic_us() / US_PER_S;
}

static uint64_t budget_bytes(const struct setting *s)
{
	return N_GUESTS * RAM_MIB * MIB / s->density;
}

static bool lives(const struct run *r, unsigned i)
{
	for (size_t k = 0; k < r->host.m->n_guests; k++)
		if (r->host.m->guests[k]->id == r->ids[i])
			return true;
	return false;
}

static uint64_t verified(const struct run *r)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < N_GUESTS; i++)
		sum += lives(r, i) ? host_run_value(r->guests[i], "verified") : 0;
	return sum;
}

/* CPU time of the whole host and of what is ours, in microseconds. */
static double host_busy_us(void)
{
	_cleanup_free_ char *text = NULL;
	uint64_t user, nice, system;

	if (fd_read_file_at(AT_FDCWD, "/proc/stat", 65536, &text, NULL) < 0 ||
		sscanf(text, "cpu %" SCNu64 " %" SCNu64 " %" SCNu64, &user, &nice, &system) != 3)
		return 0;
	return (double)(user + nice + system) * 1e6 / (double)sysconf(_SC_CLK_TCK);
}

static double our_busy_us(const struct run *r)
{
	double sum = (double)clock_process_cpu_us();
	struct proc_stat stat;

	for (unsigned i = 0; i < N_GUESTS; i++)
		if (lives(r, i) && procfs_read_stat(r->guests[i]->child.pid, &stat) == 0)
			sum += (double)stat.cpu_us;
	return sum;
}

static void start_limit(struct run *r)
{
	char mount[4096], name[64];
	struct error e = {0};
	enum cgroup_mode mode = cgroup_detect(mount, sizeof(mount), &e);

	snprintf(name, sizeof(name), "memd-bench-rival-%d", (int)getpid());
	if (mode == CGROUP_NONE || cgroup_new(mode, NULL, name, &r->limit, &e) < 0)
		host_run_fail("no memory cgroup: %s", e.text);
	if (cgroup_set_limit(r->limit, budget_bytes(r->setting), NULL) < 0)
		host_run_fail("cannot limit the cgroup");
}

static void start(struct run *r)
{
	char config[512], line[512], name[16];

	snprintf(config, sizeof(config), "HostMemoryBudget=%" PRIu64 "\n%s",
		r->mode == MEMD ? budget_bytes(r->setting) : 8 * GIB,
		r->mode == MEMD ? ""
				: "Cgroup=off\n[Share]\nMode=off\n[Reclaim]\nPaging=no\n"
				  "WorkingSet=off\n");
	host_run_start(&r->host, config, r->mode == NO_LIMIT ? 0 : 4 * GIB);
	if (r->mode == KERNEL)
		start_limit(r);
	for (unsigned i = 0; i < N_GUESTS; i++) {
		unsigned half = r->setting->filled_mib / 2;

		snprintf(name, sizeof(name), "g%u", i + 1);
		snprintf(line, sizeof(line),
			"common_mib=0 unique_mib=%u sweep_pages_per_s=0 hot_mib=%u hot2_mib=%u "
			"hot2_at_mib=%u hot_turn_ms=%d noise_bits=%u seed=%u report_ms=250",
			2 * half, half, half, half, TURN_S * 1000, r->setting->noise_bits, i + 1);
		r->guests[i] = host_run_guest(&r->host, name, RAM_MIB * MIB, 1, line);
		r->ids[i] = r->guests[i]->id;
		if (r->limit && cgroup_attach(r->limit, r->guests[i]->child.pid) < 0)
			host_run_fail("cannot limit guest %s", name);
	}
	r->start_s = now_s();
	for (unsigned i = 0; i < N_GUESTS; i++)
		while (lives(r, i) && !host_run_has_text(r->guests[i], "phase=run"))
			host_run_for(&r->host, 100 * US_PER_MS);
	/* Turns are counted from each guest's own begin of the run: take the last one's. */
	r->start_s = now_s();
}

static void until(struct run *r, double t)
{
	while (now_s() - r->start_s < t)
		host_run_for(&r->host, 50 * US_PER_MS);
}

static double used_mib(struct run *r)
{
	uint64_t usage = 0;

	if (r->mode == MEMD)
		return (double)r->host.m->figures.used_bytes / MIB;
	if (r->limit)
		(void)cgroup_read_usage(r->limit, &usage);
	wall_read_swap(r->host.m);
	return (double)(usage + r->host.m->swap.zram_occupied_bytes) / MIB;
}

static void measure(struct run *r, struct outcome *o)
{
	double begin_s, busy_us, ours_us, spent_s;
	uint64_t begin;

	until(r, WARM_S);
	begin = verified(r);
	begin_s = now_s();
	busy_us = host_busy_us();
	ours_us = our_busy_us(r);
	until(r, WARM_S + MEASURE_S);
	spent_s = now_s() - begin_s;
	o->pages_per_s = (double)(verified(r) - begin) / spent_s;
	o->others_cpu_pct =
		fmax(host_busy_us() - busy_us - our_busy_us(r) + ours_us, 0) / 1e4 / spent_s;
	o->used_mib = used_mib(r);
	for (unsigned i = 0; i < N_GUESTS; i++)
		if (lives(r, i))
			o->stall_pct += r->guests[i]->stall.figures.some_10_bp / 100.0 / N_GUESTS;
}

/* From the turn until it is as it was, and stays so. */
static double recover(struct run *r, double pages_per_s)
{
	double back_s = AFTER_S;
	uint64_t before;

	until(r, TURN_S);
	before = verified(r);
	for (double t = STEP_S; t < AFTER_S; t += STEP_S) {
		uint64_t now;
		bool back;

		until(r, TURN_S + t);
		now = verified(r);
		back = (double)(now - before) / STEP_S >= BACK_PART * pages_per_s;
		before = now;
		if (!back)
			back_s = AFTER_S;
		else if (back_s >= AFTER_S)
			back_s = t;
		else if (t - back_s >= BACK_S)
			break;
	}
	return back_s;
}

static struct outcome run(const struct setting *s, enum mode mode, bool verbose)
{
	struct run r = {.setting = s, .mode = mode};
	struct outcome o = {0};
	uint64_t corrupt = 0;

	start(&r);
	measure(&r, &o);
	if (mode != NO_LIMIT)
		o.recovery_s = recover(&r, o.pages_per_s);
	for (unsigned i = 0; i < N_GUESTS; i++) {
		o.killed += !lives(&r, i);
		corrupt += lives(&r, i) ? host_run_value(r.guests[i], "corrupt") : 0;
	}
	if (verbose)
		fprintf(stderr,
			"%s: %.0f pages/s, stall %.2f %%, used %.0f MiB, recovery %.1f s, others "
			"took "
			"%.1f %% of a core, %u killed\n",
			mode == MEMD	 ? "memd"
			: mode == KERNEL ? "kernel"
					 : "no limit",
			o.pages_per_s, o.stall_pct, o.used_mib, o.recovery_s, o.others_cpu_pct,
			o.killed);
	host_run_end(&r.host);
	if (r.limit)
		cgroup_remove(r.limit);
	cgroup_free(r.limit);
	if (corrupt)
		host_run_fail("%" PRIu64 " wrong pages", corrupt);
	return o;
}

int main(int argc, char *argv[])
{
	const struct setting *s = &settings[0];
	struct outcome none, memd, kernel;
	bool json = false;

	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--json") == 0)
			json = true;
		else if (strcmp(argv[i], "--density") == 0 && i + 1 < argc &&
			 (strcmp(argv[i + 1], "2") == 0 || strcmp(argv[i + 1], "3") == 0))
			s = &settings[atoi(argv[++i]) - 2];
		else
			host_run_fail("bench-density [--json] [--density 2|3]");
	}
	none = run(s, NO_LIMIT, !json);
	memd = run(s, MEMD, !json);
	kernel = run(s, KERNEL, !json);
	printf(json ? "{\"density\":%u,\"slowdown_pct_memd\":%.2f,\"slowdown_pct_kernel\":%.2f,"
		      "\"stall_pct_memd\":%.2f,\"flip_recovery_s_memd\":%.1f,"
		      "\"flip_recovery_s_kernel\":%.1f,\"killed_memd\":%u,\"killed_kernel\":%u,"
		      "\"used_mib_memd\":%.0f,\"used_mib_kernel\":%.0f,\"budget_mib\":%.0f,"
		      "\"filled_mib\":%u,\"others_cpu_pct\":[%.0f,%.0f,%.0f]}\n"
		    : "density %u: slower by %.2f %% with memd, %.2f %% with the kernel alone; "
		      "stall "
		      "%.2f %%; back after the flip in %.1f s and %.1f s; killed %u and %u; used "
		      "%.0f "
		      "and %.0f MiB of %.0f; each had filled %u MiB (others' CPU %.0f, %.0f, %.0f "
		      "%%)\n",
		s->density, (1 - memd.pages_per_s / none.pages_per_s) * 100,
		(1 - kernel.pages_per_s / none.pages_per_s) * 100, memd.stall_pct, memd.recovery_s,
		kernel.recovery_s, memd.killed, kernel.killed, memd.used_mib, kernel.used_mib,
		(double)budget_bytes(s) / MIB, s->filled_mib, none.others_cpu_pct,
		memd.others_cpu_pct, kernel.others_cpu_pct);
	return 0;
}
