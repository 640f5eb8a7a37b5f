/*
 * How long it takes until a clone runs, and what it costs until it writes: a guest is filled, paused
 * and saved; its RAM is loaded as a template once; then clones are started one after the other, each
 * paused when it has run, so that they do not take the two cores from each other. A clone counts as running when its own first line is on its console: the whole way
 * from fork to guest code that ran and used a device. The guest reads (verifies) its memory and
 * writes only what it needs to run.
 *
 * Prints one JSON line (alone with --json; else people get a few lines more):
 *   clone_ms         median over the clones, clone_max_ms the worst; clone_hello_ms: until memd-vmm
 *                    has put the machine together and gives the order to run
 *   clone_run_ms, clone_wait_ms   of the time until then: what memd-vmm's main thread ran, and what it
 *                    waited for a CPU that others had (schedstat): on a busy host most of clone_ms
 *   clone_rss_bytes  median of memory of the process that is its own: anonymous and page tables,
 *                    and its part of program files, right after it ran; pages of the template that
 *                    it only reads are no cost of its own
 *   clone_host_bytes what MemAvailable lost for each clone, kernel memory included
 *   snapshot_ms, load_ms, template_bytes   once for all clones
 */
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "memd/base/clock.h"
#include "memd/base/fd.h"
#include "memd/base/overflow.h"
#include "memd/base/procfs.h"
#include "memd/base/template-file.h"
#include "memd/base/units.h"
#include "tests/guest/vmm-run.h"

#define N_CLONES   20
#define MEMORY_MIB UINT64_C(512)
#define WAIT_MS	   120000

struct result {
	double clone_ms[N_CLONES];
	double hello_ms[N_CLONES];
	double run_ms[N_CLONES];
	double wait_ms[N_CLONES];
	uint64_t rss_bytes[N_CLONES];
	double snapshot_ms;
	double load_ms;
	uint64_t template_bytes;
	uint64_t host_bytes; /* of all clones */
};

static char directory[] = "/tmp/memd-bench-XXXXXX";

static double ms_since(uint64_t us)
{
	return (double)(clock_monotonic_us() - us) / US_PER_MS;
}

static int fail(const char *what, int r)
{
	fprintf(stderr, "bench-clone: %s: %s\n", what, strerror(-r));
	return r;
}

static int save_guest(struct result *ret)
{
	struct vmm_run_options o = {
		.cmdline = "seed=1 common_mib=128 unique_mib=192 zero_mib=32 report_ms=5 "
			   "sweep_pages_per_s=0 verify_per_s=2000",
		.memory_bytes = MEMORY_MIB * MIB,
		.n_vcpus = 1,
	};
	_cleanup_(vmm_run_freep) struct vmm_run *v = NULL;
	uint64_t start_us;
	int r = vmm_run_start(&o, &v);

	if (r < 0)
		return fail("starting the guest", r);
	if (!vmm_run_wait_text(v, "phase=run", WAIT_MS))
		return fail("the guest does not come to work", -ETIMEDOUT);
	r = vmm_run_request(v, VMM_PAUSE, NULL, 0);
	start_us = clock_monotonic_us();
	if (r == 0)
		r = vmm_run_snapshot(v, directory);
	ret->snapshot_ms = ms_since(start_us);
	return r < 0 ? fail("the snapshot", r) : 0;
}

static int load(struct result *ret, int *ret_fd)
{
	_cleanup_close_ int fd = -1, memfd = -1;
	uint64_t start_us = clock_monotonic_us();
	char path[PATH_MAX];
	struct error e = {0};
	int r;

	(void)snprintf(path, sizeof(path), "%s/ram", directory);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	r = fd < 0 ? -errno : template_file_load(fd, MEMORY_MIB * MIB, &memfd, &e);
	if (r < 0)
		return fail("loading the template", r);
	ret->load_ms = ms_since(start_us);
	ret->template_bytes = template_file_allocated_bytes(memfd);
	*ret_fd = fcntl(memfd, F_DUPFD, 16); /* not close-on-exec */
	return *ret_fd < 0 ? -errno : 0;
}

/* Until the guest's first line; looks often, since that is what is measured. */
static int wait_for_a_line(const struct vmm_run *v)
{
	uint64_t deadline_us = clock_monotonic_us() + WAIT_MS * US_PER_MS;
	struct stat st;

	while (stat(vmm_run_console_path(v), &st) < 0 || st.st_size == 0) {
		if (clock_monotonic_us() > deadline_us)
			return -ETIMEDOUT;
		clock_sleep_us(100);
	}
	return 0;
}

/* Time that a process's main thread ran, and that it waited for a CPU. */
static int read_schedstat(pid_t pid, double *ret_run_ms, double *ret_wait_ms)
{
	_cleanup_free_ char *text = NULL;
	char path[64], *end;
	size_t size;
	int r;

	(void)snprintf(path, sizeof(path), "/proc/%d/schedstat", (int)pid);
	r = fd_read_file_at(AT_FDCWD, path, 256, &text, &size);
	if (r < 0)
		return r;
	*ret_run_ms = (double)strtoull(text, &end, 10) / 1e6;
	*ret_wait_ms = (double)strtoull(end, NULL, 10) / 1e6;
	return 0;
}

