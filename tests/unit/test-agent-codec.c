/* The agent protocol's bytes: what one side says the other reads, and nothing else is read. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "balloon-agent/codec.h"
#include "memd/base/cleanup.h"
#include "memd/base/crc32.h"

static size_t encode_report(uint8_t *frame, uint64_t available)
{
	struct agent_message m;

	agent_message_init(&m, AGENT_REPORT, 0);
	agent_set(&m, AGENT_TOTAL, UINT64_MAX);
	agent_set(&m, AGENT_AVAILABLE, available);
	return agent_encode(&m, frame);
}

static void put_all(struct agent_stream *s, const uint8_t *bytes, size_t n)
{
	assert_int_equal(agent_stream_put(s, bytes, n), n);
}

/* With a right checksum, whatever else is wrong. */
static void seal(uint8_t *frame, size_t n)
{
	uint32_t crc = crc32_of(frame + 8, n - 8);

	memcpy(frame + 4, &crc, sizeof(crc));
}

static void reads_what_was_written(void **state)
{
	struct agent_stream s = {0};
	struct agent_message m, got;
	uint8_t frame[AGENT_FRAME_MAX];

	agent_message_init(&m, AGENT_ANSWER, 0xfedcba98);
	agent_set(&m, AGENT_VERDICT, AGENT_REFUSED);
	agent_set(&m, AGENT_BYTES, UINT64_C(0x0123456789abcdef));
	agent_set_text(&m, "tasks wait for memory 12 % of the time");
	put_all(&s, frame, agent_encode(&m, frame));
	assert_true(agent_stream_next(&s, &got));
	assert_memory_equal(&m, &got, sizeof(m));
	assert_false(agent_stream_next(&s, &got));
	assert_int_equal(s.skipped_bytes, 0);
}

static void bytes_on_the_wire_are_those_of_the_documentation(void **state)
{
	static const uint8_t hello[] = {0x6d, 0x0b, 0x7a, 0xe6, 0x13, 0xf9, 0x5c, 0x22, 0x01, 0x00,
		0x17, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0x01, 0x78, 0x02, 0x08, 0x01, 0, 0, 0, 0,
		0, 0, 0, 0x03, 0x08, 0x01, 0, 0, 0, 0, 0, 0, 0};
	uint8_t frame[AGENT_FRAME_MAX];
	struct agent_message m;

	agent_message_init(&m, AGENT_HELLO, 0);
	agent_set(&m, AGENT_VERSION_MIN, 1);
	agent_set(&m, AGENT_VERSION_MAX, 1);
	agent_set_text(&m, "x");
	assert_int_equal(agent_encode(&m, frame), sizeof(hello));
	assert_memory_equal(frame, hello, sizeof(hello));
}

static void every_field_at_once_fits(void **state)
{
	struct agent_stream s = {0};
	struct agent_message m, got;
	uint8_t frame[AGENT_FRAME_MAX];
	char text[AGENT_TEXT_MAX + 10];

	memset(text, 'x', sizeof(text));
	text[sizeof(text) - 1] = '\0';
	agent_message_init(&m, AGENT_REPORT, 0);
	for (unsigned tag = 0; tag < AGENT_FIELDS_MAX; tag++)
		if (tag != AGENT_TEXT)
			agent_set(&m, (enum agent_field)tag, tag);
	agent_set_text(&m, text);
	put_all(&s, frame, agent_encode(&m, frame));
	assert_true(agent_stream_next(&s, &got));
	assert_int_equal(got.present, UINT64_MAX);
	assert_int_equal(got.value[63], 63);
	assert_int_equal(strlen(got.text), AGENT_TEXT_MAX);
}

static void reads_byte_by_byte(void **state)
{
	struct agent_stream s = {0};
	struct agent_message got;
	uint8_t frame[AGENT_FRAME_MAX];
	size_t n = encode_report(frame, 5);

	for (unsigned turn = 0; turn < 100; turn++)
		for (size_t i = 0; i < n; i++) {
			put_all(&s, &frame[i], 1);
			assert_int_equal(agent_stream_next(&s, &got), i + 1 == n);
		}
	assert_int_equal(got.value[AGENT_AVAILABLE], 5);
	assert_int_equal(s.skipped_bytes, 0);
}

