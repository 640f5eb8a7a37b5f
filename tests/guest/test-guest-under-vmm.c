/*
 * memd-vmm as memd sees it, with the freestanding guest inside: what the guest wrote stays as it
 * was while memory is taken from it and given back; figures agree with the kernel's; a hostile
 * guest and a killed process harm nobody. Waits are for events, with bounds that only a hung
 * machine reaches.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <setjmp.h>
#include <signal.h>
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

static struct vmm_run *start(uint64_t memory_mib, unsigned n_vcpus, const char *cmdline)
{
	struct vmm_run_options o = {
		.cmdline = cmdline, .memory_bytes = memory_mib * MIB, .n_vcpus = n_vcpus};

	return start_guest(&o);
}

static void verify_with_vcpus(unsigned n_vcpus)
{
	_cleanup_(vmm_run_freep) struct vmm_run *v = start(128, n_vcpus,
		"seed=3 common_mib=16 unique_mib=48 zero_mib=16 hot_mib=16 rewrite_per_s=2000 "
		"rewrite_common_per_s=500 rewrite_zero_per_s=500 seconds=2 final_verify=1");

	assert_int_equal(vmm_run_hello(v)->n_vcpus, n_vcpus);
	assert_int_equal(vmm_run_hello(v)->ram_bytes, 128 * MIB);
	assert_good_end(v);
	assert_guest(v, vmm_run_value(v, "vcpus", 0) == n_vcpus);
	/*
	 * zero pages are written twice; then what was rewritten; everything is verified at the end
	 */
	assert_guest(v, vmm_run_value(v, "written", 0) > PAGES(16 + 48 + 2 * 16));
	assert_guest(v, vmm_run_value(v, "verified", 0) > PAGES(16 + 48 + 16));
	assert_guest(v, vmm_run_value(v, "least_verified", 0) >= PAGES(16 + 48 + 16) / n_vcpus);
}

static void guest_verifies_what_it_wrote(void **state)
{
	verify_with_vcpus(1);
}

static void guest_verifies_what_it_wrote_on_2_vcpus(void **state)
{
	verify_with_vcpus(2);
}

static void guest_verifies_what_it_wrote_on_4_vcpus(void **state)
{
	verify_with_vcpus(4);
}

static void guest_uses_memory_above_4_gib(void **state)
{
	_cleanup_(vmm_run_freep) struct vmm_run *v = start(3584, 1,
		"skip_mib=3100 common_mib=16 unique_mib=32 zero_mib=16 seconds=2 final_verify=1");

	assert_int_equal(vmm_run_hello(v)->n_ranges, 2);
	assert_int_equal(vmm_run_hello(v)->ranges[1].gpa, 4 * GIB);
	assert_guest(v, vmm_run_wait_text(v, "phase=", WAIT_MS));
	/* what lies below stays untouched, but for the tables of the guest */
	assert_true(vmm_run_anonymous_bytes(v) < 256 * MIB);
	assert_good_end(v);
}

static void guest_notices_a_word_changed_behind_its_back(void **state)
{
	_cleanup_(vmm_run_freep) struct vmm_run *v = start(64, 1, "unique_mib=32 report_ms=100");
	uint64_t wrong = UINT64_C(0x1122334455667788);

	assert_guest(v, vmm_run_wait_text(v, "phase=run", WAIT_MS));
	assert_int_equal(vmm_run_poke(v, 16 * MIB + 8 * 100, &wrong, sizeof(wrong)), 0);
	assert_guest(v, vmm_run_wait_text(v, "found=0x1122334455667788", WAIT_MS));
	assert_guest(v, vmm_run_wait_text(v, "gpa=0x1000000", 0));
	assert_guest(v, vmm_run_wait_text(v, "word=100", 0));
	assert_guest(v, vmm_run_wait_value(v, "corrupt", 1, WAIT_MS));
}

