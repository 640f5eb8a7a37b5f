/*
 * bench-pageout [--json]: what a page costs that goes out and comes back. A guest and a plain
 * process each walk 64 MiB of the same content at the same pace, and this program pages both out,
 * region by region, as memd does, to the same zram, in turn. Both take the time of each access that is not
 * at once (more than 1.5 us), and the guest verifies every byte.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>

#include "memd/base/clock.h"
#include "memd/base/fd.h"
#include "memd/sample.h"
#include "tests/guest/host-run.h"
#include "tests/guest/memd-guest/page-content.h"
#include "tests/guest/vmm-run.h"

#define AREA_MIB   64
#define RAM_MIB	   96
#define PACE_PER_S 5000 /* few come back while others still go out */
#define RUN_S	   30
#define ROUND_US   (1000 * US_PER_MS)
#define SLOW_NS	   1500
#define BUCKET_NS  100
#define N_BUCKETS  4096

/* Of the plain process; shared with it. */
struct plain {
	uint64_t buckets[N_BUCKETS];
	uint64_t n_slow, n_wrong;
	uint64_t hva;
	bool ready;
};

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * UINT64_C(1000000000) + (uint64_t)t.tv_nsec;
}

static void touch(struct plain *p, const uint64_t *page, const struct page_content *c)
{
	uint64_t begin_ns = now_ns(), took_ns;

	(void)*(const volatile uint64_t *)page;
	took_ns = now_ns() - begin_ns;
	if (took_ns >= SLOW_NS) {
		uint64_t bucket = took_ns / BUCKET_NS;

		p->buckets[bucket < N_BUCKETS ? bucket : N_BUCKETS - 1]++;
		p->n_slow++;
	}
	p->n_wrong += !content_verify(page, c);
}

static struct page_content content_of(uint64_t i)
{
	uint64_t key = content_key(1, 2, i, 0);

	return (struct page_content){.key = key, .patch = ~key, .noise = UINT64_MAX};
}

