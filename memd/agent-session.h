/*
 * The conversation with one agent, over a connected stream: the port of a guest of our own, or the
 * socket of a channel of QEMU's. Takes a descriptor and knows nothing of guests.
 *
 * DOC: what a hostile agent can do here
 *
 * Nothing that it sends is believed beyond being what it says (memd/guest-agent.c weighs it). It is
 * read at most at SESSION_RATE_BYTES a second: whoever sends more waits in its own kernel, since
 * nothing is kept for it here but one message. Numbers that contradict themselves drop the message.
 * Garbage is passed over, a message that does not end is given up, and silence is only noticed.
 * What is said to it never waits: what it does not take it does not get.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "balloon-agent/codec.h"
#include "memd/base/cleanup.h"

#define SESSION_RATE_BYTES  16384 /* a second, on average */
#define SESSION_BURST_BYTES 65536
#define SESSION_INTERVAL_US UINT64_C(1000000) /* of reports, as asked for */
/* Without a message for so long an agent is silent. */
#define SESSION_SILENT_US   (3 * SESSION_INTERVAL_US + UINT64_C(1000000))

enum session_state {
	SESSION_ABSENT, /* nobody has said anything yet */
	SESSION_PRESENT,
	SESSION_SILENT, /* it spoke once */
	SESSION_INCOMPATIBLE, /* it speaks no version of ours */
	SESSION_LEFT, /* it said goodbye */
};
/* "absent", "present", "silent", "incompatible", "left". */
const char *session_state_name(enum session_state state);

struct agent_session;

/* None may free the session, but ended. Texts are clean (memd/base/text.h). */
struct agent_session_ops {
	void (*report)(void *context); /* NULL: looked at when it is needed */
	/* To the request of that number, the last one; 0 bytes: refused. */
	void (*answer)(void *context, uint32_t number, uint64_t bytes, const char *reason);
	void (*ask)(void *context, uint64_t bytes, const char *reason);
	void (*distress)(void *context, const char *reason);
	/* The stream is over. May free the session. */
	void (*ended)(void *context);
};

struct agent_counters {
	uint64_t reports;
	uint64_t ignored; /* messages of a kind that nobody knows, or out of turn */
	uint64_t nonsense; /* messages with figures that contradict themselves */
	uint64_t garbage_bytes; /* that were no message */
	uint64_t throttled; /* times that it was made to wait */
};

/*
 * Says HELLO. fd, a connected stream socket, is taken on success. ops and context outlive the
 * session. -ENOMEM, any errno of the event loop.
 */
int agent_session_new(sd_event *event, int fd, const struct agent_session_ops *ops, void *context,
	struct agent_session **ret);
/* NULL is allowed. */
void agent_session_free(struct agent_session *s);
DEFINE_CLEANUP(struct agent_session *, agent_session_free)

enum session_state agent_session_state(const struct agent_session *s);
/* What it says it is, "" before it said; clean. */
const char *agent_session_program(const struct agent_session *s);
/* The version spoken, 0: none. */
unsigned agent_session_version(const struct agent_session *s);
const struct agent_counters *agent_session_counters(const struct agent_session *s);
/*
 * The last report and the one before it (type 0: there was none), and when they came, by the
 * monotonic clock. What a report does not have its `present` does not have.
 */
const struct agent_message *agent_session_report(const struct agent_session *s, uint64_t *ret_us);
const struct agent_message *agent_session_report_before(
	const struct agent_session *s, uint64_t *ret_us);
/*
 * Asks it to make room; a later request takes the place of this one. Returns its number (not 0), or
 * 0: there is nobody who would hear it.
 */
uint32_t agent_session_shrink(struct agent_session *s, uint64_t bytes, uint64_t within_us);
