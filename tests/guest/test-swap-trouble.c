/*
 * Swap that is full, that refuses what is written, that cannot be read any more, and a guest that is
 * killed while its pages go out: the others never see a wrong byte. What becomes of the guest itself
 * is the kernel's to say, and noted in the tests.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <inttypes.h>
#include <linux/loop.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "memd/base/clock.h"
#include "memd/evict.h"
#include "tests/guest/host-run.h"
#include "tests/guest/vmm-run.h"

#define WAIT_US	  (90 * US_PER_S)
/* Several page-outs, each of the 64 MiB within its limits. */
#define OUT_US	  (1500 * US_PER_MS)
/* For the guest that lost its pages to notice. */
#define LOSS_US	  (5 * US_PER_S)
#define GUEST_MIB 96
#define FILLED	  "common_mib=0 unique_mib=64 sweep_pages_per_s=0 report_ms=200 verify_per_s=40000 "

static struct guest *start(struct host_run *h, const char *name, unsigned seed)
{
	char line[256];
	struct guest *g;

	snprintf(line, sizeof(line), FILLED "seed=%u", seed);
	g = host_run_guest(h, name, GUEST_MIB * MIB, 1, line);
	host_run_until_text(h, g, "phase=run", WAIT_US);
	return g;
}

static bool can_run(void)
{
	if (vmm_run_unusable())
		print_message("# not on this host: %s\n", vmm_run_unusable());
	return !vmm_run_unusable();
}

/* Everything of the guest goes out, whatever it is; waits for the pager. */
static void page_all_out(struct host_run *h, struct guest *g)
{
	uint64_t end_us = clock_monotonic_us() + OUT_US;

	while (clock_monotonic_us() < end_us) {
		(void)evict_begin(h->m, g, UINT64_MAX, RECLAIM_FORCED);
		host_run_for(h, 20 * US_PER_MS);
	}
}

/* One whole walk of the 64 MiB more. */
static void verify_again(struct host_run *h, struct guest *g)
{
	host_run_until_value(h, g, "verified", host_run_value(g, "verified") + 16384, WAIT_US);
	assert_int_equal(host_run_value(g, "corrupt"), 0);
}

static void a_full_swap_is_said_and_costs_nobody_a_byte(void **state)
{
	struct host_run h;
	struct guest *a, *b;

	if (!can_run())
		return;
	host_run_start(&h, "HostMemoryBudget=1G\n[Share]\nMode=off", 24 * MIB);
	a = start(&h, "a", 1);
	b = start(&h, "b", 2);
	page_all_out(&h, a);
	page_all_out(&h, b);
	wall_read_swap(h.m);
	if (h.m->swap.state != SWAP_FULL) /* other swap of the host took the rest */
		print_message("# not on this host: no other swap\n");
	else
		assert_string_equal(h.m->figures.swap_state, "full");
	verify_again(&h, a);
	verify_again(&h, b);
	host_run_end(&h);
}

/* zram refuses writes above mem_limit with an error: the kernel keeps such pages in memory. */
static void a_swap_that_refuses_writes_costs_nobody_a_byte(void **state)
{
	struct host_run h;
	struct guest *a, *b;

	if (!can_run())
		return;
	host_run_start(&h, "HostMemoryBudget=1G\n[Share]\nMode=off", 256 * MIB);
	a = start(&h, "a", 3);
	b = start(&h, "b", 4);
	assert_int_equal(zram_write_sysfs(h.swap.number, "mem_limit", "8M"), 0);
	page_all_out(&h, a);
	page_all_out(&h, b);
	verify_again(&h, a);
	verify_again(&h, b);
	assert_int_equal(zram_write_sysfs(h.swap.number, "mem_limit", "0"), 0);
	host_run_end(&h);
}

/* A swap file behind a loop device, which can be cut off: then reading from it is an error. */
struct loop_swap {
	char file[64], device[32];
	int control_fd, device_fd;
};

