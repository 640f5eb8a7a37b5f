/*
 * What memd-vmm costs: time until the guest's first instruction, memory that is not the guest's RAM,
 * and its disk beside the same file on the host.
 *
 * Prints one JSON line (alone with --json; else people get a few lines more):
 *   start_to_first_instruction_ms  median from fork to the byte that the guest's first instructions
 *                    write to the serial port; start_max_ms the worst of START_ROUNDS
 *   vmm_overhead_bytes  Pss of the process without the guest's RAM, with 512 MiB, one vCPU, a disk,
 *                    a user-mode network and random numbers, while the guest works
 *   slirp_bytes      Pss of the network's own process, not in the figure before
 *   blk_read_mib_s, blk_iops   what the freestanding guest reads past the page cache: the file in
 *                    order by 128 KiB, single blocks of 4 KiB anywhere, DEPTH requests at a time
 *   host_read_mib_s, host_iops   the same requests, made by this process with io_uring
 */
#include <dirent.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "kvm-glue/disk.h"
#include "memd/base/clock.h"
#include "memd/base/fd.h"
#include "memd/base/units.h"
#include "tests/guest/payload.h"
#include "tests/guest/service-run.h"
#include "tests/guest/vmm-run.h"

#define START_ROUNDS  15
#define MEMORY_BYTES  (512 * MIB)
#define DISK_BYTES    (256 * MIB)
#define READ_MS	      3000
#define DEPTH	      4 /* of the guest's driver: a request in each of its queues */
#define SEQUENTIAL    (128 * KIB)
#define RANDOM	      (4 * KIB)
#define WAIT_MS	      120000
#define BYTE_OF_GUEST '!'

struct result {
	double start_ms[START_ROUNDS];
	uint64_t overhead_bytes, slirp_bytes;
	double guest_mib_s, guest_iops;
	double host_mib_s, host_iops;
};

static char directory[] = "/var/tmp/memd-bench-XXXXXX";
static char disk_path[64];

static int fail(const char *what, int r)
{
	fprintf(stderr, "bench-vmm: %s: %s\n", what, strerror(-r));
	return r;
}

static int by_value(const void *a, const void *b)
{
	const double *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

/* --- the start */

static void run_vmm(const char *program, const char *kernel, int out)
{
	if (dup2(out, STDOUT_FILENO) < 0)
		_exit(1);
	execl(program, program, "--name", "bench", "--memory", "64M", "--kernel", kernel,
		"--console", "-", NULL);
	_exit(1);
}

static int start_once(const char *program, const char *kernel, double *ret_ms)
{
	uint64_t start_us = clock_monotonic_us();
	struct pollfd p = {.events = POLLIN};
	char byte = 0;
	int fds[2], status, r = 0;
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	pid = fork();
	if (pid == 0)
		run_vmm(program, kernel, fds[1]);
	close(fds[1]);
	p.fd = fds[0];
	if (pid < 0 || poll(&p, 1, WAIT_MS) != 1 || read(fds[0], &byte, 1) != 1 ||
		byte != BYTE_OF_GUEST)
		r = -EIO;
	*ret_ms = (double)(clock_monotonic_us() - start_us) / US_PER_MS;
	close(fds[0]);
	if (pid > 0) {
		kill(pid, SIGKILL);
		waitpid(pid, &status, 0);
	}
	return r;
}

static int measure_start(struct result *ret)
{
	/* mov $0x3f8, %dx; mov $'!', %al; out %al, (%dx); hlt; jmp . */
	static const uint8_t code[] = {
		0x66, 0xba, 0xf8, 0x03, 0xb0, BYTE_OF_GUEST, 0xee, 0xf4, 0xeb, 0xfe};
	char program[PATH_MAX], kernel[80];
	int r = service_run_build_path("kvm-glue/memd-vmm", program, sizeof(program));

	snprintf(kernel, sizeof(kernel), "%s/kernel", directory);
	if (r == 0)
		r = payload_write(kernel, code, sizeof(code));
	for (unsigned i = 0; i < START_ROUNDS && r == 0; i++)
		r = start_once(program, kernel, &ret->start_ms[i]);
	unlink(kernel);
	qsort(ret->start_ms, START_ROUNDS, sizeof(ret->start_ms[0]), by_value);
	return r < 0 ? fail("starting memd-vmm", r) : 0;
}

/* --- memory */

/* Pss of a process, but for what lies in [skip, skip + bytes). */
static uint64_t pss_bytes(pid_t pid, uint64_t skip, uint64_t bytes)
{
	char path[32], line[512];
	uint64_t start, end, kib, sum = 0;
	bool counts = false;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/smaps", (int)pid);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " ", &start, &end) == 2)
			counts = end <= skip || start >= skip + bytes;
		else if (counts && sscanf(line, "Pss: %" SCNu64 " kB", &kib) == 1)
			sum += kib * KIB;
	}
	if (f)
		fclose(f);
	return sum;
}

