/*
 * The budget while a guest grows as fast as two vCPUs can write, again and again: what guests, zram
 * and pools take together, read here every few milliseconds and not believed from memd, never goes
 * over 1.02 of the budget; nobody is killed; every byte is right. MEMD_TEST_GROWTHS says how often.
 *
 * On cgroups v1 the kernel holds nobody back (memd/wall.c). Where the host itself gets no CPU for 40 ms,
 * nothing that runs on it can: there it is 1.05.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <inttypes.h>
#include <stdatomic.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "memd/base/cgroup.h"
#include "memd/base/clock.h"
#include "tests/guest/host-run.h"
#include "tests/guest/vmm-run.h"

#define BUDGET_MIB  1024
#define QUIET_MIB   800
#define GUEST_MIB   512
#define GROW_MIB    320
#define LOOK_US	    (2 * US_PER_MS)
#define GROWTHS	    15
#define GROW_MAX_US (120 * US_PER_S)

/* Reads what is taken, in a thread of its own. */
struct watch {
	pthread_t thread;
	atomic_bool stop;
	const struct cgroup *cgroup;
	int zram;
	uint64_t peak_bytes;
	uint64_t n_looks;
};

static uint64_t zram_bytes(int number)
{
	_cleanup_free_ char *text = NULL;
	struct swap_device d = {0};
	char path[64];

	snprintf(path, sizeof(path), "/sys/block/zram%d/mm_stat", number);
	if (fd_read_file_at(AT_FDCWD, path, 4096, &text, NULL) < 0 ||
		procfs_parse_mm_stat(text, &d) < 0)
		return 0;
	return d.zram_occupied_bytes;
}

static void *look(void *argument)
{
	struct watch *w = argument;

	while (!atomic_load(&w->stop)) {
		uint64_t used = 0;

		(void)cgroup_read_usage(w->cgroup, &used);
		used += zram_bytes(w->zram);
		if (used > w->peak_bytes)
			w->peak_bytes = used;
		w->n_looks++;
		clock_sleep_us(LOOK_US);
	}
	return NULL;
}

static unsigned growths(void)
{
	const char *text = getenv("MEMD_TEST_GROWTHS");

	return text && atoi(text) > 0 ? (unsigned)atoi(text) : GROWTHS;
}

/* A guest that fills its memory at full speed, walks a part of it once, and goes. */
static void grow_once(struct host_run *h, unsigned i)
{
	char line[256], name[16];
	struct guest *g;
	uint64_t begin_us = clock_monotonic_us();

	snprintf(name, sizeof(name), "grows%u", i);
	snprintf(line, sizeof(line),
		"common_mib=0 unique_mib=%d hot_mib=16 sweep_pages_per_s=10000 verify_per_s=10000 "
		"seed=%u report_ms=100",
		GROW_MIB, i + 1);
	g = host_run_guest(h, name, GUEST_MIB * MIB, 2, line);
	host_run_until_text(h, g, "phase=run", GROW_MAX_US);
	host_run_until_value(h, g, "verified", 10000, GROW_MAX_US);
	assert_int_equal(host_run_value(g, "corrupt"), 0);
	host_run_stop_guest(h, g);
	print_message("# growth %u: %.1f s\n", i + 1,
		(double)(clock_monotonic_us() - begin_us) / US_PER_S);
}

static void holds_while_guests_grow_again_and_again(void **state)
{
	static struct host_run h;
	struct watch w = {0};
	struct guest *quiet;
	char config[64], line[128];
	uint64_t own, most_percent;

	if (vmm_run_unusable()) {
		print_message("# not on this host: %s\n", vmm_run_unusable());
		return;
	}
	snprintf(config, sizeof(config), "HostMemoryBudget=%dM", BUDGET_MIB);
	host_run_start(&h, config, GIB);
	if (!h.m->wall.root) {
		print_message("# not on this host: memory cgroups\n");
		host_run_end(&h);
		return;
	}
	snprintf(line, sizeof(line),
		"common_mib=0 unique_mib=%d hot_mib=8 verify_per_s=5000 sweep_pages_per_s=1000 "
		"seed=99",
		QUIET_MIB);
	quiet = host_run_guest(&h, "quiet", (QUIET_MIB + 64) * MIB, 1, line);
	host_run_until_text(&h, quiet, "phase=run", GROW_MAX_US);
	most_percent = h.m->wall.mode == CGROUP_V2 ? 102 : 105;
	w.cgroup = h.m->wall.root;
	w.zram = h.swap.number;
	assert_int_equal(pthread_create(&w.thread, NULL, look, &w), 0);
	for (unsigned i = 0; i < growths(); i++)
		grow_once(&h, i);
	atomic_store(&w.stop, true);
	pthread_join(w.thread, NULL);
	/* memd and the pools beside the guests, which do not grow */
	own = h.m->ledger.pool_bytes + h.m->own_costs.memd_bytes;
	print_message(
		"# %u growths, %" PRIu64 " looks: peak %.1f MiB beside %.1f of memd and "
		"pools, %.3f of the budget; memd saw %.3f, slowest look of late %.0f ms, pause "
		"%.0f ms\n",
		growths(), w.n_looks, (double)w.peak_bytes / MIB, (double)own / MIB,
		(double)(w.peak_bytes + own) / (BUDGET_MIB * MIB),
		(double)h.m->figures.peak_used_bytes / (BUDGET_MIB * MIB),
		h.m->wall.budget.look.us / US_PER_MS, h.m->wall.budget.pause.us / US_PER_MS);
	assert_true(w.peak_bytes + own <= BUDGET_MIB * MIB / 100 * most_percent);
	/* The one that did not grow lives, and lost nothing. */
	assert_int_equal(quiet->state == GUEST_RUNNING || quiet->state == GUEST_PAUSED, 1);
	assert_int_equal(host_run_value(quiet, "corrupt"), 0);
	assert_int_equal(h.m->n_guests, 1);
	host_run_end(&h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(holds_while_guests_grow_again_and_again),
	};

	setvbuf(stdout, NULL, _IOLBF, 0);
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
