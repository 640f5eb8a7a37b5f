/*
 * Lives of guests under a manager without a bus, with a memd-vmm that has no guest (fake-vmm, found
 * beside this program): starts, ends of every kind, and what a memd-vmm that misbehaves costs
 * others.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "memd/base/clock.h"
#include "memd/base/log.h"
#include "memd/base/units.h"
#include "memd/manager.h"

#define WAIT_US (60 * US_PER_S)

struct world {
	struct manager *m;
	struct manager_options options;
	char dir[64];
	char config_path[80];
	char guests_dir[80];
	char run_dir[80];
	/* the last answer */
	int n_answers;
	int result;
	struct refusal refusal;
};

static void write_file(const char *path, const char *format, ...)
{
	FILE *f = fopen(path, "we");
	va_list ap;

	assert_non_null(f);
	va_start(ap, format);
	vfprintf(f, format, ap);
	va_end(ap);
	fclose(f);
}

static void beside_us(const char *name, char *ret, size_t size)
{
	char self[512];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	assert_true(n > 0);
	self[n] = '\0';
	*strrchr(self, '/') = '\0';
	assert_true((size_t)snprintf(ret, size, "%s/%s", self, name) < size);
}

static void new_manager(struct world *w)
{
	struct error e = {0};

	if (manager_new(&w->options, &w->m, &e) < 0)
		fail_msg("%s", e.text);
}

static int set_up(void **state)
{
	struct world *w = calloc(1, sizeof(*w));
	char vmm[600];

	assert_non_null(w);
	snprintf(w->dir, sizeof(w->dir), "/tmp/memd-life.XXXXXX");
	assert_non_null(mkdtemp(w->dir));
	snprintf(w->config_path, sizeof(w->config_path), "%s/memd.conf", w->dir);
	snprintf(w->guests_dir, sizeof(w->guests_dir), "%s/guests.d", w->dir);
	snprintf(w->run_dir, sizeof(w->run_dir), "%s/run", w->dir);
	assert_int_equal(mkdir(w->guests_dir, 0700), 0);
	beside_us("fake-vmm", vmm, sizeof(vmm));
	write_file(w->config_path,
		"[Host]\nHostMemoryBudget=256M\nTickInterval=100ms\nCgroup=off\nVmmPath=%s\n"
		"[Share]\nMode=zero-only\n[Libvirt]\nManageLibvirt=no\n",
		vmm);
	w->options = (struct manager_options){
		.config_path = w->config_path,
		.guests_dir = w->guests_dir,
		.runtime_dir = w->run_dir,
		.state_dir = w->dir,
	};
	new_manager(w);
	*state = w;
	return 0;
}

/* Turns the loop until the condition holds; fails the test when that takes too long. */
#define UNTIL(w, condition)                                                                        \
	do {                                                                                       \
		uint64_t until_begin_us_ = clock_monotonic_us();                                   \
		while (!(condition)) {                                                             \
			assert_true(clock_monotonic_us() - until_begin_us_ < WAIT_US);             \
			assert_true(sd_event_run((w)->m->event, 50 * US_PER_MS) >= 0);             \
		}                                                                                  \
	} while (0)

static int tear_down(void **state)
{
	struct world *w = *state;
	char command[96];

	for (size_t i = 0; i < w->m->n_guests; i++)
		guest_stop(w->m->guests[i], GUEST_STOP_FORCE, NULL, NULL);
	UNTIL(w, w->m->n_guests == 0);
	manager_free(w->m);
	snprintf(command, sizeof(command), "rm -rf %s", w->dir);
	assert_int_equal(system(command), 0);
	free(w);
	return 0;
}

static void on_answer(void *context, int result, const struct refusal *refusal)
{
	struct world *w = context;

	w->n_answers++;
	w->result = result;
	w->refusal = refusal ? *refusal : (struct refusal){0};
}

static int begin(struct world *w, const char *name, const char *how, const char *more_key,
	const char *more_value, struct guest **ret)
{
	struct config_pair settings[] = {
		{.key = (char[]){"Memory"}, .value = (char[]){"32M"}},
		{.key = (char[]){"Kernel"}, .value = (char[]){"/none"}},
		{.key = (char[]){"CommandLine"}, .value = (char *)(uintptr_t)how},
		{.key = (char *)(uintptr_t)more_key, .value = (char *)(uintptr_t)more_value},
	};

	w->n_answers = 0;
	w->refusal = (struct refusal){0};
	return manager_start_guest(
		w->m, name, settings, more_key ? 4 : 3, on_answer, w, ret, &w->refusal);
}

