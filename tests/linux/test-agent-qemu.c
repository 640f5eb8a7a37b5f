/*
 * The real agent in a stock Debian kernel under QEMU, with memd's side of the channel: what it says
 * of a real kernel, room that it really makes, what it refuses, and its cry when the kernel kills.
 * One guest for all, in turn: it boots for several seconds.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "memd/agent-session.h"
#include "memd/base/clock.h"
#include "memd/base/units.h"
#include "tests/linux/qemu-run.h"

#define MEMORY_MIB 384
#define WAIT_US	   (120 * US_PER_S)

static struct qemu_run q;
static sd_event *event;
static struct agent_session *session;
static struct {
	unsigned reports, answers, distresses;
	uint64_t granted_bytes, cried_us;
	char text[AGENT_TEXT_MAX + 1];
} heard;

static void on_report(void *context)
{
	heard.reports++;
}

static void on_answer(void *context, uint32_t number, uint64_t bytes, const char *reason)
{
	heard.answers++;
	heard.granted_bytes = bytes;
	snprintf(heard.text, sizeof(heard.text), "%s", reason);
}

static void on_ask(void *context, uint64_t bytes, const char *reason)
{
}

/* As memd does: everything back, at once. */
static void on_distress(void *context, const char *reason)
{
	if (heard.distresses++ == 0)
		heard.cried_us = clock_monotonic_us();
	snprintf(heard.text, sizeof(heard.text), "%s", reason);
	qemu_run_set_balloon(&q, MEMORY_MIB * MIB);
}

static void on_ended(void *context)
{
	fail_msg("the channel is gone");
}

static const struct agent_session_ops ops = {
	.report = on_report,
	.answer = on_answer,
	.ask = on_ask,
	.distress = on_distress,
	.ended = on_ended,
};

static int setup(void **state)
{
	qemu_run_start(&q, MEMORY_MIB);
	if (sd_event_new(&event) < 0 ||
		agent_session_new(event, q.agent_fd, &ops, NULL, &session) < 0)
		return -1;
	q.agent_fd = -1; /* the session's */
	return 0;
}

static int teardown(void **state)
{
	agent_session_free(session);
	sd_event_unref(event);
	qemu_run_end(&q);
	return 0;
}

static bool until(bool (*is_so)(void))
{
	uint64_t end_us = clock_monotonic_us() + WAIT_US;

	while (!is_so()) {
		if (clock_monotonic_us() > end_us) {
			qemu_run_show_console(&q);
			return false;
		}
		sd_event_run(event, 20 * US_PER_MS);
	}
	return true;
}

static bool answered(void)
{
	return qemu_run_answered(&q);
}

static bool answer_came(void)
{
	return heard.answers > 0;
}

static bool cried(void)
{
	return heard.distresses > 0;
}

static bool report_came(void)
{
	return heard.reports > 0;
}

static bool present(void)
{
	return agent_session_state(session) == SESSION_PRESENT;
}

static bool silent(void)
{
	return agent_session_state(session) == SESSION_SILENT;
}

static bool balloon_is_full(void)
{
	return qemu_run_balloon(&q) <= (MEMORY_MIB - 64) * MIB;
}

static bool balloon_is_empty(void)
{
	return qemu_run_balloon(&q) == MEMORY_MIB * MIB;
}

static void have_done(const char *command)
{
	qemu_run_command(&q, command);
	assert_true(until(answered));
}

/* The figures of a report that began after this call. */
static const struct agent_message *next_report(void)
{
	uint64_t us;

	for (unsigned i = 0; i < 2; i++) {
		heard.reports = 0;
		assert_true(until(report_came));
	}
	return agent_session_report(session, &us);
}

/* Asks for so much until it grants something: after trouble it gives nothing for a while. */
static void ask_to_shrink(uint64_t bytes)
{
	heard.answers = 0;
	assert_int_not_equal(agent_session_shrink(session, bytes, 5 * US_PER_S), 0);
	assert_true(until(answer_came));
}

