/*
 * A stream of any bytes, in pieces of any size: no message is longer than one may be, what is read
 * can be written and read again to the same effect, and the stream always goes on.
 */
#include <stdlib.h>
#include <string.h>

#include "balloon-agent/codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct agent_message *m)
{
	struct agent_stream s = {0};
	struct agent_message again;
	uint8_t frame[AGENT_FRAME_MAX];
	size_t n = agent_encode(m, frame);

	if (n > sizeof(frame) || agent_stream_put(&s, frame, n) != n ||
		!agent_stream_next(&s, &again) || memcmp(m, &again, sizeof(again)) != 0 ||
		s.skipped_bytes)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct agent_stream s = {0};
	struct agent_message m;
	size_t piece = size ? data[0] + 1u : 1;

	for (size_t at = 0; at < size;) {
		size_t put = agent_stream_put(&s, data + at, size - at < piece ? size - at : piece);

		while (agent_stream_next(&s, &m))
			check(&m);
		if (put == 0)
			abort();
		at += put;
	}
	while (agent_stream_waits(&s)) {
		agent_stream_give_up(&s);
		while (agent_stream_next(&s, &m))
			check(&m);
	}
	return 0;
}
