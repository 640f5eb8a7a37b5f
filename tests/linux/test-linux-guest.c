/*
 * A stock Linux 6.1 kernel (small, but with its own drivers: kernel.config) in memd-vmm. Nothing inside can be asked, since
 * no system call works on some KVM back ends; what happens inside is seen in what the kernel prints, in the balloon's
 * statistics, and in the host's memory. init.c says how user space takes part.
 *
 * Guests boot in about 10 to 25 s where ring 0 is emulated, longer under load: the times here only catch a hung one.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <cmocka.h>

#include "memd/base/clock.h"
#include "memd/base/units.h"
#include "tests/guest/guest-check.h"
#include "tests/linux/init-content.h"

#define BOOT_MS	   240000
#define LOOK_US	   (100 * US_PER_MS)
#define RAM_BYTES  (64 * MIB)
#define RAM_PAGES  (RAM_BYTES / PAGE_BYTES)
#define INIT_MIB   8
#define INIT_PAGES (INIT_MIB * MIB / PAGE_BYTES)
#define RUNS_INIT  "Run /init as init process"
#define CORRUPT	   "Attempted to kill init! exitcode=0x00000004" /* the init found a wrong word */

static char kernel_path[PATH_MAX];

/* One boot: what differs between the guests. */
struct boot {
	uint64_t memory_bytes; /* 0: RAM_BYTES */
	const char *protocol; /* of memd-vmm --boot */
	unsigned n_vcpus;
	const char *kernel_options;
	unsigned init_mib; /* that the init fills and checks, see init.c */
};

static struct vmm_run *start(const struct boot *b)
{
	char cmdline[1024];
	struct vmm_run_options o = {
		.kernel = kernel_path,
		.initrd = MEMD_INITRAMFS,
		.boot = b->protocol,
		.cmdline = cmdline,
		.memory_bytes = b->memory_bytes ? b->memory_bytes : RAM_BYTES,
		.n_vcpus = b->n_vcpus,
	};
	struct vmm_run *v = NULL;

	(void)snprintf(cmdline, sizeof(cmdline),
		"%s ignore_loglevel reboot=k panic=-1 -- memory=%u", b->kernel_options,
		b->init_mib);
	assert_int_equal(vmm_run_start(&o, &v), 0);
	return v;
}

/* Statistics that the guest made after this call. Asking is part of VMM_GET_STATS, the answer comes with a later one. */
static struct vmm_stats fresh_stats(struct vmm_run *v)
{
	uint64_t begin_us = clock_monotonic_us();
	struct vmm_stats stats;

	do {
		clock_sleep_us(LOOK_US);
		stats = get_stats(v);
		assert_guest(v, clock_monotonic_us() - begin_us < WAIT_MS * US_PER_MS);
	} while (stats.guest_stats_time_us <= begin_us);
	return stats;
}

/*
 * Waits for a condition on the statistics, *s, which are read again and again until it holds; asking is in `fresh`: get_stats,
 * or fresh_stats where it is about what the guest says.
 */
