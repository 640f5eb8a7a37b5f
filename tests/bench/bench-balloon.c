/*
 * How fast a guest's free memory gets to the host, by each way that there is: gigabytes a second of
 * host CPU, and of wall time.
 *
 *   balloon     inflate, neighbours in the free list are neighbours in memory
 *   naive       inflate, no two pages of a request are neighbours: one discard per 4 KiB page, which
 *               is what a balloon costs that does not gather ranges
 *   deflate     the balloon's pages back to the guest (which faults them in later, not counted)
 *   reporting   free page reporting
 *   hint        free page hinting, exact
 *
 * The freestanding guest with its own drivers, one vCPU, anonymous memory in small pages that the
 * guest has written. Host CPU is that of all threads of memd-vmm but the vCPU's (its work is the
 * guest's; the faults that logging costs it are not counted). Median of RUNS.
 *
 *   bench-balloon [--json]
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "memd/base/clock.h"
#include "memd/base/fd.h"
#include "memd/base/units.h"
#include "tests/guest/vmm-run.h"

#define MEMORY_BYTES (384 * MIB)
#define USED_MIB     256
#define USED_PAGES   (USED_MIB * MIB / PAGE_BYTES)
#define RUNS	     3
#define WAIT_MS	     60000

struct cost {
	double cpu_s;
	double wall_s;
	uint64_t pages;
};

static void fail(const char *what)
{
	fprintf(stderr, "bench-balloon: %s\n", what);
	exit(1);
}

/* CPU seconds of one thread, unless it is a vCPU's. */
static double thread_cpu_s(pid_t pid, const char *tid)
{
	_cleanup_free_ char *comm = NULL, *schedstat = NULL;
	char path[320];
	size_t size;

	snprintf(path, sizeof(path), "/proc/%d/task/%s/comm", (int)pid, tid);
	if (fd_read_file_at(AT_FDCWD, path, 64, &comm, &size) < 0 || strncmp(comm, "vcpu", 4) == 0)
		return 0;
	snprintf(path, sizeof(path), "/proc/%d/task/%s/schedstat", (int)pid, tid);
	if (fd_read_file_at(AT_FDCWD, path, 128, &schedstat, &size) < 0)
		fail("no /proc/PID/task/TID/schedstat");
	return strtod(schedstat, NULL) / 1e9;
}

static double host_cpu_s(const struct vmm_run *v)
{
	char path[48];
	double sum = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)vmm_run_pid(v));
	dir = opendir(path);
	if (!dir)
		fail("memd-vmm has gone");
	for (struct dirent *entry; (entry = readdir(dir));)
		if (entry->d_name[0] != '.')
			sum += thread_cpu_s(vmm_run_pid(v), entry->d_name);
	closedir(dir);
	return sum;
}

static struct vmm_run *start(const char *workload)
{
	char cmdline[256];
	const struct vmm_run_options o = {
		.cmdline = cmdline, .memory_bytes = MEMORY_BYTES, .n_vcpus = 1};
	struct vmm_run *v;

	snprintf(cmdline, sizeof(cmdline), "seed=1 report_ms=20 %s", workload);
	if (vmm_run_start(&o, &v) < 0)
		fail("the guest does not start");
	return v;
}

static struct vmm_stats stats_of(struct vmm_run *v)
{
	struct vmm_stats s;

	if (vmm_run_get_stats(v, &s) < 0)
		fail("memd-vmm does not answer");
	return s;
}

static struct cost begin(const struct vmm_run *v)
{
	return (struct cost){host_cpu_s(v), (double)clock_monotonic_us() / 1e6, 0};
}

static struct cost end(const struct vmm_run *v, const struct cost *from, uint64_t pages)
{
	return (struct cost){host_cpu_s(v) - from->cpu_s,
		(double)clock_monotonic_us() / 1e6 - from->wall_s, pages};
}

static void wait_balloon(struct vmm_run *v, uint64_t pages)
{
	uint64_t until_us = clock_monotonic_us() + WAIT_MS * US_PER_MS;

	if (vmm_run_set_balloon(v, pages) < 0)
		fail("no balloon");
	/* The guest says what it holds every 20 ms; asking memd-vmm would cost it CPU. */
	while (vmm_run_value(v, "balloon", UINT64_MAX) != pages) {
		if (clock_monotonic_us() > until_us)
			fail("the balloon does not get there");
		clock_sleep_us(2000);
	}
	if (stats_of(v).balloon_actual_pages != pages)
		fail("the balloon is not what the guest says");
}

/* The guest has written all of it and freed it again. */
static void wait_freed(struct vmm_run *v)
{
	uint64_t until_us = clock_monotonic_us() + WAIT_MS * US_PER_MS;

	while (vmm_run_value(v, "written", 0) < USED_PAGES ||
		vmm_run_value(v, "free", 0) < USED_PAGES) {
		if (clock_monotonic_us() > until_us)
			fail("the guest does not free its memory");
		clock_sleep_us(10000);
	}
	if (stats_of(v).private_pages < USED_PAGES)
		fail("the host does not hold the guest's free memory");
}

