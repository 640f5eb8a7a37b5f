/* memd's side of an agent's channel, with the test for the agent: nothing that it sends does more than be heard. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "memd/agent-session.h"
#include "memd/base/clock.h"
#include "memd/base/units.h"
#include "tests/unit/agent-peer.h"

#define WAIT_US (20 * US_PER_S)

static struct {
	sd_event *event;
	struct agent_session *session;
	struct agent_peer peer;
	/* what was heard */
	unsigned reports, asks, distresses, refusals, ended;
	uint64_t granted_bytes, asked_bytes;
	char text[AGENT_TEXT_MAX + 1];
} t;

static void on_report(void *context)
{
	t.reports++;
}

static void on_answer(void *context, uint32_t number, uint64_t bytes, const char *reason)
{
	t.granted_bytes = bytes;
	t.refusals += bytes == 0;
	snprintf(t.text, sizeof(t.text), "%s", reason);
}

static void on_ask(void *context, uint64_t bytes, const char *reason)
{
	t.asks++;
	t.asked_bytes = bytes;
}

static void on_distress(void *context, const char *reason)
{
	t.distresses++;
	snprintf(t.text, sizeof(t.text), "%s", reason);
}

static void on_ended(void *context)
{
	t.ended++;
	agent_session_free(t.session);
	t.session = NULL;
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
	int fd;

	memset(&t, 0, sizeof(t));
	fd = agent_peer_init(&t.peer);
	if (fd < 0 || sd_event_new(&t.event) < 0 ||
		agent_session_new(t.event, fd, &ops, &t, &t.session) < 0)
		return -1;
	return 0;
}

static int teardown(void **state)
{
	agent_session_free(t.session);
	agent_peer_done(&t.peer);
	sd_event_unref(t.event);
	return 0;
}

/* All that is there now. */
static void turn(void)
{
	while (sd_event_run(t.event, 0) > 0)
		;
}

/* Turns the loop for that long, and stops early when *counter has come to value. */
static bool turn_until(uint64_t us, const unsigned *counter, unsigned value)
{
	uint64_t end_us = clock_monotonic_us() + us;

	while (clock_monotonic_us() < end_us && (!counter || *counter < value))
		sd_event_run(t.event, 10 * US_PER_MS);
	return counter && *counter >= value;
}

static struct agent_message report_of(uint64_t total, uint64_t available)
{
	struct agent_message m;

	agent_message_init(&m, AGENT_REPORT, 0);
	agent_set(&m, AGENT_TOTAL, total);
	agent_set(&m, AGENT_AVAILABLE, available);
	return m;
}

static void send(const struct agent_message *m)
{
	agent_peer_send(&t.peer, m);
	turn();
}

static void greet(void)
{
	agent_peer_hello(&t.peer, 1, 1, 1);
	turn();
	assert_int_equal(agent_session_state(t.session), SESSION_PRESENT);
}

static void it_greets_first_and_answers_greetings(void **state)
{
	struct agent_message m;

	assert_true(agent_peer_wait(&t.peer, AGENT_HELLO, 0, &m));
	assert_int_equal(m.number, 0);
	assert_int_equal(m.value[AGENT_INTERVAL_MS], 1000);
	assert_int_equal(agent_session_state(t.session), SESSION_ABSENT);
	agent_peer_hello(&t.peer, 1, 1, 1);
	turn();
	assert_false(agent_peer_wait(&t.peer, AGENT_HELLO, 0, &m)); /* that was an answer */
	agent_peer_hello(&t.peer, 0, 1, 1);
	turn();
	assert_true(agent_peer_wait(&t.peer, AGENT_HELLO, 0, &m));
	assert_int_equal(m.number, 1);
	assert_string_equal(agent_session_program(t.session), "test");
}

static void figures_are_heard_after_a_greeting_only(void **state)
{
	struct agent_message m = report_of(GIB, MIB);
	uint64_t us;

	send(&m);
	assert_int_equal(t.reports, 0);
	assert_int_equal(agent_session_counters(t.session)->ignored, 1);
	greet();
	send(&m);
	assert_int_equal(t.reports, 1);
	assert_int_equal(agent_get(agent_session_report(t.session, &us), AGENT_AVAILABLE, 0), MIB);
	assert_in_range(us, 1, clock_monotonic_us());
}

