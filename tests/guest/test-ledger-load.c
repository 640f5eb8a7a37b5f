/*
 * The books under load: guests that write, share, are sampled and paged out, all at once. At every
 * tick the sums agree with the kernel's within 1 %, and exactly while all guests are paused.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "memd/base/clock.h"
#include "memd/evict.h"
#include "tests/guest/host-run.h"
#include "tests/guest/sanitizer.h"
#include "tests/guest/vmm-run.h"

#define N_GUESTS 3
#define RUN_S	 12
#define WAIT_US	 (60 * US_PER_S)
#define LINE                                                                                       \
	"common_mib=32 unique_mib=48 zero_mib=16 rewrite_per_s=2000 rewrite_common_per_s=200 "     \
	"rewrite_zero_per_s=200 sweep_pages_per_s=5000 verify_per_s=20000 report_ms=500 "

static void on_done(void *context, int result, const struct refusal *refusal)
{
	(*(int *)context)++;
}

static uint64_t ticks_now(const struct host_run *h)
{
	return h->m->figures.ticks;
}

static void agrees_with_the_kernel_within_one_percent(void **state)
{
	struct guest *guests[N_GUESTS];
	struct host_run h;
	uint32_t worst_bp = 0, worst_paused_bp = 0;
	uint64_t seen = 0, shared = 0, swapped = 0;
	int n_paused = 0;
	unsigned n = 0;

	if (vmm_run_unusable()) {
		print_message("# not on this host: %s\n", vmm_run_unusable());
		return;
	}
	host_run_start(&h,
		"HostMemoryBudget=2G\nTickInterval=250ms\n[Share]\nShareScanTargetTime=2s\n", GIB);
	for (unsigned i = 0; i < N_GUESTS; i++) {
		char name[8], line[512];

		snprintf(name, sizeof(name), "g%u", i);
		snprintf(line, sizeof(line), LINE "seed=%u", i + 1);
		guests[i] = host_run_guest(&h, name, 128 * MIB, 1, line);
	}
	for (unsigned i = 0; i < N_GUESTS; i++)
		host_run_until_text(&h, guests[i], "phase=run", WAIT_US);
	for (uint64_t end_us = clock_monotonic_us() + RUN_S * US_PER_S;
		clock_monotonic_us() < end_us;) {
		host_run_for(&h, 20 * US_PER_MS);
		(void)evict_begin(h.m, guests[n % N_GUESTS], 8 * MIB, RECLAIM_URGENT);
		if (ticks_now(&h) == seen)
			continue;
		seen = ticks_now(&h);
		n++;
		worst_bp = worst_bp > h.m->ledger.mismatch_bp ? worst_bp : h.m->ledger.mismatch_bp;
		for (unsigned i = 0; i < N_GUESTS; i++) {
			shared += guests[i]->ledger.shared_bytes;
			swapped += guests[i]->ledger.swapped_bytes;
		}
	}
	assert_true(n >= 10 && shared > 0 && swapped > 0);
	for (unsigned i = 0; i < N_GUESTS; i++) {
		struct refusal refusal = {0};

		assert_int_equal(guest_pause(guests[i], GUEST_PAUSER_OPERATOR, "test", on_done,
					 &n_paused, &refusal),
			0);
	}
	while (n_paused < N_GUESTS)
		host_run_for(&h, 20 * US_PER_MS);
	for (unsigned i = 0; i < N_GUESTS; i++)
		evict_cancel(guests[i]);
	host_run_for(&h, 2 * US_PER_S); /* the pager ends, samples of before are gone */
	for (seen = ticks_now(&h); ticks_now(&h) < seen + 4;)
		host_run_for(&h, 20 * US_PER_MS);
	worst_paused_bp = h.m->ledger.mismatch_bp;
	print_message(
		"# %u ticks: worst %u bp; while paused %u bp\n", n, worst_bp, worst_paused_bp);
	assert_true(worst_bp <= 100);
	assert_int_equal(worst_paused_bp, 0);
	for (unsigned i = 0; i < N_GUESTS; i++)
		assert_int_equal(host_run_value(guests[i], "corrupt"), 0);
	host_run_end(&h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(agrees_with_the_kernel_within_one_percent),
	};

	if (HAS_THREAD_SANITIZER) {
		(void)printf("1..0 # SKIP the thread sanitizer's own memory changes under the figures\n");
		return 0;
	}
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