static void a_stock_kernels_figures_are_reported(void **state)
{
	const struct agent_message *m;

	assert_true(until(present));
	m = next_report();
	assert_string_equal(agent_session_program(session), "balloon-agent " MEMD_VERSION);
	assert_in_range(m->value[AGENT_TOTAL], 300 * MIB, MEMORY_MIB * MIB);
	assert_in_range(m->value[AGENT_AVAILABLE], 200 * MIB, m->value[AGENT_TOTAL]);
	for (unsigned field = AGENT_TOTAL; field <= AGENT_WATERMARK_HIGH; field++)
		assert_true(agent_has(m, (enum agent_field)field));
	for (unsigned field = AGENT_FAULTS; field <= AGENT_ALLOCATION_STALLS; field++)
		assert_true(agent_has(m, (enum agent_field)field));
	assert_true(agent_has(m, AGENT_PRESSURE_FULL_US));
	assert_int_equal(m->value[AGENT_OOM_KILLS], 0);
	assert_in_range(m->value[AGENT_OWN_BYTES], 1, 2 * MIB);
	(void)printf("# agent: %llu KiB resident, %llu us of CPU so far, emulated\n",
		(unsigned long long)m->value[AGENT_OWN_BYTES] / 1024,
		(unsigned long long)m->value[AGENT_OWN_CPU_US]);
}

static void room_is_made_out_of_the_file_cache(void **state)
{
	uint64_t cached, before, free_bytes;
	const struct agent_message *m;

	have_done("cache 160");
	m = next_report();
	cached = m->value[AGENT_CACHE];
	before = m->value[AGENT_FREE];
	assert_in_range(cached, 160 * MIB, MEMORY_MIB * MIB);
	ask_to_shrink(before + 32 * MIB); /* more than is free */
	m = next_report();
	free_bytes = m->value[AGENT_FREE];
	(void)printf("# granted %s of %s; free %s -> %s, cache %s -> %s\n",
		UNITS_BYTES(heard.granted_bytes), UNITS_BYTES(before + 32 * MIB),
		UNITS_BYTES(before), UNITS_BYTES(free_bytes), UNITS_BYTES(cached),
		UNITS_BYTES(m->value[AGENT_CACHE]));
	assert_true(heard.granted_bytes > before);
	assert_true(free_bytes >= before + 16 * MIB);
	assert_true(m->value[AGENT_CACHE] < cached);
}

static void the_balloon_takes_what_was_granted_and_nobody_is_killed(void **state)
{
	ask_to_shrink(96 * MIB);
	assert_true(heard.granted_bytes >= 64 * MIB);
	qemu_run_set_balloon(&q, (MEMORY_MIB - heard.granted_bytes / MIB) * MIB);
	assert_true(until(balloon_is_full));
	assert_int_equal(next_report()->value[AGENT_OOM_KILLS], 0);
	assert_int_equal(heard.distresses, 0);
}

static void a_guest_in_need_refuses(void **state)
{
	char command[32];
	const struct agent_message *m = next_report();
	/* Two thirds of what it keeps at least: what the guest has available moves by some MiB by itself. */
	uint64_t left = m->value[AGENT_TOTAL] / 16 * 2 / 3;

	snprintf(command, sizeof(command), "fill %u",
		(unsigned)((m->value[AGENT_AVAILABLE] - left) / MIB));
	have_done(command);
	ask_to_shrink(16 * MIB);
	(void)printf("# %s\n", heard.text);
	assert_int_equal(heard.granted_bytes, 0);
	assert_int_not_equal(heard.text[0], '\0');
	have_done("free");
}

/* The balloon is empty at most 2 s after the cry. */
static void an_oom_kill_is_distress_that_empties_the_balloon(void **state)
{
	heard.distresses = 0;
	qemu_run_set_balloon(&q, (MEMORY_MIB - 64) * MIB);
	assert_true(until(balloon_is_full));
	heard.distresses = 0;
	qemu_run_command(&q, "oom");
	assert_true(until(cried));
	assert_true(until(balloon_is_empty));
	(void)printf("# \"%s\": empty %llu ms later\n", heard.text,
		(unsigned long long)(clock_monotonic_us() - heard.cried_us) / 1000);
	assert_true(clock_monotonic_us() - heard.cried_us < 2 * US_PER_S);
	assert_true(until(answered));
}

static void a_killed_agent_is_silent_and_a_new_one_is_heard(void **state)
{
	const struct agent_message *m;

	have_done("kill");
	assert_true(until(silent));
	have_done("agent");
	assert_true(until(present));
	m = next_report();
	assert_in_range(m->value[AGENT_OOM_KILLS], 1, 1000); /* the kernel's count goes on */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_stock_kernels_figures_are_reported),
		cmocka_unit_test(room_is_made_out_of_the_file_cache),
		cmocka_unit_test(the_balloon_takes_what_was_granted_and_nobody_is_killed),
		cmocka_unit_test(a_guest_in_need_refuses),
		cmocka_unit_test(an_oom_kill_is_distress_that_empties_the_balloon),
		cmocka_unit_test(a_killed_agent_is_silent_and_a_new_one_is_heard),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, setup, teardown);
}