static bool loop_swap_start(struct loop_swap *l)
{
	_cleanup_close_ int file = -1;
	int number;

	*l = (struct loop_swap){.device_fd = -1};
	snprintf(l->file, sizeof(l->file), "/tmp/memd-swap-XXXXXX");
	file = mkstemp(l->file);
	l->control_fd = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	number = l->control_fd < 0 ? -1 : ioctl(l->control_fd, LOOP_CTL_GET_FREE);
	if (file < 0 || number < 0)
		return false;
	snprintf(l->device, sizeof(l->device), "/dev/loop%d", number);
	l->device_fd = open(l->device, O_RDWR | O_CLOEXEC);
	return l->device_fd >= 0 && ftruncate(file, 128 * MIB) == 0 &&
	       fallocate(file, 0, 0, 128 * MIB) == 0 &&
	       ioctl(l->device_fd, LOOP_SET_FD, file) == 0 &&
	       zram_write_swap_header(l->device, 128 * MIB) == 0 &&
	       swapon(l->device, SWAP_FLAG_PREFER | 30001) == 0;
}

static void loop_swap_end(struct loop_swap *l)
{
	swapoff(l->device);
	if (l->device_fd >= 0) {
		ioctl(l->device_fd, LOOP_CLR_FD);
		close(l->device_fd);
	}
	if (l->control_fd >= 0)
		close(l->control_fd);
	unlink(l->file);
}

/* What went out to a disk stays in the swap cache until its memory is needed: here, now. */
static void drop_swap_cache(const struct guest *g)
{
	char path[256];

	snprintf(path, sizeof(path), "/sys/fs/cgroup/memory/memd-bench-%d/%s/memory.force_empty",
		(int)getpid(), g->name);
	(void)fd_write_file_at(AT_FDCWD, path, "0");
}

/*
 * A page that cannot be read back is lost: a process that touches it gets SIGBUS, and KVM_RUN EFAULT,
 * which memd-vmm takes for want of memory and fails the guest when it does not move for a minute.
 * Seen here: memd-vmm ends at once. Nobody else notices.
 */
static void a_swap_that_cannot_be_read_harms_no_other_guest(void **state)
{
	struct host_run h;
	struct loop_swap l;
	struct guest *a, *b;
	uint64_t end_us;

	if (!can_run())
		return;
	host_run_start(&h, "HostMemoryBudget=1G\n[Share]\nMode=off\n[Reclaim]\nWorkingSet=off", 0);
	b = start(&h, "b", 6);
	a = start(&h, "a", 5);
	if (!loop_swap_start(&l)) {
		print_message("# not on this host: loop devices\n");
		loop_swap_end(&l);
		host_run_end(&h);
		return;
	}
	wall_read_swap(h.m);
	page_all_out(&h, a);
	assert_true(a->reclaim.out_pages_total > 0);
	assert_int_equal(truncate(l.file, 1 * MIB), 0);
	drop_swap_cache(a);
	end_us = clock_monotonic_us() + LOSS_US;
	while (h.m->n_guests == 2 && a->sample.after.memory_waits == 0 &&
		clock_monotonic_us() < end_us)
		host_run_for(&h, 50 * US_PER_MS);
	if (h.m->n_guests == 2)
		print_message("# the guest is %s, and has waited %" PRIu64 " times\n",
			guest_state_name(a->state), a->sample.after.memory_waits);
	verify_again(&h, b);
	while (h.m->n_guests > 0) /* before swapoff, which could not read the pages either */
		host_run_stop_guest(&h, h.m->guests[0]);
	loop_swap_end(&l);
	host_run_end(&h);
}

static void killing_a_guest_that_goes_out_harms_no_other(void **state)
{
	struct host_run h;
	struct guest *b;

	if (!can_run())
		return;
	host_run_start(&h, "HostMemoryBudget=1G\n[Share]\nMode=off", 512 * MIB);
	b = start(&h, "b", 8);
	for (unsigned i = 0; i < 4; i++) {
		struct guest *a = start(&h, "a", 10 + i);

		(void)evict_begin(h.m, a, UINT64_MAX, RECLAIM_FORCED);
		(void)evict_begin(h.m, b, UINT64_MAX, RECLAIM_FORCED);
		clock_sleep_us((1 + i * 7) * US_PER_MS); /* it is somewhere in it */
		child_signal(&a->child, SIGKILL);
		while (h.m->n_guests > 1)
			host_run_for(&h, 10 * US_PER_MS);
		verify_again(&h, b);
	}
	host_run_end(&h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_full_swap_is_said_and_costs_nobody_a_byte),
		cmocka_unit_test(a_swap_that_refuses_writes_costs_nobody_a_byte),
		cmocka_unit_test(a_swap_that_cannot_be_read_harms_no_other_guest),
		cmocka_unit_test(killing_a_guest_that_goes_out_harms_no_other),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
