/*
 * The history of one guest on disk: a day at one second, and 30 days at one minute.
 *
 * DOC: a ring without a head
 *
 * Behind a header of 64 bytes lie 86400 records for seconds and 43200 for minutes. A record's place
 * follows from its time (time modulo the number of places), and the record holds its time, so there
 * is no position to keep: a crash loses at most what was not written, and a record is valid when its
 * time is that of its place and not older than the ring is long. The file is sparse where nothing
 * was written. 48 bytes a record: 4 MB a day and 2 MB for the month, for each guest, at most.
 *
 * Records are of the host's byte order: the file stays where it was written. Whoever reads it
 * believes nothing: sizes and versions come from the header, and are compared with the constants.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "memd/base/error.h"

#define HISTORY_SECONDS 86400
#define HISTORY_MINUTES 43200

struct history_record {
	uint32_t time_s; /* of the wall clock; of a minute: its beginning; 0: none */
	uint32_t configured_kib;
	uint32_t target_kib;
	uint32_t resident_kib; /* what it costs */
	uint32_t private_kib;
	uint32_t shared_kib;
	uint32_t swapped_kib;
	uint32_t balloon_kib;
	uint32_t working_set_kib; /* UINT32_MAX: not known */
	uint32_t working_set_error_kib;
	uint16_t stall_some_bp; /* over 10 s; of a minute: the largest */
	uint16_t stall_full_bp;
	uint32_t refault_kib; /* within the second; of a minute: all */
};
_Static_assert(sizeof(struct history_record) == 48, "the format on disk");

#define HISTORY_UNKNOWN UINT32_MAX

/*
 * Opens path for writing, made when it is missing and begun anew when it is of another format.
 * Returns the descriptor, or any errno of open, read and write.
 */
int history_file_open(const char *path);
/* Writes a record for its second (or minute). Any errno; -EINVAL: a time of 0. */
int history_file_put_second(int fd, const struct history_record *r);
int history_file_put_minute(int fd, const struct history_record *r);

/*
 * The records of [from_s, to_s], oldest first: seconds, or minutes when step_s is 60 or more, each
 * one as it was written. now_s: what is older than the ring is long is gone. *ret is the caller's to
 * free. -EPROTO with *e: no history of this version; any errno of reading; -ENOMEM.
 */
int history_file_read(int fd, uint64_t from_s, uint64_t to_s, uint32_t step_s, uint64_t now_s,
	struct history_record **ret, size_t *ret_n, struct error *e);

/*
 * Averages of n records (not 0) as one, of the time of the first: sums of refaults, the largest of
 * stalls; a working set where any is known.
 */
struct history_record history_average(const struct history_record *records, size_t n);