static struct guest *start(struct world *w, const char *name, const char *how)
{
	struct guest *g;

	assert_int_equal(begin(w, name, how, NULL, NULL, &g), 0);
	UNTIL(w, w->n_answers == 1);
	assert_int_equal(w->result, 0);
	assert_int_equal(g->state, GUEST_RUNNING);
	return g;
}

static void wait_ticks(struct world *w, uint64_t n)
{
	uint64_t from = w->m->figures.ticks;

	UNTIL(w, w->m->figures.ticks >= from + n);
}

static void a_started_guest_runs_and_its_figures_are_the_kernels(void **state)
{
	struct world *w = *state;
	struct guest *g = start(w, "a", "touch_mib=8");

	UNTIL(w, g->sample.valid && w->m->ledger.private_bytes > 0);
	assert_in_range(g->ledger.private_bytes, 8 * MIB, 8 * MIB + 64 * KIB);
	assert_int_equal(g->ledger.private_bytes + g->ledger.hole_untouched_bytes, 32 * MIB);
	assert_int_equal(g->ledger.mismatch_bp, 0);
	assert_in_range(w->m->figures.used_bytes, 8 * MIB, 64 * MIB);
}

static void a_guest_that_does_not_start_says_why_and_leaves_nothing(void **state)
{
	struct world *w = *state;
	struct guest *g;
	char path[128];

	assert_int_equal(begin(w, "a", "fail", NULL, NULL, &g), 0);
	UNTIL(w, w->n_answers == 1);
	assert_true(w->result < 0);
	assert_int_equal(w->refusal.kind, REFUSAL_START_FAILED);
	assert_non_null(strstr(w->refusal.error.text, "the fake was told to fail"));
	UNTIL(w, w->m->n_guests == 0);
	snprintf(path, sizeof(path), "%s/guest", w->run_dir);
	assert_int_equal(rmdir(path), 0); /* empty */
	assert_int_equal(mkdir(path, 0700), 0);
}

static void a_program_that_is_not_there_is_named(void **state)
{
	struct world *w = *state;
	struct guest *g;

	w->m->environment.vmm_path = "/no/such/memd-vmm";
	assert_int_equal(begin(w, "a", "", NULL, NULL, &g), 0);
	UNTIL(w, w->n_answers == 1);
	assert_non_null(strstr(w->refusal.error.text, "/no/such/memd-vmm"));
}

static void refuses_bad_input_and_changes_nothing(void **state)
{
	struct world *w = *state;
	struct guest *g;

	start(w, "a", "");
	assert_true(begin(w, "a", "", NULL, NULL, &g) < 0);
	assert_int_equal(w->refusal.kind, REFUSAL_GUEST_EXISTS);
	assert_true(begin(w, "a/b", "", NULL, NULL, &g) < 0);
	assert_int_equal(w->refusal.kind, REFUSAL_BAD_SETTING);
	assert_true(begin(w, "b", "", "Memor", "1G", &g) < 0);
	assert_int_equal(w->refusal.kind, REFUSAL_BAD_SETTING);
	assert_true(begin(w, "b", "", "Memory", "99999999999G", &g) < 0);
	assert_int_equal(w->refusal.kind, REFUSAL_BAD_SETTING);
	assert_true(manager_start_guest(w->m, "b", NULL, 0, on_answer, w, &g, &w->refusal) < 0);
	assert_int_equal(w->refusal.kind, REFUSAL_NO_SUCH_GUEST);
	assert_int_equal(w->m->n_guests, 1);
}

