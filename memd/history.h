/*
 * Writes each guest's figures to its history once a tick: state-dir/history/NAME. Loses nothing but
 * the history when the disk is full or slow: a file that fails is closed, said once, and tried again
 * a minute later.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "memd/base/history-file.h"

struct guest;

/* Of one guest. Zero it; fd is opened when it is first needed. */
struct history {
	int fd; /* valid when open */
	bool open;
	uint64_t again_s; /* not before, after a failure */
	uint32_t n_minute; /* records of the minute under way */
	struct history_record minute[60];
};

/* The figures of the guest as they are now; now_s of the wall clock. */
void history_note(struct history *h, const char *state_dir, const struct guest *g, uint64_t now_s);
void history_done(struct history *h);
/* Opens the history of a guest, there or gone, for reading. -EINVAL: no name of a guest. */
int history_open_read(const char *state_dir, const char *name);
