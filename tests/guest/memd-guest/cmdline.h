/* The guest's command line: key=value, separated by spaces. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* Keeps a copy of text (at most 1 KiB; the rest is ignored). NULL is an empty line. */
void cmdline_init(const char *text);
/* The value of key as a decimal number, fallback when it is absent or no number. */
uint64_t cmdline_number(const char *key, uint64_t fallback);
/* Whether key has exactly that value. */
bool cmdline_is(const char *key, const char *value);