/* Never returns; ends with its parent. */
static void run_plain(struct plain *p)
{
	uint64_t n = AREA_MIB * MIB / PAGE_BYTES, begin_ns, done = 0;
	uint64_t *memory = mmap(NULL, AREA_MIB * MIB + CHUNK_BYTES, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	memory = (uint64_t *)(((uintptr_t)memory + CHUNK_BYTES - 1) & ~(CHUNK_BYTES - 1));
	madvise(memory, AREA_MIB * MIB, MADV_NOHUGEPAGE);
	for (uint64_t i = 0; i < n; i++) {
		struct page_content c = content_of(i);

		content_write(memory + i * CONTENT_WORDS, &c);
	}
	p->hva = (uint64_t)(uintptr_t)memory;
	__atomic_store_n(&p->ready, true, __ATOMIC_RELEASE);
	begin_ns = now_ns();
	for (;; done++) {
		struct page_content c = content_of(done % n);

		while (done * 1000000000 / PACE_PER_S > now_ns() - begin_ns)
			clock_sleep_us(1000);
		touch(p, memory + done % n * CONTENT_WORDS, &c);
	}
}

static double percentile_us(const struct plain *p, uint64_t percent)
{
	uint64_t below = 0;

	for (uint64_t i = 0; i < N_BUCKETS; i++) {
		below += p->buckets[i];
		if (below * 100 >= p->n_slow * percent)
			return (double)(i * BUCKET_NS + BUCKET_NS / 2) / 1000;
	}
	return 0;
}

/* Pages all of it out. Returns the microseconds, and adds the pages that went. */
static uint64_t page_out(const struct sample_process *process, uint64_t *pages)
{
	uint64_t begin_us = clock_monotonic_us(), spent_us;
	struct kernel_sample before, after;

	if (kernel_sample_read(process, &before) < 0)
		host_run_fail("the guest is gone");
	begin_us = clock_monotonic_us();
	for (uint32_t i = 0; i < process->n_regions; i++)
		(void)fd_process_madvise(process->pidfd, sample_region_address(process, i),
			CHUNK_BYTES, MADV_PAGEOUT);
	spent_us = clock_monotonic_us() - begin_us;
	if (kernel_sample_read(process, &after) < 0)
		host_run_fail("the guest is gone");
	/* What came back meanwhile went out, too: a few of a hundred. */
	if (after.ram_swapped_pages > before.ram_swapped_pages)
		*pages += after.ram_swapped_pages - before.ram_swapped_pages;
	kernel_sample_done(&before);
	kernel_sample_done(&after);
	return spent_us;
}

static struct sample_process *watch(pid_t pid, const struct vmm_range *ranges, uint32_t n)
{
	_cleanup_close_ int pidfd = fd_pidfd_open(pid);
	struct sample_process *p;

	if (pidfd < 0 || sample_process_new(pid, pidfd, ranges, n, &p) < 0)
		host_run_fail("cannot watch process %d", (int)pid);
	return p;
}

static void print(struct vmm_run *v, const struct plain *p, double out_us, bool json)
{
	double p50 = (double)vmm_run_value(v, "slow_p50_ns", 0) / 1000,
	       p99 = (double)vmm_run_value(v, "slow_p99_ns", 0) / 1000;

	printf(json ? "{\"out_us_per_page\":%.2f,\"fault_p50_us\":%.2f,\"fault_p99_us\":%.2f,"
		      "\"plain_fault_p50_us\":%.2f,\"plain_fault_p99_us\":%.2f,\"ratio\":%.2f,"
		      "\"ratio_p99\":%.2f,\"faults\":%" PRIu64 ",\"plain_faults\":%" PRIu64 "}\n"
		    : "a page goes out in %.2f us; the guest's fault p50 %.2f, p99 %.2f us, a "
		      "plain "
		      "process's %.2f and %.2f: ratio %.2f, at p99 %.2f (%" PRIu64 " and %" PRIu64
		      " faults)\n",
		out_us, p50, p99, percentile_us(p, 50), percentile_us(p, 99),
		p50 / percentile_us(p, 50), p99 / percentile_us(p, 99),
		vmm_run_value(v, "slow_n", 0), p->n_slow);
}

int main(int argc, char *argv[])
{
	bool json = argc > 1 && strcmp(argv[1], "--json") == 0;
	const struct vmm_run_options options = {
		.cmdline = "common_mib=0 unique_mib=64 sweep_pages_per_s=0 verify_per_s=5000 "
			   "time_faults=1 seed=1",
		.memory_bytes = RAM_MIB * MIB,
		.n_vcpus = 1,
	};
	struct plain *plain = mmap(
		NULL, sizeof(*plain), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	_cleanup_(vmm_run_freep) struct vmm_run *v = NULL;
	struct sample_process *guest, *other;
	uint64_t spent_us = 0, pages = 0, plain_pages = 0;
	struct zram_swap swap;
	struct vmm_range range = {.bytes = AREA_MIB * MIB};
	pid_t pid;

	if ((argc > 1 && !json) || plain == MAP_FAILED)
		host_run_fail("bench-pageout [--json]");
	if (zram_swap_init_before(&swap, GIB, 30000) < 0)
		host_run_fail("no zram; run it as root");
	if (vmm_run_start(&options, &v) < 0)
		host_run_fail("the guest does not start");
	pid = fork();
	if (pid == 0)
		run_plain(plain);
	if (!vmm_run_wait_text(v, "phase=run", 60000))
		host_run_fail("the guest does not run");
	while (!__atomic_load_n(&plain->ready, __ATOMIC_ACQUIRE))
		clock_sleep_us(1000);
	range.hva = plain->hva;
	guest = watch(vmm_run_pid(v), vmm_run_hello(v)->ranges, vmm_run_hello(v)->n_ranges);
	other = watch(pid, &range, 1);
	for (uint64_t end_us = clock_monotonic_us() + RUN_S * US_PER_S;
		clock_monotonic_us() < end_us;) {
		spent_us += page_out(guest, &pages);
		clock_sleep_us(ROUND_US);
		(void)page_out(other, &plain_pages);
		clock_sleep_us(ROUND_US);
	}
	clock_sleep_us(2 * US_PER_S); /* the last report */
	print(v, plain, (double)spent_us / (double)pages, json);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	sample_process_unref(guest);
	sample_process_unref(other);
	if (vmm_run_value(v, "corrupt", 1) || plain->n_wrong)
		host_run_fail("wrong bytes");
	vmm_run_free(TAKE_PTR(v)); /* before the swap goes, so that nothing is read back */
	zram_swap_done(&swap);
	return 0;
}