static int start_clone(int template_fd, struct vmm_run **ret, struct result *into, unsigned i)
{
	struct vmm_run_options o = {.snapshot = directory, .template_fd = template_fd};
	uint64_t start_us = clock_monotonic_us(), table_bytes = 0;
	struct smaps_rollup rollup = {0};
	int r = vmm_run_start(&o, ret);

	into->hello_ms[i] = ms_since(start_us);
	if (r == 0)
		r = read_schedstat(vmm_run_pid(*ret), &into->run_ms[i], &into->wait_ms[i]);
	if (r == 0)
		r = wait_for_a_line(*ret);
	into->clone_ms[i] = ms_since(start_us);
	if (r == 0)
		r = procfs_read_smaps_rollup(vmm_run_pid(*ret), &rollup);
	if (r == 0)
		r = procfs_read_page_table_bytes(vmm_run_pid(*ret), &table_bytes);
	if (r == 0)
		r = vmm_run_request(*ret, VMM_PAUSE, NULL, 0);
	into->rss_bytes[i] = rollup.pss_anon_bytes + rollup.pss_file_bytes + table_bytes;
	return r < 0 ? fail("a clone", r) : 0;
}

static int run_clones(int template_fd, struct result *ret)
{
	struct vmm_run *clones[N_CLONES] = {0};
	uint64_t total, before, after;
	int r = procfs_read_meminfo(&total, &before);

	for (unsigned i = 0; i < N_CLONES && r == 0; i++)
		r = start_clone(template_fd, &clones[i], ret, i);
	if (r == 0)
		r = procfs_read_meminfo(&total, &after);
	if (r == 0)
		ret->host_bytes = u64_sub_or_zero(before, after);
	for (unsigned i = 0; i < N_CLONES; i++)
		vmm_run_free(clones[i]);
	return r;
}

static int by_ms(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static int by_bytes(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static void print(struct result *r, bool json)
{
	qsort(r->clone_ms, N_CLONES, sizeof(r->clone_ms[0]), by_ms);
	qsort(r->run_ms, N_CLONES, sizeof(r->run_ms[0]), by_ms);
	qsort(r->wait_ms, N_CLONES, sizeof(r->wait_ms[0]), by_ms);
	qsort(r->hello_ms, N_CLONES, sizeof(r->hello_ms[0]), by_ms);
	qsort(r->rss_bytes, N_CLONES, sizeof(r->rss_bytes[0]), by_bytes);
	if (!json) {
		printf("snapshot of %s: %.0f ms, loaded as a template (%s) in %.0f ms\n",
			UNITS_BYTES(MEMORY_MIB * MIB), r->snapshot_ms,
			UNITS_BYTES(r->template_bytes), r->load_ms);
		printf("%u clones: each runs after %.1f ms (worst %.1f), own memory %s, of the "
		       "host "
		       "%s\n",
			N_CLONES, r->clone_ms[N_CLONES / 2], r->clone_ms[N_CLONES - 1],
			UNITS_BYTES(r->rss_bytes[N_CLONES / 2]),
			UNITS_BYTES(r->host_bytes / N_CLONES));
	}
	printf("{\"benchmark\":\"clone\",\"memory_bytes\":%" PRIu64
	       ",\"clones\":%u,\"clone_ms\":%.2f,\"clone_hello_ms\":%.2f,"
	       "\"clone_run_ms\":%.2f,\"clone_wait_ms\":%.2f,"
	       "\"clone_max_ms\":%.2f,\"clone_rss_bytes\":%" PRIu64 ",\"clone_host_bytes\":%" PRIu64
	       ",\"snapshot_ms\":%.1f,\"load_ms\":%.1f,\"template_bytes\":%" PRIu64 "}\n",
		MEMORY_MIB * MIB, N_CLONES, r->clone_ms[N_CLONES / 2], r->hello_ms[N_CLONES / 2],
		r->run_ms[N_CLONES / 2], r->wait_ms[N_CLONES / 2], r->clone_ms[N_CLONES - 1],
		r->rss_bytes[N_CLONES / 2], r->host_bytes / N_CLONES, r->snapshot_ms, r->load_ms,
		r->template_bytes);
}

static void remove_directory(void)
{
	char path[PATH_MAX];

	(void)snprintf(path, sizeof(path), "%s/state", directory);
	unlink(path);
	(void)snprintf(path, sizeof(path), "%s/ram", directory);
	unlink(path);
	rmdir(directory);
}

int main(int argc, char *argv[])
{
	static const struct option options[] = {
		{"json", no_argument, NULL, 'j'},
		{0},
	};
	_cleanup_close_ int template_fd = -1;
	struct result result = {0};
	const char *why = vmm_run_unusable();
	bool json = false;
	int option, r;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option != 'j') {
			fprintf(stderr, "usage: bench-clone [--json]\n");
			return 2;
		}
		json = true;
	}
	if (why) {
		fprintf(stderr, "bench-clone: %s\n", why);
		return 1;
	}
	if (!mkdtemp(directory))
		return 1;
	r = save_guest(&result);
	if (r == 0)
		r = load(&result, &template_fd);
	if (r == 0)
		r = run_clones(template_fd, &result);
	remove_directory();
	if (r < 0)
		return 1;
	print(&result, json);
	return 0;
}