static void balloon_gives_memory_to_the_host_and_takes_it_back(void **state)
{
	_cleanup_(vmm_run_freep) struct vmm_run *v = start(256, 2,
		"unique_mib=64 scratch_mib=128 scratch_s=0 reporting=0 check_returned=1 "
		"report_ms=100 "
		"rewrite_per_s=2000");
	uint64_t before;
	struct vmm_stats stats;

	/* 64 of about 254 MiB stay in use once the scratch area is free again */
	assert_guest(v, vmm_run_wait_text(v, "phase=run", WAIT_MS));
	assert_guest(v, vmm_run_wait_value(v, "free", PAGES(180), WAIT_MS));
	before = vmm_run_anonymous_bytes(v);
	assert_true(before >= (64 + 128) * MIB);

	assert_int_equal(vmm_run_set_balloon(v, PAGES(96)), 0);
	assert_guest(v, vmm_run_wait_value(v, "balloon", PAGES(96), WAIT_MS));
	stats = get_stats(v);
	assert_int_equal(stats.balloon_ready, 1);
	assert_int_equal(stats.balloon_target_pages, PAGES(96));
	assert_int_equal(stats.balloon_actual_pages, PAGES(96));
	assert_int_equal(stats.hole_balloon_pages, PAGES(96));
	/* the scratch pages go first, and they were backed */
	assert_int_equal(stats.freed_balloon_pages, PAGES(96));
	/* as ranges: a run of 256 pages at the least */
	assert_in_range(stats.balloon_discard_calls, 1, PAGES(96) / 256 + 1);
	assert_true(vmm_run_anonymous_bytes(v) <= before - 90 * MIB);

	assert_int_equal(vmm_run_set_balloon(v, PAGES(32)), 0);
	assert_guest(v, vmm_run_wait_value(v, "returned", PAGES(64), WAIT_MS));
	stats = get_stats(v);
	assert_int_equal(stats.balloon_actual_pages, PAGES(32));
	assert_int_equal(stats.hole_balloon_pages, PAGES(32));
	assert_int_equal(vmm_run_set_balloon(v, 0), 0);
	assert_guest(v, vmm_run_wait_value(v, "returned", PAGES(96), WAIT_MS));
	assert_guest(v, vmm_run_value(v, "balloon", 1) == 0);
	assert_guest(v, vmm_run_value(v, "returned_dirty", 1) == 0);
	assert_guest(v, vmm_run_value(v, "corrupt", 1) == 0);
}

static void balloon_stops_where_the_guest_has_no_free_page(void **state)
{
	_cleanup_(vmm_run_freep) struct vmm_run *v =
		start(64, 1, "unique_mib=40 report_ms=100 seconds=6");

	assert_guest(v, vmm_run_wait_text(v, "phase=run", WAIT_MS));
	assert_int_equal(vmm_run_set_balloon(v, PAGES(64)), 0);
	assert_guest(v, vmm_run_wait_value(v, "balloon", PAGES(20), WAIT_MS));
	assert_guest(v, vmm_run_value(v, "free", 1) == 0);
	assert_good_end(v);
}

static void balloon_goes_up_and_down_while_the_guest_reuses_pages(void **state)
{
	_cleanup_(vmm_run_freep) struct vmm_run *v = start(192, 2,
		"unique_mib=48 zero_mib=8 scratch_mib=64 scratch_s=0 scratch_rounds=1000000 "
		"rewrite_per_s=5000 report_ms=100");
	uint64_t deadline = clock_monotonic_us() + WAIT_MS * US_PER_MS, verified;
	unsigned turns = 0;

	assert_guest(v, vmm_run_wait_text(v, "phase=run", WAIT_MS));
	do {
		assert_int_equal(vmm_run_set_balloon(v, turns++ % 2 ? PAGES(8) : PAGES(100)), 0);
		clock_sleep_us(200 * US_PER_MS);
		(void)get_stats(v);
	} while (clock_monotonic_us() < deadline &&
		 (turns < 20 || vmm_run_value(v, "returned", 0) < PAGES(92) ||
			 vmm_run_value(v, "reported", 0) < PAGES(64)));
	assert_guest(v, vmm_run_value(v, "returned", 0) >= PAGES(92));
	assert_guest(v, vmm_run_value(v, "reported", 0) >= PAGES(64));
	verified = vmm_run_value(v, "verified", 0);
	assert_guest(v, vmm_run_wait_value(v, "verified", verified + PAGES(48), WAIT_MS));
	assert_guest(v, vmm_run_value(v, "corrupt", 1) == 0);
}