static void inflate(const char *options, struct cost *ret_inflate, struct cost *ret_deflate)
{
	char workload[128];
	struct vmm_run *v;
	struct cost from;

	snprintf(workload, sizeof(workload), "reporting=0 scratch_mib=%d scratch_s=0 %s", USED_MIB,
		options);
	v = start(workload);
	wait_freed(v);
	from = begin(v);
	wait_balloon(v, USED_PAGES);
	*ret_inflate = end(v, &from, USED_PAGES);
	if (stats_of(v).freed_balloon_pages < USED_PAGES / 100 * 99)
		fail("the balloon freed less than it holds");
	if (ret_deflate) {
		from = begin(v);
		wait_balloon(v, 0);
		*ret_deflate = end(v, &from, USED_PAGES);
	}
	vmm_run_free(v);
}

static struct cost report(void)
{
	char workload[128];
	struct vmm_run *v;
	struct cost from, cost;
	uint64_t until_us;

	snprintf(workload, sizeof(workload), "scratch_mib=%d scratch_s=1", USED_MIB);
	v = start(workload);
	if (!vmm_run_wait_value(v, "written", USED_PAGES, WAIT_MS))
		fail("the guest does not fill its memory");
	from = begin(v);
	until_us = clock_monotonic_us() + WAIT_MS * US_PER_MS;
	while (vmm_run_value(v, "free", 0) >= USED_PAGES / 2 && clock_monotonic_us() < until_us)
		clock_sleep_us(1000);
	while (vmm_run_value(v, "reported", 0) == 0 && clock_monotonic_us() < until_us) {
		from = begin(v);
		clock_sleep_us(1000);
	}
	if (!vmm_run_wait_value(v, "reported", USED_PAGES, WAIT_MS))
		fail("the guest does not report its memory");
	cost = end(v, &from, stats_of(v).freed_reported_pages);
	vmm_run_free(v);
	return cost;
}

static struct cost hint(void)
{
	char workload[128];
	struct vmm_run *v;
	struct cost from, cost;
	struct vmm_stats s;

	snprintf(workload, sizeof(workload),
		"reporting=0 hint_mib=%d hint_block_kib=4096 hint_reuse_pct=0 hint_run_ms=0",
		USED_MIB);
	v = start(workload);
	if (!vmm_run_wait_value(v, "hint_free", USED_MIB / 4, WAIT_MS))
		fail("the guest does not free its blocks");
	from = begin(v);
	if (vmm_run_request(v, VMM_ASK_HINTS, NULL, 0) < 0)
		fail("the guest cannot be asked for hints");
	while (stats_of(v).hint_runs == 0)
		clock_sleep_us(2000);
	s = stats_of(v);
	if (s.hint_dropped_pages < USED_PAGES / 100 * 99)
		fail("less was dropped than was hinted");
	cost = end(v, &from, s.hint_dropped_pages);
	cost.wall_s = (double)s.hint_wall_us / 1e6;
	vmm_run_free(v);
	return cost;
}

static double gib(uint64_t pages)
{
	return (double)(pages * PAGE_BYTES) / (double)(1024 * MIB);
}

static int compare_costs(const void *a, const void *b)
{
	const struct cost *x = a, *y = b;
	double left = x->cpu_s / (double)x->pages, right = y->cpu_s / (double)y->pages;

	return (left > right) - (left < right);
}

static void print(const char *name, struct cost costs[RUNS], bool json, const char *before)
{
	const struct cost *c = &costs[RUNS / 2];
	double cpu, wall;

	qsort(costs, RUNS, sizeof(costs[0]), compare_costs);
	cpu = gib(c->pages) / c->cpu_s;
	wall = gib(c->pages) / c->wall_s;
	if (json)
		printf("%s\"%s_gib_s\": %.2f, \"%s_gib_s_wall\": %.2f", before, name, cpu, name,
			wall);
	else
		printf("%-16s %8.2f GiB/s of host CPU, %8.2f GiB/s of wall time\n", name, cpu,
			wall);
}

int main(int argc, char **argv)
{
	bool json = argc > 1 && strcmp(argv[1], "--json") == 0;
	struct cost balloon[RUNS], deflate[RUNS], naive[RUNS], reporting[RUNS], hints[RUNS];

	if (vmm_run_unusable())
		fail(vmm_run_unusable());
	for (unsigned i = 0; i < RUNS; i++) {
		inflate("", &balloon[i], &deflate[i]);
		inflate("scratch_scatter=1", &naive[i], NULL);
		reporting[i] = report();
		hints[i] = hint();
	}
	print("balloon", balloon, json, "{");
	print("balloon_deflate", deflate, json, ", ");
	print("hint", hints, json, ", ");
	print("reporting", reporting, json, ", ");
	print("naive", naive, json, ", ");
	fputs(json ? "}\n" : "", stdout);
	return 0;
}
