/* See codec.h. Freestanding: of the C library only memcpy, memmove and memset. */
#include "balloon-agent/codec.h"

#include "memd/base/crc32.h"

#define CHECKED_FROM 8 /* the header from here on, and the payload */
#define NUMBER_BYTES 8
#define FIELD_BYTES  2 /* before the value */

_Static_assert(
	(AGENT_FIELDS_MAX - 1) * (FIELD_BYTES + NUMBER_BYTES) + FIELD_BYTES + AGENT_TEXT_MAX <=
		AGENT_PAYLOAD_MAX,
	"a message with every field fits");

static void put_number(uint8_t *at, uint64_t value, unsigned bytes)
{
	for (unsigned i = 0; i < bytes; i++)
		at[i] = (uint8_t)(value >> (8 * i));
}

static uint64_t get_number(const uint8_t *at, unsigned bytes)
{
	uint64_t value = 0;

	for (unsigned i = 0; i < bytes; i++)
		value |= (uint64_t)at[i] << (8 * i);
	return value;
}

void agent_message_init(struct agent_message *m, enum agent_type type, uint32_t number)
{
	*m = (struct agent_message){.type = (uint16_t)type, .number = number};
}

void agent_set(struct agent_message *m, enum agent_field field, uint64_t value)
{
	m->present |= UINT64_C(1) << field;
	m->value[field] = value;
}

void agent_set_text(struct agent_message *m, const char *text)
{
	size_t n = 0;

	for (; n < AGENT_TEXT_MAX && text[n]; n++)
		m->text[n] = text[n];
	m->text[n] = '\0';
	m->present |= UINT64_C(1) << AGENT_TEXT;
}

static uint8_t *put_text(uint8_t *at, const char *text)
{
	size_t n = 0;

	for (; n < AGENT_TEXT_MAX && text[n]; n++)
		at[FIELD_BYTES + n] = (uint8_t)text[n];
	at[0] = AGENT_TEXT;
	at[1] = (uint8_t)n;
	return at + FIELD_BYTES + n;
}

size_t agent_encode(const struct agent_message *m, uint8_t to[AGENT_FRAME_MAX])
{
	uint8_t *at = to + AGENT_HEADER_BYTES;
	size_t payload_bytes;

	for (unsigned tag = 0; tag < AGENT_FIELDS_MAX; tag++) {
		if (!(m->present >> tag & 1))
			continue;
		if (tag == AGENT_TEXT) {
			at = put_text(at, m->text);
			continue;
		}
		at[0] = (uint8_t)tag;
		at[1] = NUMBER_BYTES;
		put_number(at + FIELD_BYTES, m->value[tag], NUMBER_BYTES);
		at += FIELD_BYTES + NUMBER_BYTES;
	}
	payload_bytes = (size_t)(at - to) - AGENT_HEADER_BYTES;
	put_number(to, AGENT_MAGIC, 4);
	put_number(to + 8, m->type, 2);
	put_number(to + 10, payload_bytes, 2);
	put_number(to + 12, m->number, 4);
	put_number(to + 4,
		crc32_of(to + CHECKED_FROM, AGENT_HEADER_BYTES - CHECKED_FROM + payload_bytes), 4);
	return (size_t)(at - to);
}

static bool get_text(const uint8_t *at, size_t n, struct agent_message *m)
{
	if (n > AGENT_TEXT_MAX)
		return false;
	for (size_t i = 0; i < n; i++) {
		if (!at[i])
			return false;
		m->text[i] = (char)at[i];
	}
	m->text[n] = '\0';
	return true;
}

/* Fields that fill the payload exactly, each at most once. */
static bool get_fields(const uint8_t *at, size_t n, struct agent_message *m)
{
	while (n > 0) {
		unsigned tag = at[0];
		size_t bytes = n < FIELD_BYTES ? 0 : at[1];

		if (n < FIELD_BYTES || bytes > n - FIELD_BYTES)
			return false;
		if (tag < AGENT_FIELDS_MAX) {
			if (m->present >> tag & 1)
				return false;
			m->present |= UINT64_C(1) << tag;
			if (tag == AGENT_TEXT && !get_text(at + FIELD_BYTES, bytes, m))
				return false;
			if (tag != AGENT_TEXT && bytes != NUMBER_BYTES)
				return false;
			if (tag != AGENT_TEXT)
				m->value[tag] = get_number(at + FIELD_BYTES, NUMBER_BYTES);
		}
		at += FIELD_BYTES + bytes;
		n -= FIELD_BYTES + bytes;
	}
	return true;
}

size_t agent_stream_put(struct agent_stream *s, const uint8_t *bytes, size_t n)
{
	size_t room;

	if (s->start > 0) {
		__builtin_memmove(s->bytes, s->bytes + s->start, s->end - s->start);
		s->end -= s->start;
		s->start = 0;
	}
	room = sizeof(s->bytes) - s->end;
	if (n > room)
		n = room;
	__builtin_memcpy(s->bytes + s->end, bytes, n);
	s->end += n;
	return n;
}

enum look {
	LOOK_INCOMPLETE,
	LOOK_NOTHING, /* no message begins here */
	LOOK_BAD, /* what begins like one is none */
	LOOK_MESSAGE,
};

/* A message at at, of which n bytes are there. */
static enum look look_at(const uint8_t *at, size_t n, struct agent_message *m, size_t *ret_bytes)
{
	size_t payload_bytes;

	for (unsigned i = 0; i < 4 && i < n; i++)
		if (at[i] != (uint8_t)(AGENT_MAGIC >> (8 * i)))
			return LOOK_NOTHING;
	if (n < AGENT_HEADER_BYTES)
		return LOOK_INCOMPLETE;
	payload_bytes = get_number(at + 10, 2);
	if (payload_bytes > AGENT_PAYLOAD_MAX)
		return LOOK_BAD;
	*ret_bytes = AGENT_HEADER_BYTES + payload_bytes;
	if (n < *ret_bytes)
		return LOOK_INCOMPLETE;
	if (crc32_of(at + CHECKED_FROM, *ret_bytes - CHECKED_FROM) != get_number(at + 4, 4))
		return LOOK_BAD;
	agent_message_init(
		m, (enum agent_type)get_number(at + 8, 2), (uint32_t)get_number(at + 12, 4));
	return get_fields(at + AGENT_HEADER_BYTES, payload_bytes, m) ? LOOK_MESSAGE : LOOK_BAD;
}

bool agent_stream_next(struct agent_stream *s, struct agent_message *ret)
{
	size_t bytes = 0;

	while (s->start < s->end) {
		switch (look_at(s->bytes + s->start, s->end - s->start, ret, &bytes)) {
		case LOOK_INCOMPLETE:
			return false;
		case LOOK_MESSAGE:
			s->start += bytes;
			return true;
		case LOOK_BAD:
			s->bad_messages++;
			break;
		case LOOK_NOTHING:
			break;
		}
		/* One byte on: within a message that is none another may begin. */
		s->start++;
		s->skipped_bytes++;
	}
	return false;
}

void agent_stream_give_up(struct agent_stream *s)
{
	if (!agent_stream_waits(s))
		return;
	s->bad_messages++;
	s->start++;
	s->skipped_bytes++;
}

unsigned agent_version_common(uint64_t min, uint64_t max)
{
	uint64_t newest = max < AGENT_VERSION_NEWEST ? max : AGENT_VERSION_NEWEST;

	return newest >= min && newest >= AGENT_VERSION_OLDEST ? (unsigned)newest : 0;
}