static void finds_the_next_message_behind_garbage(void **state)
{
	struct agent_stream s = {0};
	struct agent_message got;
	uint8_t bytes[64 + AGENT_FRAME_MAX], *frame = bytes + 64;
	size_t n = encode_report(frame, 7);

	for (unsigned i = 0; i < 64; i++)
		bytes[i] = (uint8_t)(i * 37);
	memcpy(bytes + 60, frame, 4); /* a mark whose message is none */
	put_all(&s, bytes, 64 + n);
	assert_true(agent_stream_next(&s, &got));
	assert_int_equal(got.value[AGENT_AVAILABLE], 7);
	assert_int_equal(s.skipped_bytes, 64);
	assert_int_equal(s.bad_messages, 1);
}

static void a_flipped_bit_anywhere_is_no_message(void **state)
{
	struct agent_message got;
	uint8_t frame[AGENT_FRAME_MAX];
	size_t n = encode_report(frame, 1);

	for (size_t bit = 0; bit < n * 8; bit++) {
		struct agent_stream s = {0};

		frame[bit / 8] ^= (uint8_t)(1 << bit % 8);
		put_all(&s, frame, n);
		assert_false(agent_stream_next(&s, &got));
		frame[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
}

static void a_message_whose_end_never_comes_is_given_up(void **state)
{
	struct agent_stream s = {0};
	struct agent_message got;
	uint8_t frame[AGENT_FRAME_MAX];
	size_t n = encode_report(frame, 3);

	put_all(&s, frame, n - 1);
	put_all(&s, frame, n); /* of one that begins anew */
	assert_true(agent_stream_waits(&s));
	while (!agent_stream_next(&s, &got))
		agent_stream_give_up(&s);
	assert_int_equal(got.value[AGENT_AVAILABLE], 3);
	assert_false(agent_stream_next(&s, &got));
	assert_false(agent_stream_waits(&s));
	agent_stream_give_up(&s); /* nothing there: nothing happens */
	assert_false(agent_stream_next(&s, &got));
}

/* One field of the given head and size of its value, in a message that is right otherwise. */
static bool field_is_read(uint8_t tag, uint8_t size, size_t there, struct agent_message *ret)
{
	struct agent_stream s = {0};
	uint8_t frame[AGENT_FRAME_MAX] = {0x6d, 0x0b, 0x7a, 0xe6};
	size_t n = AGENT_HEADER_BYTES + 2 + there;

	frame[8] = AGENT_REPORT;
	frame[10] = (uint8_t)(2 + there);
	frame[16] = tag;
	frame[17] = size;
	memset(frame + 18, 'a', there);
	seal(frame, n);
	put_all(&s, frame, n);
	return agent_stream_next(&s, ret);
}

static void a_field_has_the_size_it_has(void **state)
{
	struct agent_message m;

	assert_true(field_is_read(AGENT_TOTAL, 8, 8, &m));
	assert_false(field_is_read(AGENT_TOTAL, 7, 7, &m));
	assert_false(field_is_read(AGENT_TOTAL, 9, 9, &m));
	assert_false(field_is_read(AGENT_TOTAL, 8, 7, &m));
	assert_false(field_is_read(AGENT_TOTAL, 8, 9, &m)); /* a tag without a size is left */
	assert_true(field_is_read(AGENT_TEXT, AGENT_TEXT_MAX, AGENT_TEXT_MAX, &m));
	assert_int_equal(strlen(m.text), AGENT_TEXT_MAX);
	assert_false(field_is_read(AGENT_TEXT, AGENT_TEXT_MAX + 1, AGENT_TEXT_MAX + 1, &m));
	assert_true(field_is_read(AGENT_TEXT, 0, 0, &m));
}

static void a_field_of_a_later_version_is_passed_over(void **state)
{
	struct agent_message m;

	assert_true(field_is_read(AGENT_FIELDS_MAX, 3, 3, &m));
	assert_int_equal(m.present, 0);
	assert_true(field_is_read(255, 0, 0, &m));
	assert_true(field_is_read(AGENT_FIELDS_MAX - 1, 8, 8, &m));
	assert_true(agent_has(&m, (enum agent_field)(AGENT_FIELDS_MAX - 1)));
}

static void a_field_said_twice_is_no_message(void **state)
{
	struct agent_stream s = {0};
	struct agent_message m;
	uint8_t frame[AGENT_FRAME_MAX];
	size_t n = encode_report(frame, 1);

	frame[AGENT_HEADER_BYTES + 10] = AGENT_TOTAL; /* where AVAILABLE was */
	seal(frame, n);
	put_all(&s, frame, n);
	assert_false(agent_stream_next(&s, &m));
	assert_int_equal(s.bad_messages, 1);
}

static void a_payload_beyond_the_most_is_no_message(void **state)
{
	struct agent_message m;

	for (size_t payload = AGENT_PAYLOAD_MAX - 1; payload <= AGENT_PAYLOAD_MAX + 1; payload++) {
		struct agent_stream s = {0};
		uint8_t frame[AGENT_FRAME_MAX + 1] = {0x6d, 0x0b, 0x7a, 0xe6, [8] = AGENT_REPORT};
		uint8_t *at = frame + AGENT_HEADER_BYTES;
		size_t left = payload;

		frame[10] = (uint8_t)payload;
		frame[11] = (uint8_t)(payload >> 8);
		while (left > 0) { /* fields that nobody knows */
			size_t n = left > 257 + 2 ? 257 : left > 257 ? 100 : left;

			at[0] = 200;
			at[1] = (uint8_t)(n - 2);
			at += n;
			left -= n;
		}
		seal(frame, AGENT_HEADER_BYTES + payload);
		(void)agent_stream_put(&s, frame, AGENT_HEADER_BYTES + payload);
		assert_int_equal(agent_stream_next(&s, &m), payload <= AGENT_PAYLOAD_MAX);
	}
}

static void text_with_a_nul_is_no_message(void **state)
{
	struct agent_stream s = {0};
	struct agent_message m;
	uint8_t frame[AGENT_FRAME_MAX];
	size_t n;

	agent_message_init(&m, AGENT_ASK, 0);
	agent_set_text(&m, "ab");
	n = agent_encode(&m, frame);
	frame[n - 2] = 0;
	seal(frame, n);
	put_all(&s, frame, n);
	assert_false(agent_stream_next(&s, &m));
}

static void the_newest_common_version_is_spoken(void **state)
{
	assert_int_equal(agent_version_common(1, 1), 1);
	assert_int_equal(agent_version_common(1, 9), AGENT_VERSION_NEWEST);
	assert_int_equal(agent_version_common(0, UINT64_MAX), AGENT_VERSION_NEWEST);
	assert_int_equal(
		agent_version_common(AGENT_VERSION_NEWEST + 1, AGENT_VERSION_NEWEST + 3), 0);
	assert_int_equal(agent_version_common(0, 0), 0);
	assert_int_equal(agent_version_common(3, 1), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_what_was_written),
		cmocka_unit_test(bytes_on_the_wire_are_those_of_the_documentation),
		cmocka_unit_test(every_field_at_once_fits),
		cmocka_unit_test(reads_byte_by_byte),
		cmocka_unit_test(finds_the_next_message_behind_garbage),
		cmocka_unit_test(a_flipped_bit_anywhere_is_no_message),
		cmocka_unit_test(a_message_whose_end_never_comes_is_given_up),
		cmocka_unit_test(a_field_has_the_size_it_has),
		cmocka_unit_test(a_field_of_a_later_version_is_passed_over),
		cmocka_unit_test(a_field_said_twice_is_no_message),
		cmocka_unit_test(a_payload_beyond_the_most_is_no_message),
		cmocka_unit_test(text_with_a_nul_is_no_message),
		cmocka_unit_test(the_newest_common_version_is_spoken),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