static void admits_only_floors_that_fit_the_budget(void **state)
{
	struct world *w = *state;
	struct guest *g;

	/* Of 256 MiB: 8 for a memd-vmm, so a floor of 248 fits alone, and a page more does not. */
	assert_true(begin(w, "b", "", "Memory", "1000M", &g) < 0);
	assert_int_equal(w->refusal.kind, REFUSAL_BELOW_FLOOR);
	assert_int_equal(begin(w, "b", "", "Memory", "992M", &g), 0);
	UNTIL(w, w->n_answers == 1);
	assert_true(begin(w, "c", "", NULL, NULL, &g) < 0);
	assert_int_equal(w->refusal.kind, REFUSAL_BELOW_FLOOR);
	assert_non_null(strstr(w->refusal.error.text, "256 MiB"));
}

static void targets_outside_of_the_limits_are_refused(void **state)
{
	struct world *w = *state;
	struct guest *g = start(w, "a", "");
	struct refusal refusal = {0};

	assert_true(manager_set_target(w->m, g, 8 * MIB - 1, &refusal) < 0);
	assert_int_equal(refusal.kind, REFUSAL_BELOW_FLOOR);
	assert_true(manager_set_target(w->m, g, 32 * MIB + 1, &refusal) < 0);
	assert_int_equal(refusal.kind, REFUSAL_ABOVE_CONFIGURED);
	assert_int_equal(g->fixed_bytes, 0);
	assert_int_equal(manager_set_target(w->m, g, 8 * MIB, &refusal), 0);
	assert_int_equal(manager_set_target(w->m, g, 32 * MIB, &refusal), 0);
	assert_int_equal(manager_set_target(w->m, g, 0, &refusal), 0);
}

static void the_balloon_follows_an_operators_target_on_an_idle_host(void **state)
{
	struct world *w = *state;
	struct guest *g = start(w, "a", "touch_mib=8");
	struct refusal refusal = {0};

	assert_int_equal(manager_set_target(w->m, g, 16 * MIB, &refusal), 0);
	UNTIL(w, g->sample.after.balloon_actual_pages >= 14 * MIB / PAGE_BYTES);
	assert_int_equal(manager_set_target(w->m, g, 0, &refusal), 0);
	UNTIL(w, g->sample.after.balloon_actual_pages == 0);
}

static void a_killed_guest_leaves_the_others_and_the_ledger_right(void **state)
{
	struct world *w = *state;
	struct guest *a = start(w, "a", "touch_mib=16"), *b = start(w, "b", "touch_mib=4");
	uint64_t ticks;

	UNTIL(w, a->sample.valid && b->sample.valid && w->m->ledger.private_bytes >= 20 * MIB);
	kill(a->child.pid, SIGKILL);
	UNTIL(w, w->m->n_guests == 1);
	ticks = w->m->figures.ticks;
	UNTIL(w, w->m->ledger.private_bytes < 5 * MIB);
	assert_true(w->m->figures.ticks - ticks <= 2);
	assert_ptr_equal(manager_find_guest(w->m, "b"), b);
	assert_int_equal(b->state, GUEST_RUNNING);
	assert_int_equal(w->m->ledger.configured_bytes, 32 * MIB);
}

static char last_reason[VMM_REASON_MAX];
static enum guest_state last_state;
static void (*real_gone)(struct guest *g);

static void note_gone(struct guest *g)
{
	last_state = g->state;
	snprintf(last_reason, sizeof(last_reason), "%s", g->state_reason);
	real_gone(g);
}

static void watch_ends(struct world *w)
{
	last_reason[0] = '\0';
	real_gone = w->m->environment.gone;
	w->m->environment.gone = note_gone;
}

static void the_reason_of_an_end_is_told(void **state)
{
	struct world *w = *state;
	struct guest *g = start(w, "a", "");
	struct refusal refusal = {0};

	watch_ends(w);
	kill(g->child.pid, SIGKILL);
	UNTIL(w, w->m->n_guests == 0);
	assert_int_equal(last_state, GUEST_FAILED);
	assert_non_null(strstr(last_reason, "signal 9"));

	g = start(w, "a", "");
	assert_int_equal(guest_power_button(g, NULL, NULL, &refusal), 0);
	UNTIL(w, w->m->n_guests == 0);
	assert_int_equal(last_state, GUEST_POWERED_OFF);
	assert_string_equal(last_reason, "powered off");

	g = start(w, "a", "");
	guest_stop(g, GUEST_STOP_FORCE, on_answer, w);
	w->n_answers = 0;
	UNTIL(w, w->m->n_guests == 0);
	assert_int_equal(w->n_answers, 1);
	assert_int_equal(last_state, GUEST_POWERED_OFF);
	assert_string_equal(last_reason, "stopped");
}

