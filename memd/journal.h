/*
 * The decision journal: what memd saw, decided and did, tick by tick, in STATE/journal and, when that
 * is half of what is allowed, STATE/journal.old. Writing is done in a worker, since a disk may be
 * slow; when it is slower than ticks come, ticks are left out and counted.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "memd/base/cleanup.h"
#include "memd/base/error.h"
#include "memd/journal-record.h"
#include "memd/worker.h"

struct journal;

/*
 * directory/journal is continued where it is one, and made where there is none; both files together
 * take at most max_bytes. Negative errno with *e: there is no journal then.
 */
int journal_open(sd_event *event, const char *directory, uint64_t max_bytes, struct journal **ret,
	struct error *e);
/* Waits for what is being written; what was not begun is lost. NULL is allowed. */
void journal_close(struct journal *j);
DEFINE_CLEANUP(struct journal *, journal_close)

/* Of all that follow: NULL is allowed, and does nothing. */

/* Writes a copy of the frame, later. */
void journal_write_tick(struct journal *j, const uint8_t *frame, size_t bytes);
/* The policy that decides from now on. Written now, and again now and then. */
void journal_write_policy(struct journal *j, const struct journal_policy_record *policy);
/* The most that both files may take, from the next tick on. */
void journal_set_max(struct journal *j, uint64_t max_bytes);

/* The path of the file; "" without. */
const char *journal_path(const struct journal *j);
/* Ticks that were left out because the disk was slow or full. */
uint64_t journal_dropped(const struct journal *j);
/*
 * Opens both files for reading, the older first, -1 for one that is not there. Negative errno.
 */
int journal_open_files(const struct journal *j, int ret_fds[2]);
