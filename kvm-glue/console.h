/*
 * Where the guest's console output goes, and where its input comes from. Any thread.
 *
 *   -            standard output; no input
 *   PATH         a file, made anew when it would grow beyond a limit; no input
 *   pty:PATH     a pseudo terminal; PATH becomes a symbolic link to it
 *   unix:PATH    a Unix stream socket: one client at a time, a newer one replaces the older
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "memd/base/cleanup.h"
#include "memd/base/error.h"

/* The guest has two: what it printed on last is where input goes. */
enum console_port {
	CONSOLE_SERIAL,
	CONSOLE_VIRTIO,
	CONSOLE_PORTS,
};

struct console;

/*
 * Opens (makes, mode 0600) what spec names. A file that grows beyond max_bytes is cut to nothing
 * and starts anew; those bytes count as dropped. Any errno of open, of sockets, of terminals.
 */
int console_new(const char *spec, uint64_t max_bytes, struct console **ret, struct error *e);
/* Ends the thread of console_run. NULL is allowed. */
void console_free(struct console *c);
DEFINE_CLEANUP(struct console *, console_free)

/*
 * Who is told that there may be input for its port: by the console's thread, no lock held. Before
 * console_run.
 */
void console_listen(
	struct console *c, enum console_port port, void (*ready)(void *context), void *context);
/* Starts the thread that takes input, when there can be any. Errno of pthread_create. */
int console_run(struct console *c);
/* Ends it: nobody is told any more. */
void console_halt(struct console *c);

/* Never waits for a reader: what a full pipe, terminal or socket does not take is dropped and counted. */
void console_write(struct console *c, enum console_port port, const uint8_t *data, size_t bytes);
uint64_t console_dropped_bytes(struct console *c);

/* Whether there is input for the port, and takes up to max bytes of it. */
bool console_has_input(struct console *c, enum console_port port);
size_t console_read(struct console *c, enum console_port port, uint8_t *ret, size_t max);