static void nonsense_is_dropped(void **state)
{
	struct agent_message m;

	greet();
	m = report_of(GIB, GIB);
	send(&m);
	m = report_of(GIB, GIB + 1);
	send(&m);
	m = report_of((UINT64_C(1) << 56) + 1, 1);
	send(&m);
	m = report_of(GIB, 1);
	agent_set(&m, AGENT_PRESSURE_SOME_BP, 10001);
	send(&m);
	m = report_of(GIB, 1);
	agent_set(&m, AGENT_FLOOR, UINT64_MAX);
	send(&m);
	agent_message_init(&m, AGENT_REPORT, 0);
	agent_set(&m, AGENT_FREE, 1);
	send(&m);
	agent_message_init(&m, AGENT_ASK, 0);
	send(&m);
	assert_int_equal(t.reports, 1);
	assert_int_equal(t.asks, 0);
	assert_int_equal(agent_session_counters(t.session)->nonsense, 6);
}

static void only_the_last_request_is_answered(void **state)
{
	uint32_t first, second;
	struct agent_message m;

	assert_int_equal(agent_session_shrink(t.session, MIB, US_PER_S), 0); /* nobody there */
	greet();
	first = agent_session_shrink(t.session, MIB, US_PER_S);
	second = agent_session_shrink(t.session, 2 * MIB, US_PER_S);
	assert_true(first != 0 && second != 0 && first != second);
	assert_true(agent_peer_wait(&t.peer, AGENT_SHRINK, 0, &m));
	assert_true(agent_peer_wait(&t.peer, AGENT_SHRINK, 0, &m));
	assert_int_equal(m.value[AGENT_BYTES], 2 * MIB);
	agent_message_init(&m, AGENT_ANSWER, first);
	agent_set(&m, AGENT_VERDICT, AGENT_DONE);
	agent_set(&m, AGENT_BYTES, 7);
	send(&m);
	assert_int_equal(t.granted_bytes, 0);
	m.number = second;
	send(&m);
	assert_int_equal(t.granted_bytes, 7);
	agent_set(&m, AGENT_VERDICT, AGENT_REFUSED); /* with bytes all the same */
	agent_set_text(&m, "no\nreally \377");
	send(&m);
	assert_int_equal(t.refusals, 1);
	assert_string_equal(t.text, "no?really ?");
	agent_set(&m, AGENT_VERDICT, 9);
	send(&m);
	assert_int_equal(agent_session_counters(t.session)->nonsense, 1);
}

static void words_of_a_later_version_are_passed_over(void **state)
{
	struct agent_message m;

	agent_peer_hello(&t.peer, 1, 1, 7);
	turn();
	assert_int_equal(agent_session_version(t.session), 1);
	agent_message_init(&m, (enum agent_type)77, 0);
	send(&m);
	assert_int_equal(agent_session_counters(t.session)->ignored, 1);
	m = report_of(GIB, 1);
	agent_set(&m, (enum agent_field)60, 1);
	send(&m);
	assert_int_equal(t.reports, 1);
}

static void an_agent_of_another_version_is_heard_no_further(void **state)
{
	struct agent_message m = report_of(GIB, 1);

	agent_peer_hello(&t.peer, 1, 2, 3);
	turn();
	assert_int_equal(agent_session_state(t.session), SESSION_INCOMPATIBLE);
	send(&m);
	assert_int_equal(t.reports, 0);
	greet(); /* a downgrade */
	send(&m);
	assert_int_equal(t.reports, 1);
}

static void garbage_is_passed_over_and_a_message_without_end_given_up(void **state)
{
	struct agent_message m = report_of(GIB, 1);
	uint8_t frame[AGENT_FRAME_MAX];
	size_t n = agent_encode(&m, frame);

	greet();
	(void)agent_peer_send_bytes(&t.peer, "GET / HTTP/1.1\r\n", 16);
	frame[10] = 0xf0; /* longer than it is */
	frame[11] = 0x03;
	(void)agent_peer_send_bytes(&t.peer, frame, n);
	send(&m);
	assert_int_equal(t.reports, 0); /* it may still belong to the one before */
	assert_true(turn_until(WAIT_US, &t.reports, 1));
	assert_in_range(agent_session_counters(t.session)->garbage_bytes, 16 + n, 16 + n);
}