static pid_t child_of(pid_t pid)
{
	char path[64];
	_cleanup_free_ char *text = NULL;
	size_t size;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)pid, (int)pid);
	return fd_read_file_at(AT_FDCWD, path, 4096, &text, &size) == 0 ? (pid_t)atoi(text) : 0;
}

static int start_guest(const char *cmdline, const char *const *arguments, struct vmm_run **ret)
{
	const struct vmm_run_options o = {
		.cmdline = cmdline,
		.memory_bytes = MEMORY_BYTES,
		.n_vcpus = 1,
		.arguments = arguments,
	};
	int r = vmm_run_start(&o, ret);

	return r < 0 ? fail("starting the guest", r) : 0;
}

static int measure_memory(struct result *ret)
{
	char disk[96];
	const char *const arguments[] = {"--disk", disk, "--net", "user", "--rng", NULL};
	_cleanup_(vmm_run_freep) struct vmm_run *v = NULL;
	const struct vmm_range *ram;
	int r;

	snprintf(disk, sizeof(disk), "%s,direct,queues=%d", disk_path, DEPTH);
	r = start_guest("unique_mib=256 disk=1 report_ms=50", arguments, &v);
	if (r < 0)
		return r;
	if (!vmm_run_wait_text(v, "phase=run", WAIT_MS) ||
		!vmm_run_wait_value(v, "disk_read", 1000, WAIT_MS))
		return fail("the guest does not come to work", -ETIMEDOUT);
	ram = &vmm_run_hello(v)->ranges[0];
	ret->overhead_bytes = pss_bytes(vmm_run_pid(v), ram->hva, ram->bytes);
	ret->slirp_bytes = pss_bytes(child_of(vmm_run_pid(v)), 0, 0);
	return 0;
}

/* --- the disk */

