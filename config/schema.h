/*
 * Tables that say what a configuration may hold: for each key its type, where its value goes, its
 * default and its bounds. The defaults are text and take the same way as what a user writes.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "config/ini-file.h"
#include "memd/base/error.h"

enum schema_type {
	SCHEMA_BYTES, /* uint64_t: 512M */
	SCHEMA_SIZE, /* struct config_size: 512M or 25% */
	SCHEMA_PERCENT, /* uint32_t basis points: 70% */
	SCHEMA_TIME, /* uint64_t microseconds: 500ms */
	SCHEMA_U32, /* uint32_t */
	SCHEMA_BOOL, /* bool: yes, no, true, false, on, off, 1, 0 */
	SCHEMA_WORD, /* an enum, the index into words */
	SCHEMA_TEXT, /* char *, owned, one line */
	SCHEMA_PATH, /* char *, owned, absolute */
	SCHEMA_NAME, /* char *, owned, by the rule of guest_name_valid */
	SCHEMA_LINES, /* char *, owned, one value after the other with '\n' between: given again, it
			 adds; the bounds are of one */
};

struct schema_key {
	const char *section;
	const char *key;
	enum schema_type type;
	size_t offset; /* of the value in the struct that is filled */
	const char *initial; /* the default as text; NULL: zero, no string */
	uint64_t min, max; /* both 0: unbounded; of numbers in their unit, of strings in bytes */
	const char *const *words; /* SCHEMA_WORD, ended by NULL */
	unsigned multi_line; /* 1: indented lines may go on with the value */
};

struct schema {
	const struct schema_key *keys;
	size_t n_keys;
	size_t struct_bytes; /* of what is filled */
};

/* Clears *object and sets the defaults. -ENOMEM; *object is cleared then. */
int schema_init(const struct schema *s, void *object);
/* Frees the strings and clears *object. */
void schema_done(const struct schema *s, void *object);

/* NULL when unknown; *e then names the nearest key, or the section where the key belongs. */
const struct schema_key *schema_find(
	const struct schema *s, const char *section, const char *key, struct error *e);

/* Sets (SCHEMA_LINES: adds) one value; "" is the default. -EINVAL, -ERANGE, -ENOMEM; the object is unchanged then. */
int schema_set(const struct schema_key *key, void *object, const char *value, struct error *e);

/*
 * One line of the file at path: finds the key and sets it. The errors of both, with "PATH:LINE:
 * KEY=VALUE: " before what *e says.
 */
int schema_set_entry(const struct schema *s, void *object, const char *path,
	const struct ini_entry *entry, struct error *e);
