/*
 * Reads a journal file frame by frame, forwards, over whatever lies between. The file is taken for
 * hostile; it may grow meanwhile.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "memd/base/cleanup.h"
#include "memd/base/error.h"
#include "memd/journal-format.h"

struct journal_reader;

/* Takes fd, also on failure. -EPROTO when it is no journal, or of another version; any errno. */
int journal_reader_new(int fd, const char *name, struct journal_reader **ret, struct error *e);
void journal_reader_free(struct journal_reader *r);
DEFINE_CLEANUP(struct journal_reader *, journal_reader_free)

struct journal_frame {
	uint32_t type;
	size_t payload_bytes;
	const uint8_t *payload; /* the reader's, until the next call */
};
#define JOURNAL_END 1
/* The next whole frame; JOURNAL_END; any errno of reading. */
int journal_reader_next(struct journal_reader *r, struct journal_frame *ret);
/* Bytes that were no frame, so far. */
uint64_t journal_reader_damaged_bytes(const struct journal_reader *r);
