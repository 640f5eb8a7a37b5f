/*
 * Policies in a process of their own, with the real memd-policy: plugins of the first day and of
 * today, programs, and what becomes of those that misbehave.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <inttypes.h>
#include <libgen.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "memd/base/clock.h"
#include "memd/base/units.h"
#include "memd/policy-run.h"
#include "tests/abi/layout.h"
#include "tests/guest/sanitizer.h"

#define PATIENT_US   (20 * US_PER_S) /* a machine under load; nobody waits so long who answers */
#define IMPATIENT_US (50 * US_PER_MS)

struct world {
	char directory[32]; /* of plugins and programs */
	char build[512];
	char program[600];
	sd_event *event;
	struct host_config config;
	struct policy_run *run;
	struct error error;
	/* what the run said */
	unsigned n_decided, n_set_aside;
	char decider[64], reason[512];
	bool fell_back;
	struct policy_decision decisions[4];
};

static void shell(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void shell(const char *format, ...)
{
	char command[2048];
	va_list ap;

	va_start(ap, format);
	vsnprintf(command, sizeof(command), format, ap);
	va_end(ap);
	if (system(command) != 0)
		fail_msg("%s", command);
}

/* Plugins lie where only root may write: the tree may belong to anybody. */
static int set_up(void **state)
{
	struct world *w = calloc(1, sizeof(*w));
	ssize_t n = readlink("/proc/self/exe", w->build, sizeof(w->build) - 1);

	assert_true(n > 0);
	for (unsigned i = 0; i < 3; i++) /* build/PRESET/tests/unit/test-NAME */
		dirname(w->build);
	snprintf(w->program, sizeof(w->program), "%s/policy/memd-policy", w->build);
	strcpy(w->directory, "/tmp/test-policy.XXXXXX");
	assert_non_null(mkdtemp(w->directory));
	shell("chmod 755 %s && install -m 644 %s/tests/abi/*.so %s && "
	      "install -m 755 " MEMD_SOURCE_DIR "/policy/examples/even.py %s",
		w->directory, w->build, w->directory, w->directory);
	assert_int_equal(sd_event_new(&w->event), 0);
	assert_int_equal(host_config_init(&w->config), 0);
	free(w->config.policy_dir);
	w->config.policy_dir = strdup(w->directory);
	*state = w;
	return 0;
}

static int tear_down(void **state)
{
	struct world *w = *state;

	policy_run_free(w->run);
	host_config_done(&w->config);
	sd_event_unref(w->event);
	shell("rm -rf %s", w->directory);
	free(w);
	return 0;
}

static void add_setting(struct world *w, const char *policy, const char *key, const char *value)
{
	struct config_section *p = w->config.policies;

	if (!p) {
		p = w->config.policies = calloc(1, sizeof(*p));
		p->name = strdup(policy);
		w->config.n_policies = 1;
	}
	assert_true(GROW_ARRAY(p->pairs, p->n_pairs + 1));
	p->pairs[p->n_pairs++] = (struct config_pair){strdup(key), strdup(value)};
}

static void on_decided(void *context, const struct policy_outcome *outcome)
{
	struct world *w = context;

	w->n_decided++;
	w->fell_back = outcome->fell_back;
	snprintf(w->decider, sizeof(w->decider), "%s", outcome->policy);
	for (size_t i = 0; i < outcome->n && i < ARRAY_SIZE(w->decisions); i++)
		w->decisions[i] = outcome->decisions[i];
}

static void on_set_aside(void *context, const char *why)
{
	struct world *w = context;

	w->n_set_aside++;
	snprintf(w->reason, sizeof(w->reason), "%s", why);
}

static const struct policy_run_ops ops = {
	.decided = on_decided,
	.set_aside = on_set_aside,
};

static int open_policy(struct world *w, const char *name)
{
	struct policy_run_options options = {
		.event = w->event,
		.program = w->program,
		.config = &w->config,
		.policy = name,
		.ops = &ops,
		.context = w,
	};
	int r;

	w->error = (struct error){0};
	r = policy_run_new(&options, &w->run, &w->error);
	return r < 0 ? r : policy_run_wait(w->run, &w->error);
}

static void open_naughty(struct world *w, const char *deed)
{
	add_setting(w, "naughty", "Do", deed);
	assert_int_equal(open_policy(w, "naughty"), 0);
}

static const struct policy_guest guests[2] = {
	{
		.view = {.name = "a",
			.id = 3,
			.flags = MEMD_GUEST_CAN_PAGE,
			.shares = 1000,
			.configured_bytes = 400 * MIB,
			.min_bytes = 100 * MIB,
			.max_bytes = 400 * MIB,
			.target_bytes = 300 * MIB,
			.resident_bytes = 250 * MIB,
			.swapped_bytes = 1,
			.saved_sharing_bytes = 2,
			.hole_bytes = 3,
			.balloon_bytes = 4,
			.refault_bytes = 5,
			.claimed_available_bytes = 6},
	},
	{
		.view = {.name = "b",
			.id = 7,
			.shares = 1000,
			.configured_bytes = 200 * MIB,
			.min_bytes = 20 * MIB,
			.max_bytes = 200 * MIB,
			.target_bytes = 150 * MIB,
			.resident_bytes = 150 * MIB},
	},
};
static const struct memd_host_view host = {
	.now_us = 100,
	.tick_us = 20 * US_PER_S, /* a step of the whole guest */
	.budget_bytes = 500 * MIB,
	.used_bytes = 410 * MIB,
	.overhead_bytes = 10 * MIB,
};

static void run_loop_until(struct world *w, const unsigned *counter, unsigned value)
{
	uint64_t end_us = clock_monotonic_us() + 3 * PATIENT_US;

	while (*counter < value && clock_monotonic_us() < end_us)
		assert_true(sd_event_run(w->event, US_PER_S) >= 0);
	assert_int_equal(*counter, value);
}

static void tick(struct world *w, uint64_t limit_us)
{
	unsigned n = w->n_decided + 1;

	assert_int_equal(
		policy_run_evaluate(w->run, &host, guests, ARRAY_SIZE(guests), limit_us), 0);
	run_loop_until(w, &w->n_decided, n);
}

static void assert_decides(struct world *w, const char *policy)
{
	if (strcmp(w->decider, policy) != 0)
		fail_msg("%s decided: %s", w->decider, w->decisions[0].reason);
}

static void fields_of_the_first_day_lie_where_they_lay(void **state)
{
	size_t n = 0;

	for (; layout_v1[n].name; n++) {
		assert_string_equal(layout_v1[n].name, layout_now[n].name);
		if (layout_v1[n].offset != layout_now[n].offset ||
			layout_v1[n].bytes != layout_now[n].bytes)
			fail_msg("%s was at %zu (%zu bytes), is at %zu (%zu)", layout_v1[n].name,
				layout_v1[n].offset, layout_v1[n].bytes, layout_now[n].offset,
				layout_now[n].bytes);
	}
	assert_true(n > 35);
}

static void plugin_of_the_first_day_decides_as_then(void **state)
{
	struct world *w = *state;
	const struct memd_guest_view *g = &guests[0].view;
	uint64_t sum = g->id + g->flags + g->shares + g->configured_bytes + g->min_bytes +
		       g->max_bytes + g->target_bytes + g->resident_bytes + 1 + 2 + 3 + 4 + 5 + 6;
	char expected[160];

	add_setting(w, "old", "Percent", "50");
	assert_int_equal(open_policy(w, "old"), 0);
	tick(w, PATIENT_US);
	assert_decides(w, "old");
	assert_int_equal(w->decisions[0].proposed_bytes, 200 * MIB);
	assert_int_equal(w->decisions[0].target_bytes, 200 * MIB);
	assert_int_equal(w->decisions[1].target_bytes, 100 * MIB);
	snprintf(expected, sizeof(expected), "tick 1, a: %" PRIu64 " and %" PRIu64, sum,
		host.now_us + host.tick_us + host.budget_bytes + host.used_bytes +
			host.overhead_bytes + 2);
	assert_string_equal(w->decisions[0].reason, expected);
	tick(w, PATIENT_US);
	assert_memory_equal(w->decisions[1].reason, "tick 2, b: ", strlen("tick 2, b: "));
	assert_true(policy_run_pid(w->run) > 0);
}

static void settings_that_a_plugin_refuses_are_said(void **state)
{
	struct world *w = *state;

	add_setting(w, "old", "Percent", "101");
	assert_true(open_policy(w, "old") < 0);
	assert_non_null(strstr(w->error.text, "Percent= is at most 100"));
	policy_run_free(TAKE_PTR(w->run));
	add_setting(w, "old", "Portion", "1");
	assert_true(open_policy(w, "old") < 0);
	assert_non_null(strstr(w->error.text, "Portion=1"));
	assert_non_null(strstr(w->error.text, "there is only Percent="));
}

#if !HAS_SANITIZER
static void plugin_can_do_nothing_but_propose(void **state)
{
	struct world *w = *state;

	open_naughty(w, "break-out");
	tick(w, PATIENT_US);
	assert_decides(w, "naughty");
	assert_string_equal(w->decisions[0].reason, "it could do nothing");
}
#endif

/* The policy dies in the tick: the fallback decides this one and all after. */
static void dies(struct world *w, const char *deed, const char *why)
{
	open_naughty(w, deed);
	tick(w, PATIENT_US);
	assert_decides(w, POLICY_FALLBACK);
	assert_true(w->fell_back);
	assert_int_equal(w->n_set_aside, 1);
	if (!strstr(w->reason, why))
		fail_msg("said: %s", w->reason);
	assert_int_equal(policy_run_pid(w->run), 0);
	tick(w, PATIENT_US);
	assert_decides(w, POLICY_FALLBACK);
	assert_string_equal(policy_run_set_aside_reason(w->run), w->reason);
	assert_int_equal(w->n_set_aside, 1);
}

static void plugin_that_crashes_is_set_aside(void **state)
{
	dies(*state, "crash", "signal 11");
}

static void plugin_that_exits_is_set_aside(void **state)
{
	dies(*state, "exit", "ended");
}

static void plugin_that_gives_up_is_set_aside(void **state)
{
	dies(*state, "give-up", "Broken pipe");
}

#if !HAS_SANITIZER
static void plugin_that_allocates_without_end_is_set_aside(void **state)
{
	dies(*state, "allocate", "signal 11");
}
#endif

/* The policy is of no use three times: then it is set aside. */
static void strikes_out(struct world *w, const char *deed, uint64_t limit_us, const char *why)
{
	pid_t pid;

	open_naughty(w, deed);
	pid = policy_run_pid(w->run);
	assert_true(pid > 0);
	for (unsigned i = 0; i < POLICY_STRIKES_MAX; i++) {
		assert_int_equal(w->n_set_aside, 0);
		tick(w, limit_us);
		assert_decides(w, POLICY_FALLBACK);
	}
	assert_int_equal(w->n_set_aside, 1);
	if (!strstr(w->reason, why))
		fail_msg("said: %s", w->reason);
	for (unsigned i = 0; i < 400 && kill(pid, 0) == 0; i++)
		assert_true(sd_event_run(w->event, 50 * US_PER_MS) >= 0); /* reaps it */
	assert_true(kill(pid, 0) < 0);
}

static void plugin_that_hangs_costs_its_time_limit_and_is_set_aside(void **state)
{
	uint64_t begin_us = clock_monotonic_us();

	strikes_out(*state, "hang", IMPATIENT_US, "earlier tick");
	/* three limits, of which the last two are not waited for, and much room for a slow machine */
	assert_true(clock_monotonic_us() - begin_us < PATIENT_US);
}

static void plugin_that_proposes_more_than_there_is_is_set_aside(void **state)
{
	strikes_out(*state, "rubbish", PATIENT_US,
		"guest a: it proposed 18446744073709551615 bytes for a guest of 419430400");
}

static void plugin_that_proposes_nothing_is_set_aside(void **state)
{
	strikes_out(*state, "zero", PATIENT_US, "it proposed 0 bytes");
}

static void plugin_that_gives_no_reason_is_set_aside(void **state)
{
	strikes_out(*state, "say-nothing", PATIENT_US, "guest a: it gave no reason");
}

static void plugin_that_fails_is_set_aside(void **state)
{
	strikes_out(*state, "fail", PATIENT_US, "Input/output error");
}

static void plugin_that_fails_now_and_then_is_kept(void **state)
{
	struct world *w = *state;

	open_naughty(w, "lapse");
	for (unsigned i = 1; i <= 3 * POLICY_STRIKES_MAX; i++) {
		tick(w, PATIENT_US);
		assert_decides(w, i % 3 != 0 ? POLICY_FALLBACK : "naughty");
	}
	assert_int_equal(w->n_set_aside, 0);
}

static void reason_without_an_end_is_cut_and_cleaned(void **state)
{
	struct world *w = *state;

	open_naughty(w, "no-end");
	tick(w, PATIENT_US);
	assert_decides(w, "naughty");
	assert_int_equal(strspn(w->decisions[0].reason, "?"), MEMD_REASON_MAX - 1);
}

static void plugin_that_is_late_once_decides_again(void **state)
{
	struct world *w = *state;

	open_naughty(w, "slow-once");
	tick(w, IMPATIENT_US);
	assert_decides(w, POLICY_FALLBACK);
	assert_int_equal(w->n_set_aside, 0);
	while (sd_event_run(w->event, PATIENT_US) == 0) /* until it has answered */
		continue;
	for (unsigned i = 0; i < POLICY_STRIKES_MAX + 1; i++) {
		tick(w, PATIENT_US);
		assert_decides(w, "naughty");
	}
	assert_int_equal(w->n_set_aside, 0);
}

static void refused(struct world *w, const char *name, const char *why)
{
	assert_true(open_policy(w, name) < 0);
	if (!strstr(w->error.text, why))
		fail_msg("said: %s", w->error.text);
	policy_run_free(TAKE_PTR(w->run));
}

static void plugin_that_does_not_open_is_refused(void **state)
{
	struct world *w = *state;

	add_setting(w, "naughty", "Do", "refuse-open");
	refused(w, "naughty", "not today");
	add_setting(w, "naughty", "Do", "crash-in-open");
	refused(w, "naughty", "the policy naughty is refused: ");
	refused(w, "nothing", "there is no such policy; there are ");
}

static void file_that_others_may_write_is_not_loaded(void **state)
{
	struct world *w = *state;

	shell("chmod 664 %s/even.so", w->directory);
	refused(w, "even", "even.so is not loaded: others than its owner may write to it");
	shell("chmod 644 %s/even.so && chmod 777 %s", w->directory, w->directory);
	refused(w, "even", "is not loaded: others than its owner may write to the directory");
	shell("chmod 755 %s && mv %s/even.so %s/x && ln -s x %s/even.so", w->directory,
		w->directory, w->directory, w->directory);
	refused(w, "even", "no regular file");
	shell("mv %s/x %s/even.so && chown 12345 %s/even.so", w->directory, w->directory,
		w->directory);
	refused(w, "even", "belongs neither to root");
	shell("chown 0 %s/even.so && mkdir %s/in && chmod 777 %s && mkdir %s/in/in && "
	      "cp %s/even.so %s/in/in",
		w->directory, w->directory, w->directory, w->directory, w->directory, w->directory);
	free(w->config.policy_dir);
	assert_true(asprintf(&w->config.policy_dir, "%s/in/in", w->directory) > 0);
	refused(w, "even", "is not loaded: others than its owner may write to the directory");
}

static void file_that_is_no_policy_is_refused(void **state)
{
	struct world *w = *state;

	shell("cp %s/even.so %s/odd.so && echo no > %s/text.so", w->directory, w->directory,
		w->directory);
	refused(w, "odd", "it calls itself 'even'");
	refused(w, "text", "cannot be loaded");
	shell("cp $(ldconfig -p | sed -n 's/.*libm.so.6 .*x86-64.* => //p' | head -n 1) %s/math.so",
		w->directory);
	refused(w, "math", "does not export memd_policy_get()");
}

static void write_program(struct world *w, const char *body)
{
	char path[64], quoted[2048];

	snprintf(path, sizeof(path), "%s/program", w->directory);
	snprintf(quoted, sizeof(quoted), "#!/bin/sh\n%s\n", body);
	{
		_cleanup_fclose_ FILE *f = fopen(path, "we");

		assert_non_null(f);
		fputs(quoted, f);
	}
	assert_int_equal(chmod(path, 0755), 0);
	add_setting(w, "exec", "Command", path);
}

static void program_decides_in_lines_of_json(void **state)
{
	struct world *w = *state;
	char path[64];

	snprintf(path, sizeof(path), "%s/even.py", w->directory);
	add_setting(w, "exec", "Command", path);
	assert_int_equal(open_policy(w, "exec"), 0);
	for (unsigned i = 0; i < 3; i++) {
		tick(w, PATIENT_US);
		assert_decides(w, "exec");
		assert_int_equal(w->decisions[0].proposed_bytes, 245 * MIB);
		assert_int_equal(w->decisions[1].proposed_bytes, 200 * MIB);
	}
	assert_non_null(strstr(w->decisions[1].reason, "an even part of 490 MiB for 2 guests"));
	policy_run_free(TAKE_PTR(w->run));
	add_setting(w, "exec", "Colour", "red");
	refused(w, "exec", "no setting Colour=");
}

#define READY "read hello; echo '{\"ready\":true}'; "

static void program_that_does_not_name_a_guest_leaves_it_alone(void **state)
{
	struct world *w = *state;

	write_program(w, READY "while read line; do echo '{\"proposals\":[{\"id\":7,"
			       "\"target_bytes\":104857600,\"reason\":\"so\"}]}'; done");
	assert_int_equal(open_policy(w, "exec"), 0);
	tick(w, PATIENT_US);
	assert_decides(w, "exec");
	assert_int_equal(w->decisions[0].target_bytes, 300 * MIB);
	assert_int_equal(w->decisions[1].target_bytes, 100 * MIB);
	assert_string_equal(w->decisions[1].reason, "so");
}

static void program_that_ends_is_set_aside_at_once(void **state)
{
	struct world *w = *state;

	write_program(w, READY "read line; exit 3");
	assert_int_equal(open_policy(w, "exec"), 0);
	tick(w, PATIENT_US);
	assert_decides(w, POLICY_FALLBACK);
	assert_int_equal(w->n_set_aside, 1);
	assert_non_null(strstr(w->reason, "the program ended: exit code 3"));
}

static void program_that_talks_nonsense_is_set_aside(void **state)
{
	struct world *w = *state;

	write_program(w, READY "while read line; do echo nonsense; done");
	assert_int_equal(open_policy(w, "exec"), 0);
	for (unsigned i = 0; i < POLICY_STRIKES_MAX; i++) {
		assert_int_equal(w->n_set_aside, 0);
		tick(w, PATIENT_US);
		assert_decides(w, POLICY_FALLBACK);
	}
	assert_int_equal(w->n_set_aside, 1);
}

static void program_that_hangs_ends_with_all_it_started(void **state)
{
	struct world *w = *state;
	FILE *f = NULL;
	int pid = 0;

	write_program(w, READY "read line; (while :; do read x < /proc/self/stat; done) & wait");
	assert_int_equal(open_policy(w, "exec"), 0);
	for (unsigned i = 0; i < POLICY_STRIKES_MAX; i++)
		tick(w, IMPATIENT_US);
	assert_int_equal(w->n_set_aside, 1);
	for (unsigned i = 0; i < 400; i++) {
		char line[64] = "";

		f = popen("pgrep -f [t]est-policy.*/program || true", "r");
		assert_non_null(f);
		pid = fgets(line, sizeof(line), f) ? atoi(line) : 0;
		pclose(f);
		if (pid == 0)
			return;
		assert_true(sd_event_run(w->event, 50 * US_PER_MS) >= 0);
	}
	fail_msg("process %d is still there", pid);
}

static void many_guests_are_shown_to_a_plugin(void **state)
{
	struct world *w = *state;
	size_t n = 3000;
	_cleanup_free_ struct policy_guest *many = calloc(n, sizeof(*many));

	assert_non_null(many);
	for (size_t i = 0; i < n; i++) {
		many[i] = guests[0];
		many[i].view.id = i + 1;
	}
	open_naughty(w, "good");
	assert_int_equal(policy_run_evaluate(w->run, &host, many, n, PATIENT_US), 0);
	run_loop_until(w, &w->n_decided, 1);
	assert_decides(w, "naughty");
	tick(w, PATIENT_US); /* fewer again */
	assert_decides(w, "naughty");
	assert_int_equal(w->decisions[1].proposed_bytes, 100 * MIB);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(fields_of_the_first_day_lie_where_they_lay),
#define IN_WORLD(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
		IN_WORLD(plugin_of_the_first_day_decides_as_then),
		IN_WORLD(settings_that_a_plugin_refuses_are_said),
		IN_WORLD(plugin_that_crashes_is_set_aside),
		IN_WORLD(plugin_that_exits_is_set_aside),
		IN_WORLD(plugin_that_gives_up_is_set_aside),
#if !HAS_SANITIZER /* which make calls of their own, and reserve more memory than any limit allows */
		IN_WORLD(plugin_can_do_nothing_but_propose),
		IN_WORLD(plugin_that_allocates_without_end_is_set_aside),
#endif
		IN_WORLD(plugin_that_hangs_costs_its_time_limit_and_is_set_aside),
		IN_WORLD(plugin_that_proposes_more_than_there_is_is_set_aside),
		IN_WORLD(plugin_that_proposes_nothing_is_set_aside),
		IN_WORLD(plugin_that_gives_no_reason_is_set_aside),
		IN_WORLD(plugin_that_fails_is_set_aside),
		IN_WORLD(plugin_that_fails_now_and_then_is_kept),
		IN_WORLD(reason_without_an_end_is_cut_and_cleaned),
		IN_WORLD(plugin_that_is_late_once_decides_again),
		IN_WORLD(plugin_that_does_not_open_is_refused),
		IN_WORLD(file_that_others_may_write_is_not_loaded),
		IN_WORLD(file_that_is_no_policy_is_refused),
		IN_WORLD(program_decides_in_lines_of_json),
		IN_WORLD(program_that_does_not_name_a_guest_leaves_it_alone),
		IN_WORLD(program_that_ends_is_set_aside_at_once),
		IN_WORLD(program_that_talks_nonsense_is_set_aside),
		IN_WORLD(program_that_hangs_ends_with_all_it_started),
		IN_WORLD(many_guests_are_shown_to_a_plugin),
	};

	sanitizers_let_die(); /* plugins, and the process that runs them */
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
