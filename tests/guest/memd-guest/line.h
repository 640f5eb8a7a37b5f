/* Lines for the serial port: composed in memory, sent whole. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct line {
	size_t size;
	char text[512]; /* what does not fit is left out; line_end always fits */
};

void line_text(struct line *l, const char *text);
/* " name=123"; " name=0x7b" */
void line_value(struct line *l, const char *name, uint64_t value);
void line_hex(struct line *l, const char *name, uint64_t value);
void line_end(struct line *l);
/* Ring 3: ends the line and prints it; lines of several CPUs do not mix. */
void line_print(struct line *l);
/* Ring 3: says why in one line and powers the machine off. */
void line_print_and_stop(const char *why) __attribute__((noreturn));