static int make_disk(void)
{
	_cleanup_close_ int fd = -1;
	uint64_t block[PAGE_BYTES / sizeof(uint64_t)];

	snprintf(disk_path, sizeof(disk_path), "%s/disk", directory);
	fd = open(disk_path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	for (uint64_t at = 0; fd >= 0 && at < DISK_BYTES; at += sizeof(block)) {
		for (size_t i = 0; i < sizeof(block) / sizeof(block[0]); i++)
			block[i] = at * UINT64_C(0x9e3779b97f4a7c15) + i;
		if (fd_write_full(fd, block, sizeof(block)) < 0)
			return fail(disk_path, -errno);
	}
	return fd < 0 || fsync(fd) < 0 ? fail(disk_path, -errno) : 0;
}

static int read_in_guest(const char *pattern, double *ret_mib_s, double *ret_iops)
{
	char disk[96], cmdline[96];
	const char *const arguments[] = {"--disk", disk, NULL};
	_cleanup_(vmm_run_freep) struct vmm_run *v = NULL;
	double s;
	int r;

	snprintf(disk, sizeof(disk), "%s,ro,direct,queues=%d", disk_path, DEPTH);
	snprintf(cmdline, sizeof(cmdline), "disk_bench=%s disk_bench_ms=%d", pattern, READ_MS);
	r = start_guest(cmdline, arguments, &v);
	if (r < 0)
		return r;
	if (!vmm_run_wait_text(v, "memd-guest: disk", WAIT_MS))
		return fail("the guest does not read", -ETIMEDOUT);
	s = (double)vmm_run_value(v, "us", 1) / US_PER_S;
	*ret_mib_s = (double)vmm_run_value(v, "bytes", 0) / MIB / s;
	*ret_iops = (double)vmm_run_value(v, "requests", 0) / s;
	return 0;
}

/* As the guest does it (memd-guest/disk.c): DEPTH requests under way. */
static int read_on_host(uint64_t bytes, bool sequential, double *ret_mib_s, double *ret_iops)
{
	static struct disk_transfer transfers[DEPTH];
	uint8_t *memory = mmap(NULL, DEPTH * bytes, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	uint64_t next = 0, requests = 0, begin_us, tag, random = 1;
	bool busy[DEPTH] = {false};
	struct error e = {0};
	struct disk *disk;
	char spec[96];
	int64_t result;
	int r;

	snprintf(spec, sizeof(spec), "%s,ro,direct", disk_path);
	r = disk_open(spec, &disk, &e);
	if (r < 0 || memory == MAP_FAILED)
		return fail(e.text, r);
	disk_use_ring(disk, DEPTH);
	begin_us = clock_monotonic_us();
	while (clock_monotonic_us() < begin_us + READ_MS * US_PER_MS) {
		for (unsigned i = 0; i < DEPTH; i++) {
			struct disk_transfer *t = &transfers[i];

			if (busy[i])
				continue;
			random = random * UINT64_C(6364136223846793005) +
				 UINT64_C(1442695040888963407);
			if (!sequential)
				next = (random >> 33) % (DISK_BYTES / bytes) * bytes;
			else if (next + bytes > DISK_BYTES)
				next = 0;
			t->operation = DISK_READ;
			t->offset = next;
			t->bytes = bytes;
			t->n_iov = 1;
			t->iov[0] = (struct iovec){memory + i * bytes, bytes};
			busy[i] = disk_start(disk, t, i) == DISK_STARTED;
			next += bytes;
		}
		disk_submit(disk);
		disk_wait(disk);
		while (disk_next(disk, &tag, &result)) {
			busy[tag] =
				disk_continue(disk, &transfers[tag], tag, result) == DISK_STARTED;
			requests += !busy[tag];
		}
	}
	*ret_iops = (double)requests * US_PER_S / (double)(clock_monotonic_us() - begin_us);
	*ret_mib_s = *ret_iops * (double)bytes / MIB;
	for (unsigned i = 0; i < DEPTH; i++)
		while (busy[i]) {
			disk_wait(disk);
			while (disk_next(disk, &tag, &result))
				busy[tag] = false;
		}
	disk_free(disk);
	munmap(memory, DEPTH * bytes);
	return 0;
}

static int measure_disk(struct result *ret)
{
	double ignored;
	int r = read_on_host(SEQUENTIAL, true, &ret->host_mib_s, &ignored);

	if (r == 0)
		r = read_in_guest("seq", &ret->guest_mib_s, &ignored);
	if (r == 0)
		r = read_on_host(RANDOM, false, &ignored, &ret->host_iops);
	if (r == 0)
		r = read_in_guest("random", &ignored, &ret->guest_iops);
	return r;
}

static void print(const struct result *r, bool json)
{
	double start = r->start_ms[START_ROUNDS / 2], worst = r->start_ms[START_ROUNDS - 1];

	if (!json) {
		printf("fork to first instruction: %.1f ms (worst %.1f)\n", start, worst);
		printf("memory that is not guest RAM: %s, and %s of memd-slirp\n",
			UNITS_BYTES(r->overhead_bytes), UNITS_BYTES(r->slirp_bytes));
		printf("reads in order: guest %.0f MiB/s, host %.0f\n", r->guest_mib_s,
			r->host_mib_s);
		printf("single blocks: guest %.0f/s, host %.0f\n", r->guest_iops, r->host_iops);
	}
	printf("{\"bench\":\"vmm\",\"start_to_first_instruction_ms\":%.2f,\"start_max_ms\":%.2f,"
	       "\"vmm_overhead_bytes\":%" PRIu64 ",\"slirp_bytes\":%" PRIu64
	       ",\"blk_read_mib_s\":%.1f,\"host_read_mib_s\":%.1f,\"blk_iops\":%.0f,"
	       "\"host_iops\":%.0f}\n",
		start, worst, r->overhead_bytes, r->slirp_bytes, r->guest_mib_s, r->host_mib_s,
		r->guest_iops, r->host_iops);
}

int main(int argc, char *argv[])
{
	static const struct option options[] = {{"json", no_argument, NULL, 'j'}, {0}};
	struct result result = {0};
	bool json = false;
	int option, r;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option != 'j') {
			fprintf(stderr, "bench-vmm [--json]\n");
			return 2;
		}
		json = true;
	}
	if (vmm_run_unusable()) {
		fprintf(stderr, "bench-vmm: %s\n", vmm_run_unusable());
		return 1;
	}
	if (!mkdtemp(directory))
		return 1;
	r = make_disk();
	if (r == 0)
		r = measure_start(&result);
	if (r == 0)
		r = measure_memory(&result);
	if (r == 0)
		r = measure_disk(&result);
	if (r == 0)
		print(&result, json);
	unlink(disk_path);
	rmdir(directory);
	return r < 0;
}
