/* Where the guest's console output goes: a bounded file, or standard output. Any thread. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "memd/base/cleanup.h"
#include "memd/base/error.h"

struct console;

/*
 * Opens (makes, mode 0600) the file for appending, or takes standard output for "-". A file that grows beyond max_bytes is
 * cut to nothing and starts anew; those bytes count as dropped. Any errno of open.
 */
int console_new(const char *path, uint64_t max_bytes, struct console **ret, struct error *e);
void console_free(struct console *c);
DEFINE_CLEANUP(struct console *, console_free)

/* Never waits for a reader: what a full pipe does not take is dropped and counted. */
void console_write(struct console *c, const uint8_t *data, size_t bytes);
uint64_t console_dropped_bytes(struct console *c);