static void a_memd_vmm_that_talks_nonsense_is_ended(void **state)
{
	struct world *w = *state;
	struct guest *g;

	watch_ends(w);
	assert_int_equal(begin(w, "a", "garbage", NULL, NULL, &g), 0);
	UNTIL(w, w->m->n_guests == 0);
	assert_int_equal(last_state, GUEST_FAILED);
}

static void a_stopped_memd_vmm_blocks_neither_ticks_nor_others(void **state)
{
	struct world *w = *state;
	struct guest *a = start(w, "a", "touch_mib=4"), *b = start(w, "b", "touch_mib=4");
	uint64_t begin_us;

	wait_ticks(w, 2);
	kill(a->child.pid, SIGSTOP);
	wait_ticks(w, 1);
	begin_us = clock_monotonic_us();
	wait_ticks(w, 5);
	assert_true(clock_monotonic_us() - begin_us < 5 * US_PER_S);
	assert_false(a->sample.fresh);
	UNTIL(w, b->sample.fresh);
	/* It does not hear QUIT either, and is killed. */
	w->n_answers = 0;
	watch_ends(w);
	guest_stop(a, GUEST_STOP_FORCE, on_answer, w);
	UNTIL(w, w->n_answers == 1);
	assert_non_null(strstr(last_reason, "killed"));
	assert_int_equal(b->state, GUEST_RUNNING);
}

static void figures_that_do_not_come_count_as_absent(void **state)
{
	struct world *w = *state;
	struct guest *g = start(w, "a", "no_stats");

	wait_ticks(w, 3);
	assert_false(g->sample.fresh);
	assert_false(g->sample.valid);
	assert_int_equal(g->balloon_target_bytes, 0);
}

static void false_claims_are_flagged(void **state)
{
	struct world *w = *state;
	struct guest *g = start(w, "a", "touch_mib=16 lie_pages=1024");

	UNTIL(w, g->sample.valid && g->ledger.mismatch_bp > LEDGER_MISMATCH_LIMIT_BP);
	assert_in_range(g->ledger.mismatch_bp, 2400, 2600); /* 4 of 16 MiB */
	assert_in_range(g->ledger.private_bytes, 16 * MIB, 17 * MIB);
}

static void pause_and_resume_are_answered_when_it_is_so(void **state)
{
	struct world *w = *state;
	struct guest *g = start(w, "a", "");
	struct refusal refusal = {0};

	w->n_answers = 0;
	assert_int_equal(guest_pause(g, GUEST_PAUSER_OPERATOR, "test", on_answer, w, &refusal), 0);
	assert_int_equal(g->state, GUEST_RUNNING);
	UNTIL(w, w->n_answers == 1);
	assert_int_equal(g->state, GUEST_PAUSED);
	assert_string_equal(g->state_reason, "test");
	/* What two wanted is over when neither wants it any more. */
	assert_int_equal(guest_pause(g, GUEST_PAUSER_HOST, "short", on_answer, w, &refusal), 0);
	assert_int_equal(guest_resume(g, GUEST_PAUSER_OPERATOR, on_answer, w, &refusal), -EBUSY);
	assert_int_equal(refusal.kind, REFUSAL_BUSY);
	assert_int_equal(guest_resume(g, GUEST_PAUSER_HOST, on_answer, w, &refusal), 0);
	UNTIL(w, g->state == GUEST_RUNNING);
}

static void a_power_button_that_is_ignored_ends_in_quit(void **state)
{
	struct world *w = *state;
	struct guest *g = start(w, "a", "no_power");

	watch_ends(w);
	w->n_answers = 0;
	guest_stop(g, GUEST_STOP_ORDERLY, on_answer, w);
	wait_ticks(w, 5);
	assert_int_equal(w->n_answers, 0);
	guest_stop(g, GUEST_STOP_FORCE, on_answer, w); /* who has no patience may say so */
	UNTIL(w, w->n_answers == 2);
	assert_string_equal(last_reason, "stopped");
}

