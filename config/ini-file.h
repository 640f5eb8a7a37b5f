/*
 * One INI file as a list of entries, in order, with line numbers. The home of libinih; knows no
 * keys.
 *
 * What is allowed is inih's grammar, read as systemd would: `#` and `;` open a comment only at the
 * begin of a line, so that a kernel command line may have both; a value in double quotes as a whole
 * is taken without them; an indented line goes on with the value before, after one blank. inih
 * holds a line on the stack: one of more than 198 bytes is refused with the advice to go on in an
 * indented line.
 */
#pragma once

#include <stddef.h>

#include "memd/base/error.h"

#define INI_FILE_BYTES_MAX (1024 * 1024)

struct ini_entry {
	char *section; /* "" before the first section */
	char *key;
	char *value;
	unsigned line;
	unsigned continued_line; /* the first line that went on with the value, 0 for none */
};

struct ini_file {
	struct ini_entry *entries;
	size_t n_entries;
};

/* Frees the entries; a cleared file is allowed. */
void ini_file_done(struct ini_file *f);

/* -EINVAL (*e names name and line), -ENOMEM. name is for messages. *ret is untouched on failure. */
int ini_file_parse(
	const char *name, const char *text, size_t size, struct ini_file *ret, struct error *e);
/* The same for the file at path; any errno of reading it, -E2BIG. */
int ini_file_load(const char *path, struct ini_file *ret, struct error *e);
