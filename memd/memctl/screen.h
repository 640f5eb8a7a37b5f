/*
 * The terminal while a live screen is on it: alternate screen, no cursor, keys read one by one without
 * echo. Whoever enters must leave; leaving twice, or without having entered, is harmless.
 */
#pragma once

#include <stdbool.h>
#include <termios.h>

struct screen {
	bool entered;
	bool has_keys; /* stdin is this terminal too */
	struct termios before; /* of stdin, when has_keys */
};

void screen_enter(struct screen *s);
void screen_leave(struct screen *s);

/* Size of the terminal on stdout; 80 x 24 when it does not say. */
void screen_size(unsigned *ret_columns, unsigned *ret_rows);

/* Shows a frame (lines, "\n" between them) from the top left corner in one write, so that nothing flickers. */
void screen_show(const char *frame);