static void a_new_memd_adopts_what_the_former_left(void **state)
{
	struct world *w = *state;
	struct guest *g = start(w, "a", "touch_mib=8");
	pid_t pid = g->child.pid;

	manager_free(w->m);
	assert_int_equal(kill(pid, 0), 0);
	new_manager(w);
	g = manager_find_guest(w->m, "a");
	assert_non_null(g);
	assert_int_equal(g->child.pid, pid);
	UNTIL(w, g->state == GUEST_RUNNING && g->ledger.private_bytes > 0);
	assert_int_equal(g->config.memory_bytes, 32 * MIB);
	assert_null(g->timer); /* nothing is left that would end it as one that does not start */
	assert_in_range(g->ledger.private_bytes, 8 * MIB, 9 * MIB);
	/* Its end is seen too, although it is nobody's child. */
	watch_ends(w);
	kill(pid, SIGKILL);
	UNTIL(w, w->m->n_guests == 0);
	assert_int_equal(last_state, GUEST_FAILED);
}

static void an_operators_target_outlives_memd(void **state)
{
	struct world *w = *state;
	struct guest *g = start(w, "a", "");
	struct refusal refusal = {0};

	assert_int_equal(manager_set_target(w->m, g, 20 * MIB, &refusal), 0);
	manager_free(w->m);
	new_manager(w);
	g = manager_find_guest(w->m, "a");
	assert_int_equal(g->fixed_bytes, 20 * MIB);
	UNTIL(w, g->sample.valid);
	wait_ticks(w, 2);
	assert_int_equal(g->target_bytes, 20 * MIB);
	assert_int_equal(manager_set_target(w->m, g, 0, &refusal), 0);
	manager_free(w->m);
	new_manager(w);
	assert_int_equal(manager_find_guest(w->m, "a")->fixed_bytes, 0);
}

static void a_memd_vmm_of_an_earlier_or_later_memd_is_understood(void **state)
{
	static const char *const versions[] = {"old", "new"};
	struct world *w = *state;

	for (size_t i = 0; i < ARRAY_SIZE(versions); i++) {
		struct guest *g = start(w, versions[i], versions[i]);
		pid_t pid = g->child.pid;

		manager_free(w->m);
		new_manager(w);
		g = manager_find_guest(w->m, versions[i]);
		UNTIL(w, g->state == GUEST_RUNNING && g->ledger.private_bytes > 0);
		assert_int_equal(g->child.pid, pid);
		assert_in_range(g->ledger.private_bytes, 8 * MIB, 9 * MIB);
	}
}

static void a_memd_vmm_of_another_protocol_is_left_alone(void **state)
{
	struct world *w = *state;
	struct guest *g = start(w, "a", "renews");
	pid_t pid = g->child.pid;

	manager_free(w->m);
	new_manager(w);
	g = manager_find_guest(w->m, "a");
	UNTIL(w, !g->link);
	wait_ticks(w, 3);
	assert_int_equal(kill(pid, 0), 0);
	assert_int_equal(w->m->n_guests, 1);
	assert_int_equal(g->child.pid, pid);
	/* and it can be stopped, as it says */
	w->n_answers = 0;
	assert_int_equal(guest_stop(g, GUEST_STOP_ORDERLY, on_answer, w), 0);
	UNTIL(w, w->n_answers == 1 && w->m->n_guests == 0);
}

/* Its settings cannot be read: nobody knows what it maps, so it counts as a member of every group. */
static void a_guest_that_cannot_be_adopted_is_not_forgotten(void **state)
{
	struct world *w = *state;
	struct guest *g = start(w, "a", "");
	pid_t pid = g->child.pid;
	char path[160];

	manager_free(w->m);
	snprintf(path, sizeof(path), "%s/guest/a.guest", w->run_dir);
	write_file(path, "[Guest]\nMemory=nonsense\n");
	new_manager(w);
	assert_int_equal(w->m->n_guests, 0);
	assert_int_equal(w->m->n_strays, 1);
	assert_int_equal(w->m->strays[0], pid);
	kill(pid, SIGKILL);
}