static void reported_free_pages_return_to_the_host(void **state)
{
	_cleanup_(vmm_run_freep) struct vmm_run *v =
		start(192, 1, "unique_mib=32 scratch_mib=96 scratch_s=3 report_ms=100");
	struct vmm_stats stats;
	uint64_t before;

	assert_guest(v, vmm_run_wait_value(v, "written", PAGES(32 + 96), WAIT_MS));
	before = vmm_run_anonymous_bytes(v);
	assert_true(before >= (32 + 96) * MIB);
	assert_guest(v, vmm_run_wait_value(v, "reported", PAGES(96), WAIT_MS));
	stats = get_stats(v);
	assert_int_equal(stats.hole_reported_pages, PAGES(96));
	assert_int_equal(stats.freed_reported_pages, PAGES(96));
	assert_true(vmm_run_anonymous_bytes(v) <= before - 90 * MIB);
	assert_guest(v, vmm_run_value(v, "corrupt", 1) == 0);
}

static void statistics_arrive(void **state)
{
	_cleanup_(vmm_run_freep) struct vmm_run *v = start(128, 1, "unique_mib=32 report_ms=100");
	uint64_t deadline = clock_monotonic_us() + WAIT_MS * US_PER_MS;
	struct vmm_stats stats;

	assert_guest(v, vmm_run_wait_text(v, "phase=run", WAIT_MS));
	do {
		stats = get_stats(v);
		clock_sleep_us(50 * US_PER_MS);
	} while (!stats.guest_stats_time_us && clock_monotonic_us() < deadline);
	assert_in_range(stats.guest_total_bytes, 120 * MIB, 128 * MIB);
	assert_in_range(stats.guest_free_bytes, 80 * MIB, 96 * MIB);
	assert_int_equal(stats.guest_available_bytes, stats.guest_free_bytes);
	/* what the guest did not say */
	assert_true(stats.guest_swap_in_bytes == UINT64_MAX);
	assert_true(stats.guest_major_faults == UINT64_MAX);
}

#define HOSTILE_ROUNDS 160

static void hostile(const char *target, unsigned n_vcpus, unsigned seed)
{
	_cleanup_(vmm_run_freep) struct vmm_run *v = NULL;
	char cmdline[128];

	(void)snprintf(cmdline, sizeof(cmdline),
		"mode=hostile target=%s seed=%u rounds=150 then=work unique_mib=16 seconds=1",
		target, seed);
	v = start(64, n_vcpus, cmdline);
	(void)get_stats(v);
	assert_good_end(v);
	assert_guest(v, vmm_run_wait_text(v, "memd-guest: hostile", 0));
	assert_guest(v, vmm_run_value(v, "rounds", 0) > 0);
}

static void hostile_guest_never_harms_the_balloon(void **state)
{
	hostile("balloon", 1, 1);
	hostile("balloon", 1, 2);
}

static void hostile_guest_never_harms_the_console(void **state)
{
	hostile("console", 1, 3);
	hostile("console", 1, 4);
}

static void hostile_guest_never_harms_the_vmm(void **state)
{
	hostile("all", 1, 5);
	hostile("all", 1, 6);
}

static void hostile_vcpus_at_once_never_harm_the_vmm(void **state)
{
	hostile("all", 2, 7);
	hostile("balloon", 4, 8);
}