#define wait_for(v, s, fresh, condition)                                                           \
	do {                                                                                       \
		uint64_t begin_us_ = clock_monotonic_us();                                         \
		for (*(s) = fresh(v); !(condition); *(s) = fresh(v)) {                             \
			clock_sleep_us(LOOK_US);                                                   \
			if (clock_monotonic_us() - begin_us_ > WAIT_MS * US_PER_MS) {              \
				show_console(v);                                                   \
				fail_msg("never came true: %s", #condition);                       \
			}                                                                          \
		}                                                                                  \
	} while (0)

/* A guest whose init has filled its memory. */
static struct vmm_run *boot_to_init(const struct boot *b)
{
	uint64_t started_us = clock_monotonic_us();
	struct vmm_run *v = start(b);
	struct vmm_stats s;

	assert_guest(v, vmm_run_wait_text(v, RUNS_INIT, BOOT_MS));
	(void)printf("# %s, %u vCPUs, %s: init after %.1f s\n", b->protocol, b->n_vcpus,
		b->kernel_options, (double)(clock_monotonic_us() - started_us) / US_PER_S);
	/* Filling takes a minor fault a page; after that each counts a pass. */
	wait_for(v, &s, fresh_stats, s.guest_minor_faults > b->init_mib * MIB / PAGE_BYTES);
	return v;
}

static void wait_for_balloon(struct vmm_run *v, uint64_t pages)
{
	struct vmm_stats s;

	assert_int_equal(vmm_run_set_balloon(v, pages), 0);
	wait_for(v, &s, get_stats, s.balloon_actual_pages == pages);
	assert_int_equal(s.balloon_target_pages, pages);
	assert_int_equal(s.hole_balloon_pages, pages);
}

/* The init goes on checking its memory: it has completed n more passes, and never found a wrong word. */
static void wait_for_passes(struct vmm_run *v, uint64_t n)
{
	uint64_t least = fresh_stats(v).guest_minor_faults + n;

	while (fresh_stats(v).guest_minor_faults < least)
		assert_guest(v, !vmm_run_wait_text(v, "Kernel panic", 0));
}

/* The guest that most tests look at, booted once; they run in the order of the list in main. */
static struct vmm_run *guest;

static void linux_boots_by_the_64_bit_protocol(void **state)
{
	static const struct boot b = {
		.protocol = "linux",
		.n_vcpus = 1,
		.kernel_options = "console=ttyS0",
		.init_mib = INIT_MIB,
	};

	guest = boot_to_init(&b);
}

static void statistics_arrive_and_are_plausible(void **state)
{
	struct vmm_stats s;

	assert_guest(guest, get_stats(guest).balloon_ready);
	s = fresh_stats(guest);
	assert_guest(guest, s.guest_total_bytes < RAM_BYTES);
	assert_guest(guest, s.guest_total_bytes > RAM_BYTES * 3 / 4);
	assert_guest(guest, s.guest_free_bytes < s.guest_total_bytes - INIT_MIB * MIB);
	assert_guest(guest, s.guest_free_bytes > RAM_BYTES / 2);
	assert_guest(guest, s.guest_available_bytes < s.guest_total_bytes - INIT_MIB * MIB);
	assert_guest(guest, s.guest_available_bytes > RAM_BYTES / 2);
	assert_guest(guest, s.guest_swap_in_bytes == 0 && s.guest_swap_out_bytes == 0);
	/* The guest uses no more than the host holds for it; free pages hold some, too: the ballast. */
	assert_guest(guest, s.private_pages > INIT_PAGES + BALLAST_MIB * MIB / PAGE_BYTES);
}

static void linux_balloon_inflates_to_target_and_the_host_gets_memory(void **state)
{
	struct vmm_stats before = fresh_stats(guest), after;
	uint64_t anonymous_before = vmm_run_anonymous_bytes(guest), anonymous_after;

	wait_for_balloon(guest, RAM_PAGES / 2);
	/* Linux has that much less to use, but for what else it did meanwhile. */
	wait_for(guest, &after, fresh_stats,
		after.guest_free_bytes + RAM_BYTES / 2 < before.guest_free_bytes + MIB);
	assert_guest(
		guest, after.guest_free_bytes + RAM_BYTES / 2 > before.guest_free_bytes - 2 * MIB);
	/* Most of the ballast was free, and is the host's now. */
	anonymous_after = vmm_run_anonymous_bytes(guest);
	(void)printf("# host: %s before, %s after\n", UNITS_BYTES(anonymous_before),
		UNITS_BYTES(anonymous_after));
	assert_guest(guest, anonymous_after < anonymous_before - BALLAST_MIB * MIB / 2);
	assert_guest(guest, after.freed_balloon_pages > BALLAST_MIB * MIB / PAGE_BYTES / 2);
	/* Ranges, not pages: what Linux allocates page by page comes mostly in order. */
	assert_guest(guest, after.balloon_discard_calls < RAM_PAGES / 2 / 8);
}

static void user_memory_is_whole_with_half_of_the_guest_gone(void **state)
{
	wait_for_passes(guest, 3);
}

static void linux_balloon_deflates_to_nothing(void **state)
{
	struct vmm_stats before = fresh_stats(guest), after;

	wait_for_balloon(guest, 0);
	wait_for(guest, &after, fresh_stats,
		after.guest_free_bytes > before.guest_free_bytes + RAM_BYTES / 2 - 4 * MIB);
	wait_for_passes(guest, 1);
}

static void balloon_follows_a_target_that_changes_on_the_way(void **state)
{
	assert_int_equal(vmm_run_set_balloon(guest, RAM_PAGES / 2), 0);
	clock_sleep_us(LOOK_US);
	wait_for_balloon(guest, 1);
}

/* A target that leaves Linux nothing: it gives what it can spare, deflates where it runs out, and lives. */
static void linux_lives_when_asked_for_everything(void **state)
{
	struct vmm_stats s;

	assert_int_equal(vmm_run_set_balloon(guest, RAM_PAGES), 0);
	wait_for(guest, &s, get_stats, s.balloon_actual_pages > RAM_PAGES / 2);
	assert_guest(guest, vmm_run_wait_text(guest, "Out of puff!", WAIT_MS));
	wait_for_passes(guest, 2);
	assert_guest(guest, get_stats(guest).balloon_actual_pages < RAM_PAGES - INIT_PAGES);
	wait_for_balloon(guest, 0);
	assert_guest(guest, !vmm_run_wait_text(guest, "Out of memory", 0));
}

static void linux_stands_still_while_paused(void **state)
{
	struct vmm_stats before, after;

	assert_int_equal(vmm_run_request(guest, VMM_PAUSE, NULL, 0), 0);
	before = get_stats(guest);
	clock_sleep_us(3 * US_PER_S);
	after = get_stats(guest);
	assert_int_equal(after.state, VMM_STATE_PAUSED);
	assert_int_equal(after.guest_stats_time_us, before.guest_stats_time_us);
	assert_int_equal(after.vcpu_exits, before.vcpu_exits);
	assert_int_equal(vmm_run_request(guest, VMM_RESUME, NULL, 0), 0);
	wait_for_passes(guest, 1);
}

static void power_button_reaches_the_acpi_driver(void **state)
{
	assert_guest(guest, vmm_run_wait_text(guest, "ACPI: button: Power Button [PWRF]", 0));
	assert_guest(guest, !vmm_run_wait_text(guest, "evbug: Event. Dev: input0, Type: 1", 0));
	assert_int_equal(vmm_run_request(guest, VMM_POWER_BUTTON, NULL, 0), 0);
	/* KEY_POWER (116) goes down. */
	assert_guest(
		guest, vmm_run_wait_text(guest,
			       "evbug: Event. Dev: input0, Type: 1, Code: 116, Value: 1", WAIT_MS));
}

static void linux_was_never_in_the_wrong(void **state)
{
	struct vmm_stats stats = get_stats(guest);

	assert_guest(guest, stats.device_needs_reset == 0);
	assert_guest(guest, !vmm_run_wait_text(guest, "BUG:", 0));
	assert_guest(guest, !vmm_run_wait_text(guest, "WARNING:", 0));
	(void)printf("# %" PRIu64 " exits, %" PRIu64 " instructions completed\n", stats.vcpu_exits,
		stats.emulation_completed);
}

static void quit_ends_the_guest(void **state)
{
	int status = -1;

	assert_int_equal(vmm_run_request(guest, VMM_QUIT, NULL, 0), 0);
	assert_guest(guest, vmm_run_wait_exit(guest, WAIT_MS, &status) == 0);
	assert_guest(guest, WIFEXITED(status) && WEXITSTATUS(status) == 0);
	vmm_run_free(TAKE_PTR(guest));
}

/* With two vCPUs, nothing but the virtio console to print on (from when its driver is up), and room for free page reporting. */
static void linux_boots_by_pvh_and_prints_on_the_virtio_console(void **state)
{
	static const struct boot b = {
		.memory_bytes = 128 * MIB,
		.protocol = "pvh",
		.n_vcpus = 2,
		.kernel_options = "console=hvc0",
		.init_mib = 1,
	};

	guest = boot_to_init(&b);
	assert_guest(guest, get_stats(guest).balloon_ready);
}

static void linux_reports_free_pages_and_the_host_gets_memory(void **state)
{
	struct vmm_stats s;

	/* How much Linux reports depends on how whole its free blocks are; some of it is hardly ever none. */
	wait_for(guest, &s, get_stats,
		s.freed_reported_pages > BALLAST_MIB * MIB / PAGE_BYTES / 8 &&
			s.hole_reported_pages > 16 * MIB / PAGE_BYTES);
	wait_for_passes(guest, 1);
}

static void reported_pages_go_into_the_balloon_and_come_back(void **state)
{
	struct vmm_stats s;

	wait_for_balloon(guest, RAM_PAGES / 4);
	wait_for_balloon(guest, 0);
	wait_for_passes(guest, 1);
	s = get_stats(guest);
	assert_guest(guest, s.device_needs_reset == 0);
}

/* Devices interrupt by lines of the IOAPIC then, as the DSDT says. */
static void linux_balloon_works_without_msix(void **state)
{
	static const struct boot b = {
		.protocol = "linux",
		.n_vcpus = 2,
		.kernel_options = "console=ttyS0 pci=nomsi",
	};
	_cleanup_(vmm_run_freep) struct vmm_run *v = boot_to_init(&b);

	assert_guest(v, vmm_run_wait_text(v, "Brought up 1 node, 2 CPUs", 0));
	wait_for_balloon(v, RAM_PAGES / 8);
	(void)fresh_stats(v);
	assert_guest(v, get_stats(v).device_needs_reset == 0);
}

/* Looks in guest memory for the page that holds the first words of the init's. 0, or -ENOENT. */
static int find_init_memory(struct vmm_run *v, uint64_t *ret_gpa)
{
	static uint64_t words[PAGE_BYTES / sizeof(uint64_t)];
	const struct vmm_range *range = &vmm_run_hello(v)->ranges[0];
	_cleanup_close_ int fd = -1;
	char path[32];

	(void)snprintf(path, sizeof(path), "/proc/%d/mem", (int)vmm_run_pid(v));
	fd = open(path, O_RDONLY | O_CLOEXEC);
	for (uint64_t at = 0; fd >= 0 && at < range->bytes; at += PAGE_BYTES) {
		bool found = pread(fd, words, sizeof(words), (off_t)(range->hva + at)) ==
			     (ssize_t)sizeof(words);

		for (size_t i = 1; found && i < ARRAY_SIZE(words); i++)
			found = content_unmix(words[i]) - content_unmix(words[i - 1]) ==
				CONTENT_STEP;
		if (found) {
			*ret_gpa = range->gpa + at;
			return 0;
		}
	}
	return -ENOENT;
}

/*
 * What makes the other tests mean something: the init notices one word that changed behind its back. The panic's reset then
 * ends memd-vmm in order.
 */
static void changed_word_makes_linux_panic_and_reset(void **state)
{
	static const struct boot b = {
		.protocol = "pvh",
		.n_vcpus = 1,
		.kernel_options = "console=ttyS0",
		.init_mib = 1,
	};
	_cleanup_(vmm_run_freep) struct vmm_run *v = boot_to_init(&b);
	uint64_t gpa = 0, wrong = 0;
	struct vmm_stats s;
	int status = -1;

	/* again when it was being rewritten just then */
	wait_for(v, &s, get_stats, find_init_memory(v, &gpa) == 0);
	do /* again when it fell just between the check of that word and its next generation */
		(void)vmm_run_poke(v, gpa + 100 * sizeof(wrong), &wrong, sizeof(wrong));
	while (vmm_run_wait_exit(v, WAIT_MS / 8, &status) == -ETIMEDOUT &&
		!vmm_run_wait_text(v, CORRUPT, 0));
	assert_guest(v, vmm_run_wait_exit(v, WAIT_MS, &status) == 0);
	assert_guest(v, WIFEXITED(status) && WEXITSTATUS(status) == 0);
	assert_guest(v, vmm_run_wait_text(v, CORRUPT, 0));
}

static int find_kernel(void **state)
{
	FILE *f = popen(MEMD_BUILD_KERNEL, "r");
	bool found = f && fgets(kernel_path, sizeof(kernel_path), f);

	if (f && pclose(f) != 0)
		found = false;
	kernel_path[strcspn(kernel_path, "\n")] = '\0';
	if (!found)
		(void)fprintf(stderr, "# %s gave no kernel\n", MEMD_BUILD_KERNEL);
	return found ? 0 : -1;
}

/* Before each test that looks at the guest of the first: without it they have nothing to say. */
static int needs_guest(void **state)
{
	return guest ? 0 : -1;
}

static int end_guest(void **state)
{
	vmm_run_free(TAKE_PTR(guest));
	return 0;
}

#define of_guest(test) cmocka_unit_test_setup(test, needs_guest)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(linux_boots_by_the_64_bit_protocol),
		of_guest(statistics_arrive_and_are_plausible),
		of_guest(linux_balloon_inflates_to_target_and_the_host_gets_memory),
		of_guest(user_memory_is_whole_with_half_of_the_guest_gone),
		of_guest(linux_balloon_deflates_to_nothing),
		of_guest(balloon_follows_a_target_that_changes_on_the_way),
		of_guest(linux_lives_when_asked_for_everything),
		of_guest(linux_stands_still_while_paused),
		of_guest(power_button_reaches_the_acpi_driver),
		of_guest(linux_was_never_in_the_wrong),
		of_guest(quit_ends_the_guest),
		cmocka_unit_test(linux_boots_by_pvh_and_prints_on_the_virtio_console),
		of_guest(linux_reports_free_pages_and_the_host_gets_memory),
		of_guest(reported_pages_go_into_the_balloon_and_come_back),
		of_guest(quit_ends_the_guest),
		cmocka_unit_test(linux_balloon_works_without_msix),
		cmocka_unit_test(changed_word_makes_linux_panic_and_reset),
	};

	if (!guests_can_run())
		return 0;
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, find_kernel, end_guest);
}