static void what_died_meanwhile_is_not_adopted(void **state)
{
	struct world *w = *state;
	struct guest *g = start(w, "a", "");
	int pidfd = dup(g->child.pidfd);
	char path[160];
	siginfo_t info;

	assert_true(pidfd >= 0);
	kill(g->child.pid, SIGKILL);
	manager_free(w->m);
	assert_int_equal(waitid(P_PIDFD, (id_t)pidfd, &info, WEXITED), 0);
	close(pidfd);
	new_manager(w);
	assert_int_equal(w->m->n_guests, 0);
	snprintf(path, sizeof(path), "%s/guest", w->run_dir);
	assert_int_equal(rmdir(path), 0); /* nothing of it is left */
	assert_int_equal(mkdir(path, 0755), 0);
	start(w, "a", "");
}

static void count_reload(void *context, int result, const struct refusal *refusal)
{
	assert_int_equal(result, 0);
	++*(unsigned *)context;
}

static void a_bad_configuration_leaves_the_former(void **state)
{
	struct world *w = *state;
	struct refusal refusal = {0};
	unsigned n_done = 0;

	write_file(w->config_path, "[Host]\nHostMemoryBudget=1G\nNoSuchKey=1\n");
	assert_true(manager_reload(w->m, count_reload, &n_done, &refusal) < 0);
	assert_int_equal(refusal.kind, REFUSAL_BAD_SETTING);
	assert_non_null(strstr(refusal.error.text, "memd.conf"));
	assert_non_null(strstr(refusal.error.text, "3"));
	assert_int_equal(w->m->budget_bytes, 256 * MIB);
	write_file(w->config_path, "[Host]\nHostMemoryBudget=1G\nPolicy=nonsense\n");
	assert_true(manager_reload(w->m, count_reload, &n_done, &refusal) < 0);
	assert_int_equal(w->m->budget_bytes, 256 * MIB);
	write_file(w->config_path, "[Host]\nHostMemoryBudget=1G\n");
	assert_int_equal(n_done, 0);
	assert_int_equal(manager_reload(w->m, count_reload, &n_done, &refusal), 0);
	assert_int_equal(n_done, 1);
	assert_int_equal(w->m->budget_bytes, 1 * GIB);
}

static void guests_with_autostart_are_started(void **state)
{
	struct world *w = *state;
	char path[160];

	manager_free(w->m);
	snprintf(path, sizeof(path), "%s/auto.guest", w->guests_dir);
	write_file(path, "[Guest]\nMemory=32M\nKernel=/none\nAutostart=yes\n");
	snprintf(path, sizeof(path), "%s/manual.guest", w->guests_dir);
	write_file(path, "[Guest]\nMemory=32M\nKernel=/none\n");
	new_manager(w);
	assert_int_equal(w->m->n_guests, 1);
	UNTIL(w, w->m->guests[0]->state == GUEST_RUNNING);
	assert_string_equal(w->m->guests[0]->name, "auto");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_started_guest_runs_and_its_figures_are_the_kernels),
		TEST(a_guest_that_does_not_start_says_why_and_leaves_nothing),
		TEST(a_program_that_is_not_there_is_named),
		TEST(refuses_bad_input_and_changes_nothing),
		TEST(admits_only_floors_that_fit_the_budget),
		TEST(targets_outside_of_the_limits_are_refused),
		TEST(the_balloon_follows_an_operators_target_on_an_idle_host),
		TEST(a_killed_guest_leaves_the_others_and_the_ledger_right),
		TEST(the_reason_of_an_end_is_told),
		TEST(a_memd_vmm_that_talks_nonsense_is_ended),
		TEST(a_stopped_memd_vmm_blocks_neither_ticks_nor_others),
		TEST(figures_that_do_not_come_count_as_absent),
		TEST(false_claims_are_flagged),
		TEST(pause_and_resume_are_answered_when_it_is_so),
		TEST(a_power_button_that_is_ignored_ends_in_quit),
		TEST(a_new_memd_adopts_what_the_former_left),
		TEST(an_operators_target_outlives_memd),
		TEST(a_memd_vmm_of_an_earlier_or_later_memd_is_understood),
		TEST(a_memd_vmm_of_another_protocol_is_left_alone),
		TEST(a_guest_that_cannot_be_adopted_is_not_forgotten),
		TEST(what_died_meanwhile_is_not_adopted),
		TEST(a_bad_configuration_leaves_the_former),
		TEST(guests_with_autostart_are_started),
	};

	log_set_max_level(LOG_LEVEL_ERROR);
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