static void paused_guest_stands_still_and_goes_on(void **state)
{
	_cleanup_(vmm_run_freep) struct vmm_run *v =
		start(64, 2, "unique_mib=16 report_ms=50 rewrite_per_s=1000");
	_cleanup_free_ char *before = NULL, *after = NULL;
	uint64_t verified;

	assert_guest(v, vmm_run_wait_text(v, "phase=run", WAIT_MS));
	for (unsigned turn = 0; turn < 5; turn++) {
		assert_int_equal(vmm_run_request(v, VMM_PAUSE, NULL, 0), 0);
		assert_int_equal(get_stats(v).state, VMM_STATE_PAUSED);
		verified = vmm_run_value(v, "verified", 0);
		clock_sleep_us(300 * US_PER_MS);
		assert_int_equal(vmm_run_value(v, "verified", 0), verified);
		assert_int_equal(vmm_run_request(v, VMM_RESUME, NULL, 0), 0);
		assert_int_equal(get_stats(v).state, VMM_STATE_RUNNING);
		assert_guest(v, vmm_run_wait_value(v, "verified", verified + 1, WAIT_MS));
	}
	assert_guest(v, vmm_run_value(v, "corrupt", 1) == 0);
}

static void quit_ends_the_process_with_0(void **state)
{
	_cleanup_(vmm_run_freep) struct vmm_run *v = start(64, 2, "unique_mib=16");
	int status = -1;

	assert_int_equal(vmm_run_request(v, VMM_QUIT, NULL, 0), 0);
	assert_int_equal(vmm_run_wait_exit(v, WAIT_MS, &status), 0);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void killed_vmm_is_gone_at_once(void **state)
{
	_cleanup_(vmm_run_freep) struct vmm_run *v = start(64, 2, "unique_mib=16 report_ms=100");
	struct vmm_stats stats;
	int status = -1;

	assert_guest(v, vmm_run_wait_text(v, "phase=run", WAIT_MS));
	assert_int_equal(kill(vmm_run_pid(v), SIGKILL), 0);
	assert_int_equal(vmm_run_wait_exit(v, WAIT_MS, &status), 0);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	assert_int_equal(vmm_run_anonymous_bytes(v), 0);
	assert_int_equal(vmm_run_get_stats(v, &stats), -EPIPE);
}

static void unknown_request_is_refused_and_harms_nothing(void **state)
{
	_cleanup_(vmm_run_freep) struct vmm_run *v = start(64, 1, "unique_mib=16");

	assert_true(vmm_run_request(v, (enum vmm_message_type)99, NULL, 0) < 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(guest_verifies_what_it_wrote),
		cmocka_unit_test(guest_verifies_what_it_wrote_on_2_vcpus),
		cmocka_unit_test(guest_verifies_what_it_wrote_on_4_vcpus),
		cmocka_unit_test(guest_uses_memory_above_4_gib),
		cmocka_unit_test(guest_notices_a_word_changed_behind_its_back),
		cmocka_unit_test(balloon_gives_memory_to_the_host_and_takes_it_back),
		cmocka_unit_test(balloon_stops_where_the_guest_has_no_free_page),
		cmocka_unit_test(balloon_goes_up_and_down_while_the_guest_reuses_pages),
		cmocka_unit_test(reported_free_pages_return_to_the_host),
		cmocka_unit_test(statistics_arrive),
		cmocka_unit_test(hostile_guest_never_harms_the_balloon),
		cmocka_unit_test(hostile_guest_never_harms_the_console),
		cmocka_unit_test(hostile_guest_never_harms_the_vmm),
		cmocka_unit_test(hostile_vcpus_at_once_never_harm_the_vmm),
		cmocka_unit_test(paused_guest_stands_still_and_goes_on),
		cmocka_unit_test(quit_ends_the_process_with_0),
		cmocka_unit_test(killed_vmm_is_gone_at_once),
		cmocka_unit_test(unknown_request_is_refused_and_harms_nothing),
	};

	if (!guests_can_run())
		return 0;
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