static void a_flood_waits_in_the_socket(void **state)
{
	static uint8_t zeros[65536];
	uint64_t sent = 0, end_us, begin_us = clock_monotonic_us();

	greet();
	end_us = begin_us + 2 * US_PER_S;
	while (clock_monotonic_us() < end_us) {
		sent += agent_peer_send_bytes(&t.peer, zeros, sizeof(zeros));
		sd_event_run(t.event, US_PER_MS);
	}
	begin_us = clock_monotonic_us() - begin_us;
	assert_in_range(agent_session_counters(t.session)->garbage_bytes, SESSION_BURST_BYTES / 2,
		SESSION_BURST_BYTES + SESSION_RATE_BYTES * (begin_us / US_PER_S + 2));
	assert_in_range(agent_session_counters(t.session)->throttled, 1, 1000);
	assert_in_range(sent, SESSION_BURST_BYTES, UINT64_MAX);
}

static void silence_is_noticed_and_ends(void **state)
{
	struct agent_message m = report_of(GIB, 1);
	unsigned nothing = 0;

	greet();
	while (agent_peer_wait(&t.peer, AGENT_HELLO, 0, &m))
		;
	(void)turn_until(SESSION_SILENT_US, &nothing, 1);
	assert_int_equal(agent_session_state(t.session), SESSION_SILENT);
	assert_int_equal(agent_session_shrink(t.session, MIB, US_PER_S), 0);
	(void)turn_until(2 * US_PER_S, &nothing, 1);
	assert_true(agent_peer_wait(&t.peer, AGENT_HELLO, 0, &m)); /* is there anybody? */
	m = report_of(GIB, 1);
	send(&m);
	assert_int_equal(agent_session_state(t.session), SESSION_PRESENT);
}

static void an_agent_that_does_not_read_costs_nothing(void **state)
{
	struct agent_message m;
	unsigned said = 0;

	greet();
	for (unsigned i = 0; i < 20000; i++)
		said += agent_session_shrink(t.session, MIB, US_PER_S) != 0;
	assert_in_range(said, 1, 19999);
	m = report_of(GIB, 1);
	send(&m);
	assert_int_equal(t.reports, 1);
	while (agent_peer_wait(&t.peer, AGENT_SHRINK, 0, &m))
		turn();
	assert_int_equal(t.peer.in.skipped_bytes, 0); /* whole messages, or none */
}

static void goodbyes_cries_and_the_end_are_heard(void **state)
{
	struct agent_message m;

	greet();
	agent_message_init(&m, AGENT_DISTRESS, 0);
	agent_set_text(&m, "help");
	send(&m);
	assert_int_equal(t.distresses, 1);
	assert_string_equal(t.text, "help");
	agent_message_init(&m, AGENT_ASK, 0);
	agent_set(&m, AGENT_BYTES, 5);
	send(&m);
	assert_int_equal(t.asked_bytes, 5);
	agent_message_init(&m, AGENT_BYE, 0);
	send(&m);
	assert_int_equal(agent_session_state(t.session), SESSION_LEFT);
	agent_message_init(&m, AGENT_DISTRESS, 0);
	send(&m);
	assert_int_equal(t.distresses, 1);
	agent_peer_done(&t.peer);
	assert_true(turn_until(WAIT_US, &t.ended, 1));
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(it_greets_first_and_answers_greetings),
		T(figures_are_heard_after_a_greeting_only),
		T(nonsense_is_dropped),
		T(only_the_last_request_is_answered),
		T(words_of_a_later_version_are_passed_over),
		T(an_agent_of_another_version_is_heard_no_further),
		T(garbage_is_passed_over_and_a_message_without_end_given_up),
		T(a_flood_waits_in_the_socket),
		T(silence_is_noticed_and_ends),
		T(an_agent_that_does_not_read_costs_nothing),
		T(goodbyes_cries_and_the_end_are_heard),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
