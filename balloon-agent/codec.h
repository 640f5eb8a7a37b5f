/*
 * Messages of the agent protocol as bytes, and bytes as messages (balloon-agent/protocol.h). One
 * implementation for both ends and for the freestanding test guest: no library, no heap, no clock.
 *
 * Must never: read beyond what was put in; deliver a number that was not in the message.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "balloon-agent/protocol.h"

/* Any message. Zero it, or begin with agent_message_init. */
struct agent_message {
	uint32_t type; /* enum agent_type, 16 bits */
	uint32_t number;
	uint64_t present; /* bit N: value[N] was said; AGENT_TEXT: text was */
	uint64_t value[AGENT_FIELDS_MAX];
	char text[AGENT_TEXT_MAX + 8]; /* ended by NUL */
};

void agent_message_init(struct agent_message *m, enum agent_type type, uint32_t number);

static inline bool agent_has(const struct agent_message *m, enum agent_field field)
{
	return m->present >> field & 1;
}

/* The number, or fallback when it was not said. */
static inline uint64_t agent_get(
	const struct agent_message *m, enum agent_field field, uint64_t fallback)
{
	return agent_has(m, field) ? m->value[field] : fallback;
}

void agent_set(struct agent_message *m, enum agent_field field, uint64_t value);
/* Cut to AGENT_TEXT_MAX bytes. */
void agent_set_text(struct agent_message *m, const char *text);

/*
 * Writes the message, and returns its bytes: at most AGENT_FRAME_MAX, which to has room for. All
 * fields together always fit.
 */
size_t agent_encode(const struct agent_message *m, uint8_t to[AGENT_FRAME_MAX]);

/* A stream on its way in. Zero it. */
struct agent_stream {
	uint8_t bytes[AGENT_FRAME_MAX];
	size_t start, end; /* of what has not been looked at */
	uint64_t skipped_bytes; /* that were no message, so far */
	uint64_t bad_messages; /* that began like one, so far */
};

/*
 * Takes of n bytes as many as there is room for, and returns how many. As long as agent_stream_next
 * is called until it has none there is always room for some.
 */
size_t agent_stream_put(struct agent_stream *s, const uint8_t *bytes, size_t n);
/* The next message; false: there is none yet, and *ret is undefined. */
bool agent_stream_next(struct agent_stream *s, struct agent_message *ret);

/*
 * The rest of the message that began does not come: another may begin behind its first byte. Without
 * one, nothing happens. The caller has the clock.
 */
void agent_stream_give_up(struct agent_stream *s);
/* Whether a message has begun, or what looks like one. */
static inline bool agent_stream_waits(const struct agent_stream *s)
{
	return s->start < s->end;
}

/*
 * The version to speak with a peer that knows those from min to max: the newest that both know. 0:
 * there is none.
 */
unsigned agent_version_common(uint64_t min, uint64_t max);
