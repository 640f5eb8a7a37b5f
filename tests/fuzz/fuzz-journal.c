/*
 * The decision journal as a file that anybody may hand to memctl replay: the reader over the whole
 * input, and the payloads also by themselves, since no fuzzer guesses a checksum.
 */
#include <assert.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include "memd/base/fd.h"
#include "memd/journal-read.h"
#include "memd/journal-record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Reads all that was decoded, so that a text without an end is noticed. */
static void use_tick(const uint8_t *payload, size_t n)
{
	struct journal_record r;
	uint8_t *frame;
	size_t bytes;

	if (journal_decode_tick(payload, n, &r) < 0)
		return;
	for (uint32_t i = 0; i < r.tick.n_guests; i++)
		assert(journal_record_find(&r, r.guests[i].view.name));
	if (journal_encode_tick(&r, &frame, &bytes) == 0)
		free(frame);
	journal_record_done(&r);
}

static void use_policy(const uint8_t *payload, size_t n)
{
	struct journal_policy_record r;
	uint8_t *frame;
	size_t bytes;

	if (journal_decode_policy(payload, n, &r) < 0)
		return;
	if (journal_encode_policy(&r, &frame, &bytes) == 0)
		free(frame);
	journal_policy_record_done(&r);
}

static void use_file(const uint8_t *data, size_t size)
{
	int fd = memfd_create("journal", MFD_CLOEXEC);
	struct journal_reader *reader;
	struct journal_frame frame;
	struct error e = {0};
	size_t n = 0;

	assert(fd >= 0 && fd_write_full(fd, data, size) == 0);
	if (journal_reader_new(fd, "input", &reader, &e) < 0)
		return;
	while (journal_reader_next(reader, &frame) == 0) {
		use_tick(frame.payload, frame.payload_bytes);
		use_policy(frame.payload, frame.payload_bytes);
		assert(++n <= size);
	}
	journal_reader_free(reader);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *copy;

	use_file(data, size);
	copy = malloc(size + 1); /* ends where the input does, for the sanitizer */
	assert(copy);
	memcpy(copy, data, size);
	use_tick(copy, size);
	use_policy(copy, size);
	free(copy);
	return 0;
}
